#include "formats/hf_folder.h"

#include <algorithm>
#include <vector>

#include "base/file.h"

namespace qw::formats {
namespace {

namespace fs = std::filesystem;

// A configuration is a few kilobytes; 16 MiB leaves room for long per-layer tables.
constexpr std::uint64_t kMaxConfigBytes = 16 << 20;

// The file that Safetensors::open is to read.
Result<fs::path> find_weights(const fs::path& folder) {
  std::error_code ignored;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    if (fs::exists(folder / name, ignored)) return folder / name;
  }
  std::vector<fs::path> found;
  bool pytorch = false;
  for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end; it.increment(ignored)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(".safetensors") && !name.starts_with("adapter_")) found.push_back(it->path());
    pytorch |= name.starts_with("pytorch_model") && name.ends_with(".bin");
  }
  if (found.size() == 1) return found.front();
  const std::string where = folder.string() + ": ";
  if (found.size() > 1)
    return fail(ErrorKind::kBadInput, where + "several .safetensors files but no model.safetensors.index.json");
  if (pytorch)
    return fail(ErrorKind::kBadInput, where + "PyTorch .bin weights are not supported; convert them to safetensors");
  return fail(ErrorKind::kBadInput, where + "no model.safetensors");
}

}  // namespace

Result<json::Object> read_json_object(const fs::path& path) {
  QW_ASSIGN(const std::string text, base::read_file(path, kMaxConfigBytes));
  auto value = json::parse(text);
  if (!value) return in_context(path.string(), std::move(value).error());
  if (!value->is_object()) return fail(ErrorKind::kBadInput, path.string() + ": not a JSON object");
  return std::move(value->as_object());
}

Result<HfFolder> HfFolder::open(const fs::path& folder) {
  QW_ASSIGN(auto config, read_json_object(folder / "config.json"));
  json::Object generation;
  std::error_code ignored;
  if (fs::exists(folder / "generation_config.json", ignored)) {
    QW_ASSIGN(generation, read_json_object(folder / "generation_config.json"));
  }
  QW_ASSIGN(const fs::path weights_path, find_weights(folder));
  QW_ASSIGN(auto weights, Safetensors::open(weights_path));
  HfFolder result(std::move(weights));
  result.path_ = folder;
  result.config_ = std::move(config);
  result.generation_config_ = std::move(generation);
  return result;
}

}  // namespace qw::formats
