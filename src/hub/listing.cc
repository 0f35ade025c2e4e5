#include "hub/listing.h"

#include <algorithm>
#include <set>

#include "base/utf8.h"
#include "json/value.h"

namespace qw::hub {
namespace {

// The largest repositories hold some thousand files.
constexpr std::size_t kMaxFiles = 100'000;
// Larger than any disk; keeps sums of a hundred thousand sizes within 64 bits.
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 46;

std::string shown(std::string_view path) { return "\"" + std::string(path.substr(0, 80)) + "\""; }

const std::string* text_of(const json::Value& object, const char* key) {
  const json::Value* v = object.find(key);
  return v != nullptr && v->is_string() ? &v->as_string() : nullptr;
}

bool is_sha256(const std::string& text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Result<std::uint64_t> size_of(const json::Value& object, const char* key, const std::string& path) {
  const json::Value* v = object.find(key);
  if (v == nullptr || !v->is_int() || v->as_int() < 0 || v->as_int() > kMaxBytes)
    return fail(ErrorKind::kBadInput, "the list of files gives no size for " + shown(path));
  return static_cast<std::uint64_t>(v->as_int());
}

// What both lists have in common: paths that are safe and there once.
Result<RemoteFile> checked(const std::string* path, std::set<std::string>& seen) {
  if (path == nullptr) return fail(ErrorKind::kBadInput, "the list of files has an entry without a path");
  if (!safe_path(*path)) return fail(ErrorKind::kBadInput, "the list of files has a path that is refused: " + shown(*path));
  if (!seen.insert(*path).second) return fail(ErrorKind::kBadInput, "the list of files has " + shown(*path) + " twice");
  if (seen.size() > kMaxFiles) return fail(ErrorKind::kBadInput, "the list of files is too long");
  return RemoteFile{*path, 0, ""};
}

Status set_sha256(RemoteFile& file, const json::Value& object, const char* key) {
  const json::Value* v = object.is_object() ? object.as_object().find_set(key) : nullptr;
  if (v == nullptr || (v->is_string() && v->as_string().empty())) return {};
  if (!v->is_string() || !is_sha256(v->as_string()))
    return fail(ErrorKind::kBadInput, "the list of files has a malformed sha256 for " + shown(file.path));
  file.sha256 = v->as_string();
  return {};
}

Result<RemoteFile> huggingface_file(const json::Value& entry, std::set<std::string>& seen) {
  QW_ASSIGN(RemoteFile file, checked(text_of(entry, "path"), seen));
  const json::Value* lfs = entry.is_object() ? entry.as_object().find_set("lfs") : nullptr;
  if (lfs == nullptr) {
    QW_ASSIGN(file.bytes, size_of(entry, "size", file.path));
    return file;
  }
  QW_ASSIGN(file.bytes, size_of(*lfs, "size", file.path));
  QW_TRY(set_sha256(file, *lfs, "oid"));
  return file;
}

}  // namespace

bool safe_path(std::string_view path) {
  // A path longer than this no file system takes (PATH_MAX, with room for the store's own folder).
  if (path.empty() || path.size() > 1024 || path.front() == '/' || !base::is_valid_utf8(path)) return false;
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 32 || c == 127 || c == '\\' || c == ':') return false;
  }
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view part = path.substr(at, end - at);
    if (part.empty() || part == "." || part == ".." || part.size() > 200) return false;
    at = end + 1;
  }
  return true;
}

Result<std::vector<RemoteFile>> parse_huggingface_tree(std::string_view answer) {
  QW_ASSIGN(const json::Value list, json::parse(answer));
  if (!list.is_array()) return fail(ErrorKind::kBadInput, "the list of files is not an array");
  std::vector<RemoteFile> files;
  std::set<std::string> seen;
  for (const json::Value& entry : list.as_array()) {
    const std::string* type = text_of(entry, "type");
    if (type != nullptr && *type == "directory") continue;
    QW_ASSIGN(RemoteFile file, huggingface_file(entry, seen));
    files.push_back(std::move(file));
  }
  return files;
}

Result<std::vector<RemoteFile>> parse_modelscope_files(std::string_view answer) {
  QW_ASSIGN(const json::Value whole, json::parse(answer));
  const json::Value* data = whole.find("Data");
  const json::Value* list = data != nullptr ? data->find("Files") : nullptr;
  if (list == nullptr || !list->is_array()) {
    const std::string* message = text_of(whole, "Message");
    return fail(ErrorKind::kBadInput, "no list of files in the answer" + (message != nullptr ? ": " + shown(*message) : ""));
  }
  std::vector<RemoteFile> files;
  std::set<std::string> seen;
  for (const json::Value& entry : list->as_array()) {
    const std::string* type = text_of(entry, "Type");
    if (type != nullptr && *type == "tree") continue;
    QW_ASSIGN(RemoteFile file, checked(text_of(entry, "Path"), seen));
    QW_ASSIGN(file.bytes, size_of(entry, "Size", file.path));
    QW_TRY(set_sha256(file, entry, "Sha256"));
    files.push_back(std::move(file));
  }
  return files;
}

std::string next_page(std::string_view link) {
  while (!link.empty()) {
    const std::size_t open = link.find('<'), close = link.find('>');
    if (open == std::string_view::npos || close == std::string_view::npos || close < open) return "";
    const std::size_t end = std::min(link.find('<', close), link.size());
    const std::string_view attributes = link.substr(close + 1, end - close - 1);
    if (attributes.find("rel=\"next\"") != std::string_view::npos || attributes.find("rel=next") != std::string_view::npos)
      return std::string(link.substr(open + 1, close - open - 1));
    link.remove_prefix(end);
  }
  return "";
}

}  // namespace qw::hub
