#include "ops/pack_cache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <system_error>
#include <vector>

#include "base/file.h"
#include "ops/machine.h"
#include "tensor/tensor.h"

namespace qw::ops {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[8] = {'Q', 'W', 'P', 'A', 'C', 'K', '0', '2'};
constexpr std::string_view kSuffix = ".qwpack";
// Checked and copied at a time by one thread.
constexpr std::size_t kPiece = std::size_t{1} << 20;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

// The file's first page; packed bytes follow.
struct Header {
  char magic[8] = {};
  char key[64] = {};
  std::uint64_t bytes = 0, sum = 0;  // of the packed bytes
  std::uint64_t header_sum = 0;      // of all before
};
constexpr std::size_t kHeaderBytes = 4096;

using Wide = unsigned __int128;

std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  const Wide product = Wide{a} * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

// Damaged bytes have the same sum by a chance of 2^-64. Four chains, for multiplications to overlap: faster than
// memory.
std::uint64_t sum_of(const std::byte* from, std::size_t bytes) {
  constexpr std::uint64_t kOdd[4] = {0x9E3779B97F4A7C15u, 0xC2B2AE3D27D4EB4Fu, 0xD6E8FEB86659FD93u,
                                     0xA0761D6478BD642Fu};
  std::array<std::uint64_t, 4> h{1, 2, 3, 4};
  std::array<std::uint64_t, 8> w;
  std::size_t at = 0;
  for (; at + sizeof w <= bytes; at += sizeof w) {
    std::memcpy(w.data(), from + at, sizeof w);
    for (std::size_t i = 0; i < 4; ++i) h[i] = fold(w[2 * i] ^ kOdd[i], w[2 * i + 1] ^ h[i]);
  }
  std::uint64_t sum = bytes;
  for (; at < bytes; ++at) sum = fold(sum ^ static_cast<std::uint64_t>(from[at]) ^ kOdd[0], kOdd[1]);
  for (const std::uint64_t one : h) sum = fold(sum ^ kOdd[2], one ^ kOdd[3]);
  return sum;
}

// Of pieces, by all threads; `copy`, if not null, gets the bytes too.
std::uint64_t sum_of(std::span<const std::byte> bytes, base::ThreadPool& pool, std::byte* copy = nullptr) {
  const std::size_t pieces = (bytes.size() + kPiece - 1) / kPiece;
  std::vector<std::uint64_t> sums(pieces);
  for_pieces(pool, static_cast<std::int64_t>(pieces), [&](int, std::int64_t piece) {
    const std::size_t at = static_cast<std::size_t>(piece) * kPiece, n = std::min(kPiece, bytes.size() - at);
    const std::byte* from = bytes.data() + at;
    if (copy != nullptr) from = static_cast<const std::byte*>(std::memcpy(copy + at, from, n));
    sums[static_cast<std::size_t>(piece)] = sum_of(from, n);
  });
  return sum_of(reinterpret_cast<const std::byte*>(sums.data()), pieces * sizeof(std::uint64_t));
}

std::uint64_t header_sum(const Header& header) {
  return sum_of(reinterpret_cast<const std::byte*>(&header), offsetof(Header, header_sum));
}

Header header_of(const std::string& key, std::uint64_t bytes, std::uint64_t sum) {
  Header header;
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  std::memcpy(header.key, key.data(), std::min(key.size(), sizeof header.key));
  header.bytes = bytes;
  header.sum = sum;
  header.header_sum = header_sum(header);
  return header;
}

// A whole file at a multiple of a huge page. Its pages are shared with whoever maps it too.
class Mapping {
 public:
  Mapping(int fd, std::size_t bytes) {
    void* const room =
        ::mmap(nullptr, bytes + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return;
    const auto begin = reinterpret_cast<std::uintptr_t>(room), place = (begin + kHugePage - 1) / kHugePage * kHugePage;
    const std::size_t whole = (bytes + kHeaderBytes - 1) / kHeaderBytes * kHeaderBytes;
    void* const at = ::mmap(reinterpret_cast<void*>(place), bytes, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
    if (place > begin) ::munmap(room, place - begin);
    ::munmap(reinterpret_cast<void*>(place + whole), begin + bytes + kHugePage - place - whole);
    if (at == MAP_FAILED) {
      ::munmap(reinterpret_cast<void*>(place), whole);
      return;
    }
    data_ = static_cast<std::byte*>(at);
    bytes_ = bytes;
#if defined(MADV_HUGEPAGE)
    ::madvise(at, bytes, MADV_HUGEPAGE);
#endif
#if defined(MADV_POPULATE_READ)
    ::madvise(at, bytes, MADV_POPULATE_READ);  // where it is refused, pages come as they are read
#endif
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (data_ != nullptr) ::munmap(data_, bytes_);
  }
  std::byte* data() const { return data_; }

  // Whether most of it lies in huge pages, as it does where the file system keeps files so. A walk through weights in
  // small pages is a third slower.
  bool huge() const {
    std::ifstream maps("/proc/self/smaps");
    char begin[40];
    std::snprintf(begin, sizeof begin, "%lx-", static_cast<unsigned long>(reinterpret_cast<std::uintptr_t>(data_)));
    bool here = false;
    for (std::string line; std::getline(maps, line);) {
      if (!here)
        here = line.starts_with(begin);
      else if (line.starts_with("FilePmdMapped:"))
        return std::strtoull(line.c_str() + 14, nullptr, 10) * 1024 > bytes_ / 4 * 3;
      else if (line.starts_with("VmFlags:"))
        return false;
    }
    return false;
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// What an open file is, if it may be trusted: nobody else can have written to it.
std::optional<std::size_t> trusted_bytes(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  if (info.st_uid != ::geteuid() || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) return std::nullopt;
  return static_cast<std::size_t>(info.st_size);
}

}  // namespace

fs::path PackCache::file_of(const std::string& key) const { return folder_ / (key + std::string(kSuffix)); }

std::shared_ptr<std::byte> PackCache::find(const std::string& key, std::size_t bytes, base::ThreadPool& pool) const {
  const fs::path path = file_of(key);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return nullptr;
  std::shared_ptr<std::byte> found;
  const std::optional<std::size_t> size = trusted_bytes(fd);
  if (size && *size == kHeaderBytes + bytes && bytes > 0) {
    auto mapping = std::make_shared<Mapping>(fd, *size);
    Header header;
    if (mapping->data() != nullptr) {
      std::memcpy(&header, mapping->data(), sizeof header);
      std::byte* const from = mapping->data() + kHeaderBytes;
      auto copy = mapping->huge() ? nullptr : std::make_shared<tensor::Buffer>(bytes);
      const std::uint64_t sum = sum_of({from, bytes}, pool, copy ? copy->data() : nullptr);
      const Header wanted = header_of(key, bytes, sum);
      if (std::memcmp(&header, &wanted, sizeof header) == 0)
        found = copy ? std::shared_ptr<std::byte>(copy, copy->data()) : std::shared_ptr<std::byte>(mapping, from);
    }
    const timespec now[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
    if (found) ::futimens(fd, now);  // so that it counts as used lately
  }
  ::close(fd);
  if (!found) warn_(path.string() + ": damaged, or others may write to it; weights are packed anew");
  return found;
}

void PackCache::keep(const std::string& key, std::span<const std::byte> bytes, base::ThreadPool& pool) const {
  if (bytes.empty() || bytes.size() + kHeaderBytes > limit_) return;
  if (const Status written = write(key, bytes, pool); !written)
    return warn_("packed weights are not kept: " + written.error().message);
  make_room(file_of(key));
}

Status PackCache::write(const std::string& key, std::span<const std::byte> bytes, base::ThreadPool& pool) const {
  std::error_code error;
  fs::create_directories(folder_, error);
  QW_ASSIGN(auto file, base::AtomicFile::create(file_of(key)));
  std::array<std::byte, kHeaderBytes> first{};
  const Header header = header_of(key, bytes.size(), sum_of(bytes, pool));
  std::memcpy(first.data(), &header, sizeof header);
  QW_TRY(file.write(first));
  QW_TRY(file.write(bytes));
  return file.commit();
}

// What cannot be looked at or removed is left alone.
void PackCache::make_room(const fs::path& newest) const {
  struct Kept {
    fs::file_time_type used;
    std::uint64_t bytes;
    fs::path path;
  };
  std::error_code error;
  std::vector<Kept> all;
  std::uint64_t total = 0;
  for (fs::directory_iterator it(folder_, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code failed;
    const std::uint64_t bytes = it->file_size(failed);
    const auto used = it->last_write_time(failed);
    // One that was being written when its process ended stays under a temporary name; an hour is longer than writing
    // takes.
    const bool left = name.find(std::string(kSuffix) + ".tmp-") != std::string::npos;
    if (failed || (!left && !name.ends_with(kSuffix))) continue;
    if (left && fs::file_time_type::clock::now() - used > std::chrono::hours(1)) fs::remove(it->path(), failed);
    if (left) continue;
    total += bytes;
    if (it->path() != newest) all.push_back({used, bytes, it->path()});
  }
  std::sort(all.begin(), all.end(), [](const Kept& a, const Kept& b) { return a.used < b.used; });
  for (const Kept& one : all) {
    if (total <= limit_) return;
    if (fs::remove(one.path, error)) total -= one.bytes;
  }
}

}  // namespace qw::ops
