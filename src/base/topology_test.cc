// Placing workers on machines made up in a folder, and a pool's use of what is found.
#include "base/topology.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>

#include "base/thread_pool.h"

namespace qw::base {
namespace {

namespace fs = std::filesystem;

// A tree as Linux has it below /sys.
class Machine {
 public:
  Machine() {
    std::string pattern = (fs::temp_directory_path() / "topology_XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~Machine() { fs::remove_all(root_); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  void add(int id, const std::string& siblings, const std::string& shares_cache, int node) {
    const fs::path cpu = root_ / "devices/system/cpu" / ("cpu" + std::to_string(id));
    write(cpu / "topology/thread_siblings_list", siblings);
    const struct {
      const char *level, *type;
      std::string shared;
    } caches[] = {{"1", "Data", siblings},
                  {"1", "Instruction", siblings},
                  {"2", "Unified", siblings},
                  {"3", "Unified", shares_cache}};
    for (int i = 0; i < 4; ++i) {
      const fs::path cache = cpu / "cache" / ("index" + std::to_string(i));
      write(cache / "level", caches[i].level);
      write(cache / "type", caches[i].type);
      write(cache / "shared_cpu_list", caches[i].shared);
    }
    fs::create_directories(cpu / ("node" + std::to_string(node)));
  }
  const fs::path& root() const { return root_; }

 private:
  static void write(const fs::path& path, const std::string& line) {
    fs::create_directories(path.parent_path());
    std::ofstream(path) << line << '\n';
  }
  fs::path root_;
};

// Two nodes of two caches of two cores of two threads: 0..7 are the first threads of the cores, 8..15 the second.
void add_two_sockets(Machine& m) {
  for (int id = 0; id < 16; ++id) {
    const int core = id % 8, cache = core / 2 * 2;
    const std::string shared = std::to_string(cache) + "-" + std::to_string(cache + 1) + "," +
                               std::to_string(cache + 8) + "-" + std::to_string(cache + 9);
    m.add(id, std::to_string(core) + "," + std::to_string(core + 8), shared, core / 4);
  }
}

std::vector<int> up_to(int n) {
  std::vector<int> all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

std::vector<int> ids(const std::vector<Processor>& places) {
  std::vector<int> all;
  for (const Processor& p : places) all.push_back(p.id);
  return all;
}

TEST(Topology, IsReadFromTheSystem) {
  Machine m;
  add_two_sockets(m);
  const std::vector<int> allowed = {0, 1, 2, 5, 8};
  const std::vector<Processor> got = read_topology(allowed, m.root());
  ASSERT_EQ(ids(got), allowed);
  EXPECT_EQ(got[0].core, got[4].core);
  EXPECT_NE(got[0].core, got[1].core);
  EXPECT_EQ(got[0].cache, got[1].cache);
  EXPECT_NE(got[0].cache, got[2].cache);
  EXPECT_EQ(got[2].node, 0);
  EXPECT_EQ(got[3].node, 1);
}

TEST(Topology, ACacheOfOneCoreIsNoGroup) {
  Machine m;
  for (int id = 0; id < 4; ++id) m.add(id, id < 2 ? "0-1" : "2-3", id < 2 ? "0-1" : "2-3", 0);
  for (const Processor& p : read_topology(std::vector<int>{0, 1, 2, 3}, m.root())) EXPECT_EQ(p.cache, 0);
}

TEST(Topology, WhatIsNotToldIsOneCacheAndACoreEach) {
  const std::vector<int> allowed = {3, 4, 9};
  const std::vector<Processor> got = read_topology(allowed, "/nonexistent");
  ASSERT_EQ(ids(got), allowed);
  EXPECT_NE(got[0].core, got[1].core);
  for (const Processor& p : got) EXPECT_EQ(p.cache + p.node, 0);
  EXPECT_EQ(ids(place_workers(got, 2)), (std::vector<int>{3, 4}));
}

TEST(Topology, CoresBeforeTheirSecondThreadsAndOneNodeAfterTheOther) {
  Machine m;
  add_two_sockets(m);
  const std::vector<Processor> all = read_topology(up_to(16), m.root());
  EXPECT_EQ(ids(place_workers(all, 3)), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(ids(place_workers(all, 10)), (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(ids(place_workers(all, 18)).back(), 1);  // begins again
  // Processors may be numbered the other way: threads of a core side by side.
  Machine n;
  for (int id = 0; id < 4; ++id) n.add(id, id < 2 ? "0-1" : "2-3", "0-3", 0);
  EXPECT_EQ(ids(place_workers(read_topology(std::vector<int>{0, 1, 2, 3}, n.root()), 4)),
            (std::vector<int>{0, 2, 1, 3}));
}

TEST(ThreadPool, IsKeptApartOnlyWhereItFillsAMachineOfSeveralGroups) {
  Machine sockets, one;
  add_two_sockets(sockets);
  for (int id = 0; id < 4; ++id) one.add(id, std::to_string(id), "0-3", 0);
  const std::vector<Processor> large = read_topology(up_to(16), sockets.root());
  const std::vector<Processor> small = read_topology(up_to(4), one.root());
  EXPECT_EQ(placement(large, 7, std::nullopt).pinning, Pinning::kOff) << "a core is left to others";
  EXPECT_EQ(placement(large, 8, std::nullopt).pinning, Pinning::kCaches);
  EXPECT_EQ(placement(small, 4, std::nullopt).pinning, Pinning::kOff) << "there is one group";
  EXPECT_EQ(placement(large, 2, Pinning::kProcessors).pinning, Pinning::kProcessors) << "asked for";
  EXPECT_EQ(placement(large, 8, Pinning::kOff).pinning, Pinning::kOff);
  EXPECT_EQ(placement(large, 8, std::nullopt).places.back().node, 1);
  for (const Processor& p : placement(large, 8, Pinning::kOff).places)
    EXPECT_EQ(p.node, 0) << "who wanders has no share";
}

TEST(ThreadPool, WorkersArePinnedAsAsked) {
  const std::vector<int> allowed = allowed_processors();
  const std::vector<Processor> machine = read_topology(allowed);
  // As if every processor had a cache of its own: the narrowest group.
  std::vector<Processor> apart = machine;
  for (std::size_t i = 0; i < apart.size(); ++i) apart[i].cache = static_cast<int>(i);
  const Processor last = apart.back();
  const struct {
    Pinning pinning;
    std::vector<Processor> machine;
    std::vector<int> want;
  } cases[] = {{Pinning::kOff, apart, allowed},
               {Pinning::kProcessors, machine, {last.id}},
               {Pinning::kCaches, apart, {last.id}}};
  for (const auto& c : cases) {
    ThreadPool pool(Placement{{last, last}, c.machine, c.pinning});
    std::vector<std::vector<int>> masks(2);
    pool.run([&](int worker) { masks[static_cast<std::size_t>(worker)] = allowed_processors(); });
    EXPECT_EQ(masks[0], allowed) << "the caller's thread is its own";
    EXPECT_EQ(masks[1], c.want) << static_cast<int>(c.pinning);
  }
}

TEST(ThreadPool, PinningIsChosenByName) {
  ::setenv("QW_PIN", "off", 1);
  EXPECT_EQ(*chosen_pinning(), Pinning::kOff);
  ::setenv("QW_PIN", "processors", 1);
  EXPECT_EQ(*chosen_pinning(), Pinning::kProcessors);
  ::setenv("QW_PIN", "tightly", 1);
  EXPECT_EQ(chosen_pinning().error().kind, ErrorKind::kUsage);
  ::setenv("QW_PIN", "caches", 1);
  EXPECT_EQ(*chosen_pinning(), Pinning::kCaches);
  ::unsetenv("QW_PIN");
  EXPECT_EQ(*chosen_pinning(), std::nullopt);
}

// Four workers on two nodes: while all are busy, each node has its half of the range.
TEST(ThreadPool, NodesBeginWithTheirOwnShare) {
  std::vector<Processor> places(4, Processor{});
  places[2].node = places[3].node = 1;
  ThreadPool pool(Placement{places, places, Pinning::kOff});
  std::map<std::thread::id, int> worker_of;
  std::mutex mutex;
  pool.run([&](int worker) {
    std::lock_guard lock(mutex);
    worker_of[std::this_thread::get_id()] = worker;
  });
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> arrived{0};
    std::vector<int> worker(4, -1);
    pool.parallel_for(8, 2, [&](std::int64_t begin, std::int64_t end) {
      ASSERT_EQ(end, begin + 2);
      worker[static_cast<std::size_t>(begin / 2)] = worker_of.at(std::this_thread::get_id());
      ++arrived;
      while (arrived.load() < 4) std::this_thread::yield();  // so that every worker takes one piece
    });
    for (int piece = 0; piece < 4; ++piece) ASSERT_EQ(worker[static_cast<std::size_t>(piece)] / 2, piece / 2);
  }
}

TEST(ThreadPool, SharesOfNodesCoverEveryIndexOnce) {
  for (const int nodes : {2, 3, 7}) {
    std::vector<Processor> places(7, Processor{});
    for (int i = 0; i < 7; ++i) places[static_cast<std::size_t>(i)].node = i * nodes / 7;
    ThreadPool pool(Placement{places, places, Pinning::kOff});
    for (const std::int64_t n : {1, 5, 64, 1000}) {
      for (const std::int64_t grain : {1, 3, 64}) {
        std::vector<std::atomic<int>> hits(static_cast<std::size_t>(n));
        pool.parallel_for(n, grain, [&](std::int64_t b, std::int64_t e) {
          ASSERT_EQ(b % grain, 0);
          for (; b < e; ++b) ++hits[static_cast<std::size_t>(b)];
        });
        for (auto& h : hits) ASSERT_EQ(h.load(), 1) << n << " by " << grain << " on " << nodes;
      }
    }
  }
}

}  // namespace
}  // namespace qw::base
