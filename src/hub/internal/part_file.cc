#include "hub/internal/part_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/file.h"
#include "json/value.h"

namespace qw::hub::internal {
namespace {

namespace fs = std::filesystem;
// The state of a terabyte in segments of 32 MB.
constexpr std::uint64_t kMaxStateBytes = std::uint64_t{1} << 20;

tl::unexpected<Error> system_error(const fs::path& path, const char* doing) {
  const int error = errno;
  return fail(error == ENOSPC || error == EDQUOT ? ErrorKind::kResource : ErrorKind::kFailed,
              path.string() + ": cannot " + doing + ": " + std::strerror(error));
}

std::vector<Segment> cut(std::uint64_t bytes, std::uint64_t segment_bytes) {
  std::vector<Segment> segments;
  for (std::uint64_t at = 0; at < bytes; at += segment_bytes) segments.push_back({at, std::min(bytes, at + segment_bytes)});
  return segments;
}

std::int64_t integer(const json::Value& object, const char* key) {
  const json::Value* v = object.find(key);
  return v != nullptr && v->is_int() ? v->as_int() : -1;
}

}  // namespace

fs::path part_path(const fs::path& target) { return target.string() + ".part"; }
fs::path state_path(const fs::path& part) { return part.string() + ".json"; }

std::optional<std::vector<Segment>> read_state(const fs::path& part, const RemoteFile& file) {
  std::error_code error;
  if (fs::file_size(part, error) != file.bytes || error) return std::nullopt;
  const auto text = base::read_file(state_path(part), kMaxStateBytes);
  if (!text) return std::nullopt;
  const auto state = json::parse(*text);
  if (!state || integer(*state, "bytes") != static_cast<std::int64_t>(file.bytes)) return std::nullopt;
  const json::Value *sha256 = state->find("sha256"), *done = state->find("done");
  const std::int64_t size = integer(*state, "segment_bytes");
  if (sha256 == nullptr || !sha256->is_string() || sha256->as_string() != file.sha256 || size <= 0) return std::nullopt;
  // Without a hash nothing would notice that the file is another one by now.
  if (file.sha256.empty() || done == nullptr || !done->is_array()) return std::nullopt;
  if (done->as_array().size() != (file.bytes + static_cast<std::uint64_t>(size) - 1) / static_cast<std::uint64_t>(size)) return std::nullopt;
  auto segments = cut(file.bytes, static_cast<std::uint64_t>(size));
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const json::Value& n = done->as_array()[i];
    if (!n.is_int() || n.as_int() < 0 || static_cast<std::uint64_t>(n.as_int()) > segments[i].end - segments[i].begin) return std::nullopt;
    segments[i].done = static_cast<std::uint64_t>(n.as_int());
  }
  return segments;
}

Result<PartFile> PartFile::open(fs::path part, const RemoteFile& file, std::uint64_t segment_bytes) {
  PartFile out;
  out.path_ = std::move(part);
  out.file_ = file;
  auto known = read_state(out.path_, file);
  // O_NOFOLLOW: a link planted under this name must not lead the bytes elsewhere.
  out.fd_ = ::open(out.path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (out.fd_ < 0) return system_error(out.path_, "create");
  out.segments = known ? std::move(*known) : cut(file.bytes, segment_bytes);
  if (::ftruncate(out.fd_, static_cast<off_t>(file.bytes)) != 0) return system_error(out.path_, "set the size");
  return out;
}

PartFile::PartFile(PartFile&& other) noexcept
    : segments(std::move(other.segments)), fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)), file_(std::move(other.file_)) {}

PartFile::~PartFile() {
  if (fd_ >= 0) ::close(fd_);
}

std::uint64_t PartFile::done() const {
  std::uint64_t sum = 0;
  for (const Segment& s : segments) sum += s.done;
  return sum;
}

Status PartFile::restart() {
  segments.clear();
  if (file_.bytes > 0) segments.push_back({0, file_.bytes});
  std::error_code ignored;
  fs::remove(state_path(path_), ignored);
  return {};
}

Status PartFile::write(std::uint64_t offset, std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return system_error(path_, "write");
    offset += static_cast<std::uint64_t>(n);
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

Status PartFile::save_state(std::span<const Segment> now) const {
  if (now.empty()) return {};
  if (::fdatasync(fd_) != 0) return system_error(path_, "write");
  json::Array done;
  for (const Segment& s : now) done.emplace_back(s.done);
  const json::Object state{{"bytes", file_.bytes},
                           {"sha256", file_.sha256},
                           {"segment_bytes", now.front().end - now.front().begin},
                           {"done", std::move(done)}};
  return base::write_file_atomically(state_path(path_), json::dump(state) + "\n");
}

Status PartFile::finish(const fs::path& target) {
  if (::fsync(fd_) != 0) return system_error(path_, "write");
  if (::rename(path_.c_str(), target.c_str()) != 0) return system_error(target, "rename the finished download");
  std::error_code ignored;
  fs::remove(state_path(path_), ignored);
  return base::sync_folder(target.parent_path());
}

Status PartFile::discard() {
  std::error_code error;
  fs::remove(state_path(path_), error);
  if (!error) fs::remove(path_, error);
  if (error) return fail(ErrorKind::kFailed, path_.string() + ": cannot remove: " + error.message());
  return {};
}

}  // namespace qw::hub::internal
