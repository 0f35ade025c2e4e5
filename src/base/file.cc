#include "base/file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/mapped_pages.h"

namespace qw::base {
namespace {

// Where files are mapped now. Only of such memory may pages be dropped: they hold what the file holds.
class Mappings {
 public:
  struct Mapping {
    std::span<const std::byte> bytes;
    FileIdentity file;
  };
  void add(std::span<const std::byte> bytes, const FileIdentity& file) {
    std::lock_guard lock(mutex_);
    all_.push_back({bytes, file});
  }
  void remove(const std::byte* begin) {
    std::lock_guard lock(mutex_);
    std::erase_if(all_, [&](const Mapping& m) { return m.bytes.data() == begin; });
  }
  // The mapping that holds `bytes`, or nothing.
  std::optional<Mapping> around(std::span<const std::byte> bytes) {
    std::lock_guard lock(mutex_);
    for (const Mapping& m : all_)
      if (bytes.data() >= m.bytes.data() && bytes.data() + bytes.size() <= m.bytes.data() + m.bytes.size()) return m;
    return std::nullopt;
  }

 private:
  std::mutex mutex_;
  std::vector<Mapping> all_;
};
Mappings& mappings() {
  static auto* const all = new Mappings;  // outlives files that are closed while the program ends
  return *all;
}

Error system_error(const std::filesystem::path& path, const char* action) {
  const int code = errno;
  ErrorKind kind = ErrorKind::kFailed;
  if (code == ENOSPC || code == EDQUOT || code == EFBIG || code == ENOMEM) kind = ErrorKind::kResource;
  if (code == ENOENT || code == EISDIR || code == ENOTDIR || code == EACCES || code == EPERM || code == ELOOP ||
      code == ENAMETOOLONG || code == ENXIO) {
    kind = ErrorKind::kBadInput;
  }
  return Error{kind, path.string() + ": cannot " + action + ": " + std::strerror(code)};
}

// Without waiting: opening a named pipe that nobody writes to would otherwise never return.
Result<int> open_for_reading(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return tl::unexpected(system_error(path, "open"));
  return fd;
}

Status write_all(int fd, const std::filesystem::path& path, std::span<const std::byte> bytes, std::int64_t offset) {
  while (!bytes.empty()) {
    const ssize_t n =
        offset < 0 ? ::write(fd, bytes.data(), bytes.size()) : ::pwrite(fd, bytes.data(), bytes.size(), offset);
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
  QW_ASSIGN(const int fd, open_for_reading(path));
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
    const auto ns = [](const timespec& t) { return std::int64_t{t.tv_sec} * 1000000000 + t.tv_nsec; };
    mappings().add(file.bytes(), {info.st_dev, info.st_ino, file.size_, ns(info.st_mtim), ns(info.st_ctim)});
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
  if (data_ == nullptr) return;
  mappings().remove(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

void let_go_of_pages(std::span<const std::byte> bytes) {
  if (bytes.empty() || !mappings().around(bytes)) return;
  static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data()) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(bytes.data() + bytes.size());
  // Of a private mapping that nobody can write to: nothing is lost. If it is refused, the pages stay.
  ::madvise(reinterpret_cast<void*>(begin), (end - begin + page - 1) / page * page, MADV_DONTNEED);
}

std::optional<MappedFrom> mapped_from(std::span<const std::byte> bytes) {
  const auto mapping = mappings().around(bytes);
  if (!mapping) return std::nullopt;
  return MappedFrom{mapping->file, static_cast<std::uint64_t>(bytes.data() - mapping->bytes.data())};
}

Result<InputFile> InputFile::open(const std::filesystem::path& path) {
  InputFile file;
  file.path_ = path;
  QW_ASSIGN(file.fd_, open_for_reading(path));
  struct stat info {};
  if (::fstat(file.fd_, &info) != 0) return tl::unexpected(system_error(path, "stat"));
  if (!S_ISREG(info.st_mode) && !S_ISFIFO(info.st_mode)) {
    return fail(ErrorKind::kBadInput, path.string() + ": not a regular file or pipe");
  }
  file.pipe_ = S_ISFIFO(info.st_mode);
  file.size_ = static_cast<std::uint64_t>(info.st_size);
  return file;
}

InputFile InputFile::standard_input() {
  InputFile file;
  file.path_ = "standard input";
  file.fd_ = STDIN_FILENO;
  file.owned_ = false;
  return file;
}

InputFile::InputFile(InputFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      owned_(other.owned_),
      pipe_(other.pipe_),
      begun_(other.begun_),
      size_(other.size_),
      path_(std::move(other.path_)) {}

InputFile::~InputFile() {
  if (owned_ && fd_ >= 0) ::close(fd_);
}

// A named pipe opened before its writer looks as if it were at its end.
Status InputFile::wait_for_writer() {
  constexpr int kPatienceMs = 2000;  // a writer that was started together with this program is there by then
  pollfd waiting{fd_, POLLIN, 0};
  if (::poll(&waiting, 1, kPatienceMs) == 0)
    return fail(ErrorKind::kBadInput, path_.string() + ": nobody writes to this pipe");
  return {};
}

Result<std::size_t> InputFile::read(std::span<char> out) {
  for (;;) {
    const ssize_t n = ::read(fd_, out.data(), out.size());
    if (n == 0 && pipe_ && !begun_) {
      begun_ = true;
      QW_TRY(wait_for_writer());
      continue;
    }
    if (n >= 0) {
      begun_ = true;
      return static_cast<std::size_t>(n);
    }
    if (errno == EAGAIN) {  // a pipe whose writer has nothing to say now
      begun_ = true;
      pollfd waiting{fd_, POLLIN, 0};
      ::poll(&waiting, 1, -1);
    } else if (errno != EINTR) {
      return tl::unexpected(system_error(path_, "read"));
    }
  }
}

Result<std::string> InputFile::read_all(std::uint64_t limit_bytes) {
  const auto too_large = [&] {
    return fail(ErrorKind::kBadInput,
                path_.string() + ": larger than the limit of " + std::to_string(limit_bytes) + " bytes");
  };
  if (size_ > limit_bytes) return too_large();
  std::string text;
  text.reserve(size_);
  char buffer[1 << 16];
  for (;;) {
    QW_ASSIGN(const std::size_t n, read(buffer));
    if (n == 0) return text;
    if (text.size() + n > limit_bytes) return too_large();
    text.append(buffer, n);
  }
}

Result<std::string> read_file(const std::filesystem::path& path, std::uint64_t limit_bytes) {
  QW_ASSIGN(InputFile file, InputFile::open(path));
  return file.read_all(limit_bytes);
}

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& path, Readers readers) {
  AtomicFile file;
  file.path_ = path;
  std::string name = path.string() + ".tmp-XXXXXX";
  file.fd_ = ::mkstemp(name.data());
  if (file.fd_ < 0) return tl::unexpected(system_error(path, "create a temporary file beside"));
  if (readers == Readers::kAll) ::fchmod(file.fd_, 0644);  // mkstemp makes it its owner's alone
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

Status write_file_atomically(const std::filesystem::path& path, std::string_view text, Readers readers) {
  QW_ASSIGN(auto file, AtomicFile::create(path, readers));
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
