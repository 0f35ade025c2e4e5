// A shape, a view that never owns, and an owner. Row-major; the last dimension is contiguous. Weights are [out, in].
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "tensor/dtype.h"

namespace qw::tensor {

class Shape {
 public:
  static constexpr int kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims);
  explicit Shape(std::span<const std::int64_t> dims);
  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return dims_[static_cast<std::size_t>(i)]; }
  std::int64_t back() const { return rank_ == 0 ? 1 : dims_[static_cast<std::size_t>(rank_ - 1)]; }
  std::int64_t elements() const;               // 1 for rank 0
  std::int64_t rows() const { return back() == 0 ? 0 : elements() / back(); }
  std::string to_string() const;               // "[2, 3]"
  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// Product of dims with overflow and negative-size checks, for sizes that come from files.
Result<std::int64_t> checked_elements(std::span<const std::int64_t> dims);

// Points into memory somebody else keeps alive (a mapped file, a Tensor, an arena).
struct ConstView {
  DType dtype = DType::kF32;
  Shape shape;
  const std::byte* data = nullptr;
  std::int64_t bytes() const { return row_bytes(dtype, shape.back()) * shape.rows(); }
  const float* f32() const { return reinterpret_cast<const float*>(data); }
};
struct View {
  DType dtype = DType::kF32;
  Shape shape;
  std::byte* data = nullptr;
  std::int64_t bytes() const { return row_bytes(dtype, shape.back()) * shape.rows(); }
  float* f32() const { return reinterpret_cast<float*>(data); }
  operator ConstView() const { return {dtype, shape, data}; }
};

// Memory aligned to 64 bytes (a cache line, and a zmm register), zeroed.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t bytes);
  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free { void operator()(std::byte* p) const; };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(DType dtype, Shape shape);
  View view() const { return {dtype_, shape_, buffer_.data()}; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  float* f32() const { return reinterpret_cast<float*>(buffer_.data()); }

 private:
  DType dtype_ = DType::kF32;
  Shape shape_;
  Buffer buffer_;
};

}  // namespace qw::tensor
