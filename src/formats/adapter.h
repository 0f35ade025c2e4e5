// LoRA adapters on disk: folders as PEFT writes them, and GGUF files with general.type "adapter".
//
//   y = W x + s B (A x)        A [rank, in], B [out, rank], s = alpha / rank (rsLoRA: alpha / sqrt(rank))
//   DoRA: the rows of W + s B A are given the lengths of a magnitude vector [out].
// An adapter is read on its own; whether it fits a model is models/adapter.h's business. See docs/formats/adapters.md.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "formats/gguf.h"
#include "formats/model_file.h"
#include "formats/safetensors.h"
#include "json/value.h"
#include "tensor/tensor.h"

namespace qw::formats {

// One low-rank change of a weight.
struct AdapterPair {
  std::string name;              // of the weight, in the format's own naming ("model.layers.0.self_attn.q_proj.weight")
  tensor::ConstView a, b;        // [rank, in] and [out, rank]; with experts stacked (GGUF) three dimensions
  tensor::ConstView magnitude;   // [out]; empty: not DoRA
  float scale = 1;
  bool table = false;            // of a token table W [V, D]: W += s (B A)^T, and
  bool table_rows = false;       // A is [V, rank] here, not [rank, V]
};

// A tensor that takes the place of the base's own (modules_to_save, trained biases).
struct AdapterTensor {
  std::string name;
  tensor::ConstView view;
};

class Adapter {
 public:
  // kBadInput naming file, key or tensor: what is missing, what does not fit together, kinds of adapters that would be
  // computed wrongly (other methods than LoRA, initialisations that changed the base, biases inside adapters, ...).
  static Result<Adapter> open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  ModelKind kind() const { return kind_; }                             // whose names the tensors have
  const std::string& architecture() const { return architecture_; }    // GGUF: of the base; "" for PEFT
  const std::vector<AdapterPair>& pairs() const { return pairs_; }     // views memory of this object
  const std::vector<AdapterTensor>& replaced() const { return replaced_; }

 private:
  using File = std::variant<Safetensors, GgufFile>;
  Adapter(std::filesystem::path path, File file) : path_(std::move(path)), file_(std::move(file)) {}
  Status read_peft(const json::Object& config);
  Status read_gguf();

  std::filesystem::path path_;
  File file_;
  ModelKind kind_ = ModelKind::kHfFolder;
  std::string architecture_;
  std::vector<AdapterPair> pairs_;
  std::vector<AdapterTensor> replaced_;
};

}  // namespace qw::formats
