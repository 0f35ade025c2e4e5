#include "model_identity.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/sha256.h"
#include "text_source.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kHashLetters = 64;

// Of a file's contents; what went wrong instead of it.
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

}  // namespace

json::Array hashed_files(const std::string& model, const std::atomic<bool>& stop) {
  const auto path = resolve_model(model);
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

Result<json::Object> model_identity(const std::string& model, const std::atomic<bool>& stop) {
  QW_TRY(resolve_model(model).map([](const auto&) {}));
  json::Array files = hashed_files(model, stop);
  if (stop.load()) return fail(ErrorKind::kInterrupted, "interrupted");
  if (files.empty()) return fail(ErrorKind::kBadInput, model + ": has no files");
  std::string all;
  for (const json::Value& file : files) {
    const std::string& hash = file.find("sha256")->as_string();
    if (hash.size() != kHashLetters)
      return fail(ErrorKind::kBadInput, model + ": " + file.find("name")->as_string() + ": " + hash);
    all += file.find("name")->as_string() + "\n" + hash + "\n";
  }
  const std::string hash = files.size() == 1 ? files[0].find("sha256")->as_string() : base::sha256_hex(all);
  return json::Object{{"files", std::move(files)}, {"sha256", hash}};
}

}  // namespace qw::app
