// Float tensors and text metadata in one safetensors file: the shape of checkpoints and exported weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/safetensors.h"
#include "json/value.h"
#include "tensor/tensor.h"

namespace qw::train {

struct NamedTensor {
  std::string name;
  tensor::Shape shape;
  const float* data = nullptr;
  tensor::DType stored_as = tensor::DType::kF32;  // kF32, kBF16, or what `raw` is
  std::span<const std::byte> raw = {};            // in place of `data`: written as it is
  // In place of both: fills what is written as it is, when its turn comes.
  std::function<Status(std::vector<std::byte>&)> made = {};
};

// Replaces `path` atomically: after a crash or on a full disk the previous file is intact.
Status write_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                     const json::Object& metadata);

// Decodes a tensor to float32, whatever it is stored as; kBadInput when it is absent or has another shape.
Status read_tensor(const formats::Safetensors& file, const std::string& name, const tensor::Shape& shape, float* out);

}  // namespace qw::train
