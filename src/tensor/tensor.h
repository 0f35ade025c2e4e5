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

// Rows that are computed when they are wanted: weights that a file holds in a form nothing computes with. Any thread.
class RowMaker {
 public:
  virtual ~RowMaker() = default;
  // Writes rows [begin, begin + count) to `out`, in the format of the view that carries this maker. Cannot fail: what
  // could be wrong was checked when the view was made.
  virtual void make_rows(std::int64_t begin, std::int64_t count, std::byte* out) const = 0;
};

// Points into memory somebody else keeps alive (a mapped file, a Tensor, an arena), or to a maker of rows.
struct ConstView {
  DType dtype = DType::kF32;
  Shape shape;
  const std::byte* data = nullptr;   // null with a maker
  const RowMaker* maker = nullptr;   // makes row first_row + i as row i of this view
  std::int64_t first_row = 0;
  bool empty() const { return data == nullptr && maker == nullptr; }
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

// Rows [begin, begin + count) as a view of shape [count, columns].
ConstView rows_of(const ConstView& view, std::int64_t begin, std::int64_t count);

// The view with its bytes in memory: itself, or made into `own`, which must live as long as the result.
ConstView in_memory(const ConstView& view, Buffer& own);

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
