#include "formats/weights_digest.h"

#include <algorithm>

#include "base/sha256.h"

namespace qw::formats {

Result<WeightsDigest> weights_digest(const std::filesystem::path& model) {
  std::vector<std::filesystem::path> paths;
  std::error_code code;
  if (std::filesystem::is_directory(model, code)) {
    for (const auto& entry : std::filesystem::directory_iterator(model, code))
      if (entry.path().extension() == ".safetensors" && entry.is_regular_file(code)) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    if (paths.empty()) return fail(ErrorKind::kBadInput, model.string() + ": holds no .safetensors file");
  } else {
    paths.push_back(model);
  }
  WeightsDigest out;
  base::Sha256 all;
  for (const auto& path : paths) {
    WeightsFile file{path.filename().string(), "", 0};
    QW_ASSIGN(file.sha256, base::sha256_file_hex(path));
    file.bytes = static_cast<std::uint64_t>(std::filesystem::file_size(path, code));
    all.update(file.sha256 + "  " + file.name + "\n");
    out.files.push_back(std::move(file));
  }
  out.sha256 = all.hex();
  return out;
}

}  // namespace qw::formats
