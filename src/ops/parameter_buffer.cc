#include "ops/parameter_buffer.h"

#include <algorithm>

namespace qw::ops {
namespace {
constexpr std::int64_t kAlignFloats = 16;  // 64 bytes
}

ParameterBuffer::ParameterBuffer(std::vector<tensor::Shape> shapes) : shapes_(std::move(shapes)) {
  for (const auto& shape : shapes_) {
    offsets_.push_back(total_);
    total_ += (shape.elements() + kAlignFloats - 1) / kAlignFloats * kAlignFloats;
  }
  memory_ = tensor::Buffer(static_cast<std::size_t>(total_) * sizeof(float));
}

void ParameterBuffer::zero() { std::fill_n(all_begin(), total_, 0.0f); }

}  // namespace qw::ops
