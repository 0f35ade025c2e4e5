// What computes the rows of quantised weights (quantised_weights.h). Sizes and indices were checked by whoever makes one.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/tensor.h"

namespace qw::formats::internal {

// One element of a row of floats, of any of the types a scale may have.
float float_at(const tensor::ConstView& view, std::int64_t i);

// Integers with a scale and a zero point for each group of inputs and each output: w = scale (q - zero).
//   GPTQ  qweight [in / n, out], n = 32 / bits numbers of consecutive inputs in a word, lowest bits first
//   AWQ   qweight [in, out / 8], eight consecutive outputs in a word in the order 0 2 4 6 1 3 5 7
//   both  qzeros [groups, out / n], packed along the outputs (AWQ: in its order); scales [groups, out]
struct GroupedLayout {
  bool awq = false;
  int bits = 4;
  bool zeros_less_one = false;
  std::int64_t in = 0, out = 0, groups = 0, group = 0;
  const std::uint32_t* qweight = nullptr;
  const std::uint32_t* qzeros = nullptr;
  tensor::ConstView scales;
  std::vector<std::int32_t> group_of;  // of each input; empty: i / group

  int zero(std::int64_t g, std::int64_t o) const;
  float scale(std::int64_t g, std::int64_t o) const { return float_at(scales, g * out + o); }
};

class GroupedMaker final : public tensor::RowMaker {
 public:
  // `type`: Q4_0, Q4_Z or Q8_0 if they hold the values exactly (the caller knows), F16, BF16 or F32.
  GroupedMaker(GroupedLayout layout, tensor::DType type) : w_(std::move(layout)), type_(type) {}
  void make_rows(std::int64_t begin, std::int64_t count, std::byte* out) const override;

 private:
  void codes(std::int64_t begin, std::int64_t count, std::uint8_t* out) const;
  void encode(std::int64_t row, const std::uint8_t* codes, std::byte* out) const;
  template <class Block>
  void encode_q4(std::int64_t row, const std::uint8_t* codes, std::byte* out) const;
  void encode_q8_0(std::int64_t row, const std::uint8_t* codes, std::byte* out) const;

  GroupedLayout w_;
  tensor::DType type_;
};

// F8_E4M3 [.., rows, columns] times one scale for each block; the last blocks may be cut off.
struct Fp8Layout {
  const std::uint8_t* weight = nullptr;
  tensor::ConstView scales;            // [.., ceil(rows / block_rows), ceil(columns / block_columns)]
  std::int64_t rows = 0, columns = 0;  // of one matrix
  std::int64_t block_rows = 0, block_columns = 0;
};

class Fp8Maker final : public tensor::RowMaker {
 public:
  Fp8Maker(Fp8Layout layout, tensor::DType type);  // BF16 or F32
  void make_rows(std::int64_t begin, std::int64_t count, std::byte* out) const override;

 private:
  Fp8Layout w_;
  tensor::DType type_;
  float values_[256];
};

}  // namespace qw::formats::internal
