// One allocation for a table of float32 tensors: master weights, gradients, optimiser moments.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace qw::ops {

// Tensors lie one after the other in table order, each starting on a 64-byte boundary (padding floats stay zero), so
// optimisers, norms and checkpoints may walk `all()` in one go. Zeroed when made. Move-only.
class ParameterBuffer {
 public:
  ParameterBuffer() = default;
  explicit ParameterBuffer(std::vector<tensor::Shape> shapes);

  std::size_t size() const { return shapes_.size(); }
  const tensor::Shape& shape(std::size_t i) const { return shapes_[i]; }
  const std::vector<tensor::Shape>& shapes() const { return shapes_; }
  std::int64_t elements(std::size_t i) const { return shapes_[i].elements(); }
  float* data(std::size_t i) { return all_begin() + offsets_[i]; }
  const float* data(std::size_t i) const { return all_begin() + offsets_[i]; }
  std::span<float> tensor(std::size_t i) { return {data(i), static_cast<std::size_t>(elements(i))}; }
  std::span<const float> tensor(std::size_t i) const { return {data(i), static_cast<std::size_t>(elements(i))}; }
  std::int64_t offset(std::size_t i) const { return offsets_[i]; }  // in floats, from the start of all()
  std::span<float> all() { return {all_begin(), static_cast<std::size_t>(total_)}; }
  std::span<const float> all() const { return {all_begin(), static_cast<std::size_t>(total_)}; }
  void zero();

 private:
  float* all_begin() const { return reinterpret_cast<float*>(memory_.data()); }
  std::vector<tensor::Shape> shapes_;
  std::vector<std::int64_t> offsets_;
  std::int64_t total_ = 0;
  tensor::Buffer memory_;
};

}  // namespace qw::ops
