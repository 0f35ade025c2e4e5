#include "identity_book.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "model_identity.h"
#include "text_source.h"

namespace qw::app {

namespace fs = std::filesystem;

std::string stamp_of(const std::string& model) {
  const auto path = resolve_model(model);
  if (!path) return "";
  std::string stamp;
  const auto note = [&stamp](const fs::path& file) {
    struct stat s {};
    if (::stat(file.c_str(), &s) == 0)
      stamp += file.filename().string() + ":" + std::to_string(s.st_ino) + ":" + std::to_string(s.st_size) + ":" +
               std::to_string(s.st_mtim.tv_sec) + ":" + std::to_string(s.st_mtim.tv_nsec) + "\n";
  };
  std::error_code error;
  if (!fs::is_directory(*path, error)) {
    note(*path);
    return stamp;
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(*path, error)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) note(file);
  return stamp;
}

Result<json::Object> IdentityBook::of(const std::string& model) {
  std::shared_ptr<Entry> entry;
  {
    const std::lock_guard lock(mutex_);
    auto& found = entries_[model];
    if (found == nullptr) found = std::make_shared<Entry>();
    entry = found;
  }
  const std::lock_guard lock(entry->mutex);
  const std::string stamp = stamp_of(model);
  if (!entry->identity.empty() && entry->stamp == stamp) return entry->identity;
  QW_ASSIGN(entry->identity, model_identity(model, stop_));
  entry->stamp = stamp;
  return entry->identity;
}

}  // namespace qw::app
