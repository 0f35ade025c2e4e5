// What every file format says about a tensor, and the order in which writers are given their data.
#pragma once

#include <string>

#include "tensor/tensor.h"

namespace qw::formats {

// Name, format and row-major shape ([out, in] for weights, whatever the file's own convention is).
struct TensorInfo {
  std::string name;
  tensor::DType dtype = tensor::DType::kF32;
  tensor::Shape shape;
  std::int64_t bytes() const { return tensor::row_bytes(dtype, shape.back()) * shape.rows(); }
};

}  // namespace qw::formats
