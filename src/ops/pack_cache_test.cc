#include "ops/pack_cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "base/cpu.h"
#include "base/file.h"
#include "base/rng.h"
#include "ops/internal/packed_weights.h"

namespace qw::ops {
namespace {

namespace fs = std::filesystem;

const std::string kKey(64, 'a'), kOther(64, 'b'), kThird(64, 'c');

std::vector<std::byte> random_bytes(std::size_t n, std::uint64_t seed) {
  base::Rng rng(seed);
  std::vector<std::byte> out(n);
  for (std::byte& b : out) b = static_cast<std::byte>(rng.below(256));
  return out;
}

class PackCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "qw-packed-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  void TearDown() override { fs::remove_all(folder_); }
  PackCache cache_of(std::uint64_t limit = 1 << 30) {
    return PackCache(folder_ / "cache", limit, [this](std::string_view text) { warnings_.emplace_back(text); });
  }
  fs::path file(const std::string& key) const { return folder_ / "cache" / (key + ".qwpack"); }
  std::vector<fs::path> files() const {
    std::vector<fs::path> out;
    if (fs::exists(folder_ / "cache"))
      for (const auto& entry : fs::directory_iterator(folder_ / "cache")) out.push_back(entry.path());
    return out;
  }
  bool has(const PackCache& cache, const std::string& key, const std::vector<std::byte>& bytes) {
    const auto found = cache.find(key, bytes.size(), pool_);
    return found != nullptr && std::memcmp(found.get(), bytes.data(), bytes.size()) == 0;
  }

  fs::path folder_;
  std::vector<std::string> warnings_;
  base::ThreadPool pool_{2};
};

TEST_F(PackCacheTest, GivesBackWhatWasKept) {
  const PackCache cache = cache_of();
  for (const std::size_t n : {std::size_t{1}, std::size_t{63}, std::size_t{4096}, std::size_t{3 << 20} + 5}) {
    const std::vector<std::byte> bytes = random_bytes(n, n);
    cache.keep(kKey, bytes, pool_);
    EXPECT_TRUE(has(cache, kKey, bytes)) << n;
    EXPECT_EQ(cache.find(kKey, n + 1, pool_), nullptr);
    EXPECT_EQ(cache.find(kOther, n, pool_), nullptr);
    const auto found = cache.find(kKey, n, pool_);
    fs::remove(file(kKey));
    EXPECT_EQ(0, std::memcmp(found.get(), bytes.data(), n)) << "a file that is gone is still mapped";
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(found.get()) % 64, 0u);
  }
}

TEST_F(PackCacheTest, NothingDamagedIsTakenForWhatWasKept) {
  const PackCache cache = cache_of();
  const std::vector<std::byte> bytes = random_bytes(10000, 1);
  cache.keep(kKey, bytes, pool_);
  const std::string whole = *base::read_file(file(kKey), 1 << 20);
  base::Rng rng(2);
  for (int round = 0; round < 150; ++round) {
    std::string bad = whole;
    // Padding between the header's 96 bytes and the packed ones says nothing.
    const std::size_t at = round % 2 == 0 ? rng.below(96) : 4096 + rng.below(bytes.size());
    if (round % 5 == 4)
      bad.resize(rng.below(whole.size()));
    else if (round % 5 == 3)
      bad.append(1 + rng.below(100), 'x');
    else
      bad[at] = static_cast<char>(bad[at] ^ (1 << rng.below(8)));
    std::ofstream(file(kKey), std::ios::binary | std::ios::trunc) << bad;
    ASSERT_EQ(cache.find(kKey, bytes.size(), pool_), nullptr) << round;
  }
  std::ofstream(file(kKey), std::ios::binary | std::ios::trunc) << whole;
  EXPECT_TRUE(has(cache, kKey, bytes));
  fs::copy_file(file(kKey), file(kOther));
  EXPECT_EQ(cache.find(kOther, bytes.size(), pool_), nullptr) << "under another's name";
  ASSERT_EQ(::chmod(file(kKey).c_str(), 0666), 0);
  EXPECT_EQ(cache.find(kKey, bytes.size(), pool_), nullptr) << "anybody could have written it";
}

TEST_F(PackCacheTest, KeepsTheLimitByWhatWasUsedLongestAgo) {
  const PackCache cache = cache_of(3 * 5000 - 1);  // two files of 4096 and 500 bytes, not three
  const std::vector<std::byte> bytes = random_bytes(500, 3);
  cache.keep(kKey, bytes, pool_);
  cache.keep(kOther, bytes, pool_);
  const auto now = fs::file_time_type::clock::now();
  fs::last_write_time(file(kKey), now - std::chrono::hours(2));
  fs::last_write_time(file(kOther), now - std::chrono::hours(1));
  std::ofstream(folder_ / "cache" / "somebody's") << std::string(100000, 'x');
  const fs::path left = folder_ / "cache" / (kKey + ".qwpack.tmp-abcdef");
  std::ofstream(left) << "half";
  fs::last_write_time(left, now - std::chrono::hours(3));
  EXPECT_TRUE(has(cache, kKey, bytes));  // and so was used last
  const PackCache smaller = cache_of(2 * 4596 + 100);
  smaller.keep(kThird, bytes, pool_);
  EXPECT_TRUE(fs::exists(file(kKey)) && fs::exists(file(kThird)));
  EXPECT_FALSE(fs::exists(file(kOther)));
  EXPECT_FALSE(fs::exists(left));
  EXPECT_TRUE(fs::exists(folder_ / "cache" / "somebody's"));
  cache_of(4000).keep(kOther, bytes, pool_);
  EXPECT_FALSE(fs::exists(file(kOther))) << "it would not fit alone";
}

// A matrix of each of two formats and a vector, as they stand in a file.
class PackedFile : public PackCacheTest {
 protected:
  static constexpr std::int64_t kRows = 70, kIn = 64;
  void write(std::uint64_t seed) {
    std::vector<std::byte> bytes = random_bytes(kRows * kIn / 32 * (18 + 34) + kIn * 4, seed);
    std::memset(bytes.data() + bytes.size() - kIn * 4, 0, kIn * 4);
    std::ofstream(folder_ / "model", std::ios::binary | std::ios::trunc)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  std::vector<std::byte> packed(const kernels::Kernels& kernels, const PackCache* cache, std::int32_t matrices = 2) {
    const base::MappedFile file = *base::MappedFile::open(folder_ / "model");
    const std::byte* const at = file.bytes().data();
    const tensor::Shape shape{kRows, kIn};
    const std::vector<tensor::ConstView> views{
        {tensor::DType::kQ4_0, shape, at},
        {tensor::DType::kQ8_0, shape, at + kRows * kIn / 32 * 18},
        {tensor::DType::kF32, tensor::Shape{kIn}, at + kRows * kIn / 32 * (18 + 34)}};
    Program program;
    for (std::int32_t i = 0; i < matrices; ++i) program.ops.push_back({.kind = OpKind::kLinear, .weight = {i}});
    program.ops.push_back({.kind = OpKind::kRmsNorm, .weight = {2}});
    const auto made = pack_weights({kernels, pool_}, program, nullptr, views, cache);
    EXPECT_TRUE(made) << (made ? "" : made.error().message);
    std::vector<std::byte> all;
    for (const PackedWeight& w : *made) all.insert(all.end(), w.data.data(), w.data.data() + w.data.size());
    return all;
  }
};

TEST_F(PackedFile, IsWhatPackingGives) {
  const kernels::Kernels& best = kernels::kernels_for(base::best_isa());
  const kernels::Kernels& plain = kernels::kernels_for(base::Isa::kPortable);
  const PackCache cache = cache_of();
  write(1);
  const std::vector<std::byte> first = packed(best, nullptr);
  EXPECT_TRUE(files().empty());
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(packed(best, &cache), first);
    ASSERT_EQ(files().size(), 1u);
  }
  // What is found is used: other bytes under its name, with sums that are right, come out.
  const fs::path mine = files().front();
  cache.keep(mine.stem().string(), std::vector<std::byte>(fs::file_size(mine) - 4096, std::byte{7}), pool_);
  EXPECT_EQ(packed(best, &cache), std::vector<std::byte>(first.size(), std::byte{7}));
  ASSERT_EQ(files().size(), 1u);

  EXPECT_EQ(packed(best, &cache, 1), packed(best, nullptr, 1));
  EXPECT_EQ(files().size(), 2u) << "of a program that uses other weights";
  EXPECT_EQ(packed(plain, &cache), packed(plain, nullptr));
  EXPECT_EQ(files().size(), base::best_isa() == base::Isa::kPortable ? 2u : 3u);
  // A file that was written to is another file, though it is as long.
  write(2);
  const std::vector<std::byte> second = packed(best, &cache);
  EXPECT_NE(second, first);
  EXPECT_EQ(second, packed(best, nullptr));
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(PackedFile, ADamagedFileAndAFolderThatCannotBeUsedStopNobody) {
  write(1);
  const kernels::Kernels& best = kernels::kernels_for(base::best_isa());
  const std::vector<std::byte> bytes = packed(best, nullptr);
  const PackCache cache = cache_of();
  packed(best, &cache);
  fs::resize_file(files().front(), 5000);
  EXPECT_EQ(packed(best, &cache), bytes);
  EXPECT_EQ(warnings_.size(), 1u);
  EXPECT_EQ(packed(best, &cache), bytes) << "it was replaced";
  EXPECT_EQ(warnings_.size(), 1u);
  std::ofstream(folder_ / "file") << "x";
  const PackCache nowhere(folder_ / "file" / "below", 1 << 30,
                          [this](std::string_view text) { warnings_.emplace_back(text); });
  EXPECT_EQ(packed(best, &nowhere), bytes);
  EXPECT_EQ(warnings_.size(), 2u);
  const PackCache small = cache_of(10);
  EXPECT_EQ(packed(best, &small), bytes);
}

}  // namespace
}  // namespace qw::ops
