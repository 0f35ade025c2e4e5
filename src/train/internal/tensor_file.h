// Float tensors and text metadata in one safetensors file: the shape of checkpoints and exported weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tensor/tensor.h"

namespace qw::train {

struct NamedTensor {
  std::string name;
  tensor::Shape shape;
  const float* data = nullptr;
  tensor::DType stored_as = tensor::DType::kF32;  // kF32 or kBF16
};
using Metadata = std::vector<std::pair<std::string, std::string>>;

// Replaces `path` atomically: after a crash or on a full disk the previous file is intact.
Status write_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors, const Metadata& metadata);

// A safetensors file mapped into memory.
class TensorFile {
 public:
  static Result<TensorFile> open(const std::filesystem::path& path);
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool has(const std::string& name) const { return tensors_.contains(name); }
  // Decodes a tensor to float32; an error when it is absent or has another shape.
  Status read(const std::string& name, const tensor::Shape& shape, float* out) const;

 private:
  base::MappedFile file_;
  std::map<std::string, tensor::ConstView> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace qw::train
