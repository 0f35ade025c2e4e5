// A file that lives in memory, for what reads a path and must not wait for a disk: fuzz targets.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"

namespace qw::base {

class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("memory_file", 0)) { QW_CHECK(fd_ >= 0); }
  MemoryFile(const std::uint8_t* data, std::size_t size) : MemoryFile() { set(data, size); }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  // Whoever has the old contents mapped must be gone.
  void set(const std::uint8_t* data, std::size_t size) {
    QW_CHECK(::ftruncate(fd_, 0) == 0 && ::pwrite(fd_, data, size, 0) == static_cast<ssize_t>(size));
  }
  // Valid while this object lives, for this process only.
  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

}  // namespace qw::base
