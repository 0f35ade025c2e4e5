#include "audit.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "base/sha256.h"
#include "open_model.h"
#include "policy.h"
#include "text_source.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;

Status both(const std::string& folder, const std::string& key_file) {
  if (folder.empty() == key_file.empty()) return {};
  return fail(ErrorKind::kUsage,
              "serve: --audit-log and --audit-key go together (qianwen govern audit key FILE makes one)");
}

// Of a file's contents; what went wrong instead of it. Ends early where `stop` says so.
std::string hash_of(const fs::path& path, const std::atomic<bool>& stop) {
  auto file = base::InputFile::open(path);
  if (!file) return file.error().message;
  base::Sha256 hash;
  std::vector<char> piece(std::size_t{1} << 20);
  while (!stop.load(std::memory_order_relaxed)) {
    const auto n = file->read(piece);
    if (!n) return n.error().message;
    if (*n == 0) return hash.hex();
    hash.update(std::string_view(piece.data(), *n));
  }
  return "not read to its end";
}

json::Value files_of(const std::string& name, const std::atomic<bool>& stop) {
  const auto path = resolve_model(name);
  json::Array out;
  if (!path) return out;
  std::vector<fs::path> files;
  std::error_code error;
  if (fs::is_directory(*path, error)) {
    for (const auto& entry : fs::directory_iterator(*path, error))
      if (entry.is_regular_file(error)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
  } else {
    files.emplace_back(*path);
  }
  for (const fs::path& file : files) {
    out.push_back(json::Object{{"name", file.filename().string()},
                               {"bytes", static_cast<std::int64_t>(fs::file_size(file, error))},
                               {"sha256", hash_of(file, stop)}});
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<governance::AuditLog>> open_audit(const std::string& folder, const std::string& key_file) {
  QW_TRY(both(folder, key_file));
  if (folder.empty()) return std::unique_ptr<governance::AuditLog>();
  QW_ASSIGN(governance::SigningKey key, governance::SigningKey::read(key_file));
  return governance::AuditLog::open(folder, std::move(key));
}

Status check_audit(const std::string& folder, const std::string& key_file) {
  QW_TRY(both(folder, key_file));
  if (folder.empty()) return {};
  return governance::SigningKey::read(key_file).map([](auto&&) {});
}

StartRecord::StartRecord(std::vector<std::string> models)
    : record_(std::async(std::launch::async, [this, models = std::move(models)] {
        json::Array all;
        for (const std::string& name : models)
          all.push_back(json::Object{{"model", served_name(name)}, {"files", files_of(name, stop_)}});
        return json::Object{{"type", "start"}, {"version", QW_VERSION}, {"models", std::move(all)}};
      })) {}

json::Object StartRecord::take(const governance::PolicySet* policies) {
  json::Object out = record_.get();
  if (policies != nullptr) out.set("policies", describe(*policies));
  return out;
}

StartRecord::~StartRecord() { stop_.store(true, std::memory_order_relaxed); }

}  // namespace qw::app
