#include "base/topology.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <tuple>

namespace qw::base {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::optional<int> number(const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The last cache that several cores may share, by the list of its processors: the text names it as well as a number
// would.
std::string last_cache(const fs::path& processor) {
  int deepest = 0;
  std::string shared;
  for (int index = 0;; ++index) {
    const fs::path cache = processor / "cache" / ("index" + std::to_string(index));
    const std::optional<int> level = number(first_line(cache / "level"));
    if (!level) return shared;
    if (*level > deepest && first_line(cache / "type") != "Instruction") {
      deepest = *level;
      shared = first_line(cache / "shared_cpu_list");
    }
  }
}

// The node is told by the name of a link: cpu3/node1.
int node_of(const fs::path& processor) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(processor, error)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("node", 0) != 0) continue;
    if (const std::optional<int> n = number(name.substr(4))) return *n;
  }
  return 0;
}

// Numbers names in the order they first appear.
class Numbering {
 public:
  int operator()(const std::string& name) {
    return numbers_.try_emplace(name, static_cast<int>(numbers_.size())).first->second;
  }

 private:
  std::map<std::string, int> numbers_;
};

bool caches_are_shared(const std::vector<Processor>& all) {
  std::map<int, int> first_core;
  return std::any_of(all.begin(), all.end(), [&](const Processor& p) {
    return first_core.try_emplace(p.cache, p.core).first->second != p.core;
  });
}

}  // namespace

std::vector<Processor> read_topology(std::span<const int> allowed, const fs::path& sys) {
  std::vector<Processor> all;
  Numbering cores, caches;
  for (const int id : allowed) {
    const fs::path processor = sys / "devices/system/cpu" / ("cpu" + std::to_string(id));
    std::string siblings = first_line(processor / "topology/thread_siblings_list");
    if (siblings.empty()) siblings = "only " + std::to_string(id);
    all.push_back({id, cores(siblings), caches(last_cache(processor)), node_of(processor)});
  }
  if (!caches_are_shared(all)) {
    for (Processor& p : all) p.cache = 0;
  }
  return all;
}

std::vector<int> allowed_processors() {
  std::vector<int> all;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int id = 0; id < CPU_SETSIZE; ++id) {
      if (CPU_ISSET(id, &set)) all.push_back(id);
    }
  }
  if (all.empty()) {  // refused: there are more than a cpu_set_t can name
    all.resize(std::max(1U, std::thread::hardware_concurrency()));
    std::iota(all.begin(), all.end(), 0);
  }
  return all;
}

std::vector<Processor> place_workers(std::vector<Processor> processors, int threads) {
  std::map<int, int> seen;  // of each core
  std::vector<std::tuple<int, int, int, int, Processor>> order;
  for (const Processor& p : processors) order.emplace_back(seen[p.core]++, p.node, p.cache, p.id, p);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::tie(std::get<0>(a), std::get<1>(a), std::get<2>(a), std::get<3>(a)) <
           std::tie(std::get<0>(b), std::get<1>(b), std::get<2>(b), std::get<3>(b));
  });
  std::vector<Processor> placed;
  for (std::size_t i = 0; i < static_cast<std::size_t>(std::max(threads, 0)) && !order.empty(); ++i)
    placed.push_back(std::get<4>(order[i % order.size()]));
  return placed;
}

}  // namespace qw::base
