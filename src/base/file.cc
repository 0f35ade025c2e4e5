#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace qw::base {
namespace {

Error system_error(const std::filesystem::path& path, const char* action) {
  const int code = errno;
  ErrorKind kind = ErrorKind::kFailed;
  if (code == ENOSPC || code == EDQUOT || code == ENOMEM) kind = ErrorKind::kResource;
  if (code == ENOENT || code == EISDIR || code == ENOTDIR || code == EACCES) kind = ErrorKind::kBadInput;
  return Error{kind, path.string() + ": cannot " + action + ": " + std::strerror(code)};
}

Status write_all(int fd, const std::filesystem::path& path, std::span<const std::byte> bytes, std::int64_t offset) {
  while (!bytes.empty()) {
    const ssize_t n = offset < 0 ? ::write(fd, bytes.data(), bytes.size())
                                 : ::pwrite(fd, bytes.data(), bytes.size(), offset);
    if (n < 0) {
      if (errno == EINTR) continue;
      return tl::unexpected(system_error(path, "write"));
    }
    if (offset >= 0) offset += n;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return tl::unexpected(system_error(path, "open"));
  struct stat info {};
  if (::fstat(fd, &info) != 0) {
    auto error = system_error(path, "stat");
    ::close(fd);
    return tl::unexpected(std::move(error));
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    return fail(ErrorKind::kBadInput, path.string() + ": not a regular file");
  }
  MappedFile file;
  file.path_ = path;
  file.size_ = static_cast<std::size_t>(info.st_size);
  if (file.size_ > 0) {
    void* p = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
      auto error = system_error(path, "map");
      ::close(fd);
      return tl::unexpected(std::move(error));
    }
    file.data_ = static_cast<const std::byte*>(p);
  }
  ::close(fd);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

Result<std::string> read_file(const std::filesystem::path& path, std::uint64_t limit_bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return tl::unexpected(system_error(path, "open"));
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      auto error = system_error(path, "read");
      ::close(fd);
      return tl::unexpected(std::move(error));
    }
    if (n == 0) break;
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > limit_bytes) {
      ::close(fd);
      return fail(ErrorKind::kBadInput,
                  path.string() + ": larger than the limit of " + std::to_string(limit_bytes) + " bytes");
    }
  }
  ::close(fd);
  return text;
}

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& path) {
  AtomicFile file;
  file.path_ = path;
  std::string name = path.string() + ".tmp-XXXXXX";
  file.fd_ = ::mkstemp(name.data());
  if (file.fd_ < 0) return tl::unexpected(system_error(path, "create a temporary file beside"));
  ::fchmod(file.fd_, 0644);
  file.temporary_ = name;
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlink(temporary_.c_str());
  }
}

Status AtomicFile::write(std::span<const std::byte> bytes) {
  QW_TRY(write_all(fd_, path_, bytes, -1));
  size_ += bytes.size();
  return {};
}

Status AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  QW_CHECK(offset + bytes.size() <= size_);
  return write_all(fd_, path_, bytes, static_cast<std::int64_t>(offset));
}

Status AtomicFile::commit() {
  if (::fsync(fd_) != 0) return tl::unexpected(system_error(path_, "flush"));
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return tl::unexpected(system_error(path_, "replace"));
  ::close(std::exchange(fd_, -1));
  const auto folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
  return sync_folder(folder);
}

Status write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  QW_ASSIGN(auto file, AtomicFile::create(path));
  QW_TRY(file.write(text));
  return file.commit();
}

Status sync_folder(const std::filesystem::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return tl::unexpected(system_error(folder, "open"));
  const int rc = ::fsync(fd);
  ::close(fd);
  if (rc != 0) return tl::unexpected(system_error(folder, "flush"));
  return {};
}

}  // namespace qw::base
