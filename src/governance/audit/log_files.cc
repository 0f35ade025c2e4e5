#include "governance/audit/log_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "governance/internal/signature_text.h"
#include "json/text_writer.h"

namespace qw::governance {
namespace {

bool is_plain(std::string_view name) {
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= ' ' && c < 127 && c != '"' && c != '\\'; });
}

void write_canonical(const json::Value& value, json::TextWriter& out) {
  QW_CHECK(!value.is_double());
  if (value.is_array()) {
    out.open_array();
    for (const json::Value& item : value.as_array()) write_canonical(item, out);
    out.close_array();
  } else if (value.is_object()) {
    std::vector<const json::Member*> members;
    members.reserve(value.as_object().size());
    for (const json::Member& m : value.as_object()) {
      QW_CHECK(is_plain(m.first));
      members.push_back(&m);
    }
    std::sort(members.begin(), members.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
    out.open_object();
    for (const json::Member* m : members) {
      out.key(m->first);
      write_canonical(m->second, out);
    }
    out.close_object();
  } else if (value.is_string()) {
    out.string(value.as_string());
  } else if (value.is_int()) {
    out.integer(value.as_int());
  } else {
    out.value(value);
  }
}

// As canonical() gives it. The signature is what the others are signed by.
std::string head_text(const Head& h, const Signature* signature) {
  json::TextWriter out;
  out.open_object();
  out.member("key", h.key);
  out.member("prev", to_hex(h.previous));
  out.member("root", to_hex(h.root));
  if (signature != nullptr) out.member("sig", to_hex(*signature));
  out.member("size", static_cast<std::int64_t>(h.size));
  out.member("ts", h.ts);
  out.close_object();
  return out.take();
}

}  // namespace

std::string canonical(const json::Value& value) {
  json::TextWriter out;
  write_canonical(value, out);
  return out.take();
}

std::string Head::signed_text() const { return head_text(*this, nullptr); }
std::string Head::line() const { return head_text(*this, &signature); }

Result<Head> Head::parse(std::string_view line) {
  const auto bad = [] { return fail(ErrorKind::kBadInput, "is not a signed head"); };
  const auto value = json::parse(line);
  if (!value || !value->is_object()) return bad();
  const auto text = [&](const char* name) {
    const json::Value* v = value->find(name);
    return v != nullptr && v->is_string() ? v->as_string() : std::string();
  };
  const json::Value* size = value->find("size");
  const auto root = hash_from_hex(text("root")), previous = hash_from_hex(text("prev"));
  const auto signature = signature_from_hex(text("sig"));
  if (size == nullptr || !size->is_int() || size->as_int() < 0 || !root || !previous || !signature) return bad();
  Head h{static_cast<std::uint64_t>(size->as_int()), *root, *previous, text("ts"), text("key"), *signature};
  if (h.line() != line) return bad();
  return h;
}

std::string timestamp(std::int64_t unix_us) {
  const std::time_t seconds = unix_us / 1'000'000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 40> out{};
  const std::size_t n = std::strftime(out.data(), out.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(out.data() + n, out.size() - n, ".%06dZ", static_cast<int>(unix_us % 1'000'000));
  return out.data();
}

Result<LineReader> LineReader::open(const std::filesystem::path& path) {
  LineReader r;
  r.path_ = path.string();
  r.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (r.fd_ < 0) return fail(ErrorKind::kBadInput, r.path_ + ": " + std::strerror(errno));
  return r;
}

LineReader::LineReader(LineReader&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      buffer_(std::move(other.buffer_)),
      path_(std::move(other.path_)),
      at_(other.at_),
      ended_(other.ended_) {}

LineReader::~LineReader() {
  if (fd_ >= 0) ::close(fd_);
}

Result<bool> LineReader::next(std::string& line, bool& whole) {
  while (true) {
    const std::size_t end = buffer_.find('\n', at_);
    if (end != std::string::npos) {
      line.assign(buffer_, at_, end - at_);
      at_ = end + 1;
      whole = true;
      return true;
    }
    buffer_.erase(0, at_);
    at_ = 0;
    if (ended_) {
      line = std::move(buffer_);
      buffer_.clear();
      whole = false;
      return !line.empty();
    }
    if (buffer_.size() > kMaxLineBytes)
      return fail(ErrorKind::kBadInput, path_ + ": a line of more than " + std::to_string(kMaxLineBytes) + " bytes");
    std::array<char, 1 << 16> more;
    const ssize_t n = ::read(fd_, more.data(), more.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(ErrorKind::kFailed, path_ + ": " + std::strerror(errno));
    ended_ = n == 0;
    buffer_.append(more.data(), static_cast<std::size_t>(n));
  }
}

}  // namespace qw::governance
