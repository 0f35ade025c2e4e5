// Files that records are added to.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace qw::governance {

inline Error system_error(const std::filesystem::path& path) {
  return {errno == ENOSPC || errno == EDQUOT ? ErrorKind::kResource : ErrorKind::kFailed,
          path.string() + ": " + std::strerror(errno)};
}

// A file that grows at its end, and can be taken back to where it was.
class GrowingFile {
 public:
  Status open(std::filesystem::path path) {
    path_ = std::move(path);
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat info {};
    if (fd_ < 0 || ::fstat(fd_, &info) != 0) return tl::unexpected(system_error(path_));
    size_ = static_cast<std::uint64_t>(info.st_size);
    return {};
  }
  ~GrowingFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  Status add(std::string_view bytes) {
    QW_TRY(put(size_, bytes));
    size_ += bytes.size();
    return {};
  }
  // Over what is there: the size, as it is known here, stays.
  Status put(std::uint64_t at, std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return tl::unexpected(system_error(path_));
      bytes.remove_prefix(static_cast<std::size_t>(n));
      at += static_cast<std::uint64_t>(n);
    }
    return {};
  }
  // As many of these bytes as there are.
  Result<std::string> read(std::uint64_t at, std::size_t bytes) const {
    std::string out(bytes, '\0');
    std::size_t have = 0;
    while (have < bytes) {
      const ssize_t n = ::pread(fd_, out.data() + have, bytes - have, static_cast<off_t>(at + have));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return tl::unexpected(system_error(path_));
      if (n == 0) break;
      have += static_cast<std::size_t>(n);
    }
    out.resize(have);
    return out;
  }
  Status sync() { return ::fdatasync(fd_) == 0 ? Status() : Status(tl::unexpected(system_error(path_))); }
  Status cut(std::uint64_t size) {
    if (::ftruncate(fd_, static_cast<off_t>(size)) != 0 || ::fdatasync(fd_) != 0)
      return tl::unexpected(system_error(path_));
    size_ = size;
    return {};
  }
  // Drops what is on the disk from the system's memory. There, what was written at once lies in one piece, and every
  // small write into it goes through all of it.
  void leave_memory() { (void)::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }
  std::uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  int fd_ = -1;
  std::uint64_t size_ = 0;
  std::filesystem::path path_;
};

}  // namespace qw::governance
