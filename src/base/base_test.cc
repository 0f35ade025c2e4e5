#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/cpu.h"
#include "base/file.h"
#include "base/html.h"
#include "base/lines.h"
#include "base/mapped_pages.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "base/thread_pool.h"

namespace qw::base {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "qw-base-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path_); }
  fs::path operator/(const char* name) const { return path_ / name; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

TEST(Philox, KnownAnswers) {
  // Vectors of the Random123 distribution (kat_vectors, philox4x32 10 rounds).
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t f = 0xffffffff;
  EXPECT_EQ(philox({f, f, f, f}, {f, f}), (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, ContinuesFromAPosition) {
  Rng whole(7, 3);
  std::vector<std::uint32_t> draws(100);
  for (auto& d : draws) d = whole.next_u32();
  for (std::size_t start : {0u, 1u, 5u, 63u, 99u}) {
    Rng later(7, 3, start);
    for (std::size_t i = start; i < draws.size(); ++i) ASSERT_EQ(later.next_u32(), draws[i]);
  }
  EXPECT_NE(Rng(7, 4).next_u32(), draws[0]);
}

TEST(Rng, BelowIsUniformAndNormalHasUnitVariance) {
  Rng rng(1);
  std::vector<int> counts(10);
  for (int i = 0; i < 100'000; ++i) ++counts[rng.below(10)];
  double chi2 = 0;
  for (int c : counts) chi2 += (c - 10'000.0) * (c - 10'000.0) / 10'000.0;
  EXPECT_LT(chi2, 27.9);  // 99.9 % point of chi-square with 9 degrees of freedom
  double sum = 0, squares = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double x = rng.next_normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / 100'000, 0, 4 / std::sqrt(100'000.0));
  EXPECT_NEAR(squares / 100'000, 1, 4 * std::sqrt(2.0 / 100'000));
}

TEST(ThreadPool, CoversEveryIndexOnceForAnyThreadCount) {
  for (int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (std::int64_t n : {0, 1, 5, 64, 1000}) {
      for (std::int64_t grain : {1, 3, 64}) {
        std::vector<std::atomic<int>> hits(static_cast<std::size_t>(n));
        pool.parallel_for(n, grain, [&](std::int64_t b, std::int64_t e) {
          for (; b < e; ++b) ++hits[static_cast<std::size_t>(b)];
        });
        for (auto& h : hits) ASSERT_EQ(h.load(), 1);
        pool.parallel_ranges(n, [&](std::int64_t b, std::int64_t e) {
          ASSERT_LT(b, e);
          for (; b < e; ++b) ++hits[static_cast<std::size_t>(b)];
        });
        for (auto& h : hits) ASSERT_EQ(h.load(), 2);
      }
    }
  }
}

// A worker that is held up keeps no more than it has begun: the others do the rest.
TEST(ThreadPool, OthersHelpWhoIsHeldUp) {
  ThreadPool pool(3);
  for (const bool ranges : {false, true}) {
    std::atomic<std::int64_t> done{0};
    std::atomic<int> held{0};
    const auto body = [&](std::int64_t begin, std::int64_t end) {
      // Whoever comes first waits until everything but its own piece is done.
      if (held.exchange(1) == 0)
        while (done.load() < 3000 - (end - begin)) std::this_thread::yield();
      done += end - begin;
    };
    if (ranges) pool.parallel_ranges(3000, body);
    else pool.parallel_for(3000, 10, body);
    EXPECT_EQ(done.load(), 3000);
  }
}

TEST(ThreadPool, ManySectionsInARow) {
  ThreadPool pool(3);
  std::int64_t total = 0;
  for (int i = 0; i < 5000; ++i) {
    std::atomic<std::int64_t> sum{0};
    pool.run([&](int worker) { sum += worker + 1; });
    total += sum.load();
  }
  EXPECT_EQ(total, 5000 * 6);
}

TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Files, ReplaceKeepsTheOldContentUntilCommit) {
  Folder folder;
  const auto path = folder / "a";
  ASSERT_TRUE(write_file_atomically(path, "old"));
  {
    auto file = AtomicFile::create(path);
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->write("new, never committed"));
  }
  EXPECT_EQ(*read_file(path), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);  // the temporary file is gone
  auto file = AtomicFile::create(path);
  ASSERT_TRUE(file->write("XXX new"));
  ASSERT_TRUE(file->write_at(0, std::as_bytes(std::span("yyy", 3))));
  ASSERT_TRUE(file->commit());
  EXPECT_EQ(*read_file(path), "yyy new");
}

TEST(Files, WhatIsItsOwnersAloneIsSoFromTheFirstByte) {
  Folder folder;
  ASSERT_TRUE(write_file_atomically(folder / "a", "anybody's"));
  {
    auto file = AtomicFile::create(folder / "a", Readers::kOwner);
    ASSERT_TRUE(file);
    for (const auto& entry : fs::directory_iterator(folder.path()))
      EXPECT_EQ(entry.path() == folder / "a", (fs::status(entry).permissions() & fs::perms{0077}) != fs::perms::none);
  }
  ASSERT_TRUE(write_file_atomically(folder / "a", "secret", Readers::kOwner));
  EXPECT_EQ(fs::status(folder / "a").permissions(), fs::perms{0600});
}

TEST(Files, AFullDiskLeavesTheOldContent) {
  Folder folder;
  const auto path = folder / "a";
  ASSERT_TRUE(write_file_atomically(path, "old"));
  const pid_t child = ::fork();
  if (child == 0) {  // the limit on file size stands in for a disk with no room
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const auto status = write_file_atomically(path, std::string(100'000, 'n'));
    ::_exit(status ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0) << "the write should have failed";
  EXPECT_EQ(*read_file(path), "old");
}

TEST(Files, ErrorsNameThePath) {
  EXPECT_NE(MappedFile::open("/nonexistent/x").error().message.find("/nonexistent/x"), std::string::npos);
  EXPECT_EQ(MappedFile::open("/").error().kind, ErrorKind::kBadInput);
  Folder folder;
  ASSERT_TRUE(write_file_atomically(folder / "a", "12345"));
  EXPECT_FALSE(read_file(folder / "a", 4));
  ASSERT_TRUE(write_file_atomically(folder / "empty", ""));
  EXPECT_EQ(MappedFile::open(folder / "empty")->bytes().size(), 0u);
}

TEST(Files, PipesAreReadAndNeverWaitedForInVain) {
  Folder folder;
  const auto pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_NE(MappedFile::open(pipe).error().message.find("not a regular file"), std::string::npos);
  const auto silent = read_file(pipe);
  ASSERT_FALSE(silent);
  EXPECT_EQ(silent.error().kind, ErrorKind::kBadInput);
  EXPECT_NE(silent.error().message.find("nobody writes"), std::string::npos);
  const std::string text(300'000, 'x');   // more than a pipe holds
  std::thread writer([&] { std::ofstream(pipe) << text; });
  EXPECT_EQ(read_file(pipe), text);
  writer.join();
  const auto before = std::signal(SIGPIPE, SIG_IGN);   // the reader gives up in the middle
  writer = std::thread([&] { std::ofstream(pipe) << text; });
  EXPECT_FALSE(read_file(pipe, 1000));
  writer.join();
  std::signal(SIGPIPE, before);
}

TEST(Files, WhatHasNoEndIsRefusedUnread) {
  EXPECT_EQ(read_file("/dev/zero").error().kind, ErrorKind::kBadInput);
  Folder folder;
  const auto sparse = folder / "sparse";
  ASSERT_TRUE(write_file_atomically(sparse, ""));
  std::filesystem::resize_file(sparse, std::uint64_t{1} << 40);   // 1 TiB of holes
  EXPECT_NE(read_file(sparse).error().message.find("larger than the limit"), std::string::npos);
}

TEST(Cpu, ForcedIsaIsObeyedOrRefused) {
  ::setenv("QW_ISA", "portable", 1);
  EXPECT_EQ(*chosen_isa(), Isa::kPortable);
  for (const Isa isa : kAllIsas) {
    ::setenv("QW_ISA", std::string(isa_name(isa)).c_str(), 1);
    EXPECT_EQ(chosen_isa().has_value(), isa <= best_isa());
  }
  ::setenv("QW_ISA", "mmx", 1);
  EXPECT_EQ(chosen_isa().error().kind, ErrorKind::kUsage);
  ::unsetenv("QW_ISA");
  EXPECT_EQ(*chosen_isa(), best_isa());
}

TEST(Html, TextStaysTextBetweenTagsAndWithinEitherQuotes) {
  EXPECT_EQ(base::html_escaped("<a href=\"x\" title='y'> & \xE8\xAF\x97 &amp;"),
            "&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt; &amp; \xE8\xAF\x97 &amp;amp;");
  EXPECT_EQ(base::html_escaped(""), "");
}

TEST(Result, TryPassesErrorsOn) {
  const auto half = [](int x) -> Result<int> {
    if (x % 2) return fail(ErrorKind::kBadInput, "odd");
    return x / 2;
  };
  const auto quarter = [&](int x) -> Result<int> {
    QW_ASSIGN(const int h, half(x));
    return half(h);
  };
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).error().message, "odd");
  EXPECT_EQ(exit_code(quarter(6).error().kind), 3);
}

std::int64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::int64_t all = 0, resident = 0;
  in >> all >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

TEST(MappedPages, AreLetGoAndComeBack) {
  constexpr std::size_t kBytes = 32 << 20;
  const Folder folder;
  std::string text(kBytes, 'x');
  for (std::size_t i = 0; i < kBytes; i += 997) text[i] = static_cast<char>(i % 251);
  std::ofstream(folder / "file", std::ios::binary) << text;
  auto file = MappedFile::open(folder / "file");
  ASSERT_TRUE(file);
  const std::span<const std::byte> bytes = file->bytes();
  const std::span<const std::byte> as_text = std::as_bytes(std::span(text.data(), text.size()));
  // In one call: a sanitizer watches each byte of a loop.
  const auto same = [&](std::span<const std::byte> b) {
    return b.size() == text.size() && std::memcmp(b.data(), text.data(), text.size()) == 0;
  };
  ASSERT_TRUE(same(bytes));
  const std::int64_t before = resident_bytes();
  let_go_of_pages(bytes.subspan(100, kBytes - 200));
  EXPECT_LT(resident_bytes(), before - std::int64_t{kBytes} / 2);
  EXPECT_TRUE(same(bytes));
  let_go_of_pages(as_text);  // of no file: left alone
  EXPECT_TRUE(same(bytes));
  const MappedFile moved = std::move(*file);
  let_go_of_pages(moved.bytes().first(1));
  EXPECT_TRUE(same(moved.bytes()));
}

TEST(Lines, AreNumberedAndEndAtTheFirstError) {
  std::vector<std::string> seen;
  const auto note = [&](std::string_view line, std::size_t number) -> Status {
    seen.push_back(std::to_string(number) + ":" + std::string(line));
    if (line == "stop") return fail(ErrorKind::kBadInput, "line " + std::to_string(number));
    return {};
  };
  ASSERT_TRUE(for_each_line("a\n\nb\r\nlast", note));
  EXPECT_EQ(seen, (std::vector<std::string>{"1:a", "2:", "3:b\r", "4:last"}));
  seen.clear();
  const Status status = for_each_line("x\nstop\ny\n", note);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "line 2");
  EXPECT_EQ(seen, (std::vector<std::string>{"1:x", "2:stop"}));
  ASSERT_TRUE(for_each_line("", note));
  ASSERT_TRUE(for_each_line("end\n", note));
  EXPECT_EQ(seen, (std::vector<std::string>{"1:x", "2:stop", "1:end"}));
}

}  // namespace
}  // namespace qw::base
