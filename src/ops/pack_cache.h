// Packed weights kept in files, so that a start need not pack them again: mapped, they take no memory that the system
// would have to clear, and processes share them (docs/operations/pack_cache.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/thread_pool.h"

namespace qw::ops {

class PackCache {
 public:
  // Files of `folder`, of `limit` bytes together at most. `warn` is told in a line each what is wrong with a file or
  // the folder, on the thread that loads: weights are packed then as if there were no cache.
  PackCache(std::filesystem::path folder, std::uint64_t limit, std::function<void(std::string_view)> warn)
      : folder_(std::move(folder)), limit_(limit), warn_(std::move(warn)) {}

  // The `bytes` packed bytes kept under `key` (64 hexadecimal digits), at a multiple of 64 bytes; null if there are
  // none, or what is there is damaged, not of this user or open to others' writing. They are checked whole, by all
  // threads of `pool`. Nobody may write to them. They stay while the result does, whatever happens to the file's name.
  std::shared_ptr<std::byte> find(const std::string& key, std::size_t bytes, base::ThreadPool& pool) const;
  // Keeps them: written whole or not at all. Then files used longest ago go until all fit the limit.
  void keep(const std::string& key, std::span<const std::byte> bytes, base::ThreadPool& pool) const;

 private:
  std::filesystem::path file_of(const std::string& key) const;
  Status write(const std::string& key, std::span<const std::byte> bytes, base::ThreadPool& pool) const;
  void make_room(const std::filesystem::path& newest) const;

  std::filesystem::path folder_;
  std::uint64_t limit_;
  std::function<void(std::string_view)> warn_;
};

}  // namespace qw::ops
