#include "tensor/tensor.h"

#include <cstdlib>
#include <cstring>

namespace qw::tensor {

Shape::Shape(std::initializer_list<std::int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const std::int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  QW_CHECK(dims.size() <= kMaxRank);
  for (std::size_t i = 0; i < dims.size(); ++i) dims_[i] = dims[i];
}

std::int64_t Shape::elements() const {
  std::int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= (*this)[i];
  return n;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i > 0 ? ", " : "") + std::to_string((*this)[i]);
  return text + "]";
}

Result<std::int64_t> checked_elements(std::span<const std::int64_t> dims) {
  std::int64_t n = 1;
  for (const std::int64_t d : dims) {
    // 2^48 elements is far above any model and leaves room for a byte size in 64 bits.
    if (d < 0 || __builtin_mul_overflow(n, d, &n) || n > (std::int64_t{1} << 48)) {
      return fail(ErrorKind::kBadInput, "tensor size out of range: " + std::to_string(d));
    }
  }
  return n;
}

void Buffer::Free::operator()(std::byte* p) const { std::free(p); }

Buffer::Buffer(std::size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  const std::size_t rounded = (bytes + 63) / 64 * 64;
  data_.reset(static_cast<std::byte*>(std::aligned_alloc(64, rounded)));
  QW_CHECK(data_ != nullptr);  // memory needs are foreseen and refused before load
  std::memset(data_.get(), 0, rounded);
}

ConstView rows_of(const ConstView& view, std::int64_t begin, std::int64_t count) {
  QW_CHECK(begin >= 0 && count >= 0 && begin + count <= view.shape.rows());
  ConstView part = view;
  if (view.maker != nullptr) part.first_row += begin;
  else part.data += begin * row_bytes(view.dtype, view.shape.back());
  part.shape = Shape{count, view.shape.back()};
  return part;
}

ConstView in_memory(const ConstView& view, Buffer& own) {
  if (view.maker == nullptr) return view;
  own = Buffer(static_cast<std::size_t>(view.bytes()));
  view.maker->make_rows(view.first_row, view.shape.rows(), own.data());
  return {view.dtype, view.shape, own.data()};
}

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype),
      shape_(shape),
      buffer_(static_cast<std::size_t>(row_bytes(dtype, shape.back()) * shape.rows())) {}

}  // namespace qw::tensor
