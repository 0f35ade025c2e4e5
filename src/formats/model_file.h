// A model on disk, whichever format it has: its configuration and its tensors by name.
//
// The names of tensors and configuration keys differ between the formats; kind() says which ones apply
// (models::ParameterSpec carries both names).
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "formats/gguf.h"
#include "formats/hf_folder.h"
#include "formats/tensor_info.h"
#include "json/value.h"
#include "tensor/tensor.h"

namespace qw::formats {

enum class ModelKind { kGguf, kHfFolder };

class ModelSource {
 public:
  // A folder is opened as a Hugging Face model, a file by its first bytes as GGUF. kBadInput if it is neither.
  static Result<ModelSource> open(const std::filesystem::path& path);

  ModelKind kind() const { return gguf() != nullptr ? ModelKind::kGguf : ModelKind::kHfFolder; }
  const std::filesystem::path& path() const;
  // GGUF metadata (without arrays longer than GgufFile::kLongArray), or config.json.
  const json::Object& config() const;
  // generation_config.json; empty for GGUF or if absent.
  const json::Object& generation_config() const;

  const std::vector<TensorInfo>& tensors() const;
  const TensorInfo* find(std::string_view name) const;  // nullptr if absent
  // Views memory of this object, or is made by it (quantised folders; see tensor::ConstView). kBadInput: no such tensor; with `expected`: another shape.
  Result<tensor::ConstView> tensor(std::string_view name) const;
  Result<tensor::ConstView> tensor(std::string_view name, const tensor::Shape& expected) const;
  // Keeps a maker of rows as long as this object: whoever shows tensors of this source in another form leaves it here.
  const tensor::RowMaker* keep(std::unique_ptr<const tensor::RowMaker> maker) const;
  std::int64_t total_bytes() const;  // of all tensors as the files hold them

  const GgufFile* gguf() const { return std::get_if<GgufFile>(&source_); }  // nullptr for the other kind
  const HfFolder* hf_folder() const { return std::get_if<HfFolder>(&source_); }

 private:
  explicit ModelSource(std::variant<GgufFile, HfFolder> source);

  std::variant<GgufFile, HfFolder> source_;
  struct Kept;
  std::shared_ptr<Kept> kept_;
};

}  // namespace qw::formats
