// A frozen matrix in NF4, four bits a number (Dettmers et al., "QLoRA", 2023), as bitsandbytes keeps it.
//
// Blocks of 64 numbers, row after row, whether a row's end lies in one or not. A block's scale is its largest
// magnitude; each number is the nearest of sixteen levels, quantiles of the normal distribution, over the scale; of two
// in a byte the first has the upper half. Twice quantised, a matrix's scales less their mean stand in 8 bits
// themselves, in blocks of 256 with DynamicCode: 4.13 bits a number in place of 4.5.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace qw::train {

class Nf4 final : public tensor::RowMaker {
 public:
  static constexpr std::int64_t kBlock = 64;
  static const std::array<float, 16> kLevels;

  // Of a matrix in any format, whose rows are made as `made_as` (bfloat16 or float32) afterwards. The same bytes for
  // any number of threads. kBadInput: a number is not finite.
  static Result<std::unique_ptr<Nf4>> of(const tensor::ConstView& matrix, bool twice, tensor::DType made_as,
                                         base::ThreadPool& pool);

  // The matrix as products take it; valid as long as this object.
  tensor::ConstView view() const;
  std::int64_t bytes() const;
  void make_rows(std::int64_t begin, std::int64_t count, std::byte* out) const override;

  // For tests.
  const std::vector<std::uint8_t>& codes() const { return codes_; }
  float scale(std::int64_t block) const;

 private:
  Nf4(tensor::Shape shape, tensor::DType made_as) : shape_(shape), made_as_(made_as) {}
  void quantise_scales(base::ThreadPool& pool);
  template <typename Number, typename Round>
  void open(std::int64_t begin, std::int64_t end, Round round, Number* out) const;

  tensor::Shape shape_;
  tensor::DType made_as_;
  std::vector<std::uint8_t> codes_;        // two a byte
  std::vector<float> scales_;              // of blocks; empty when they are quantised
  std::vector<std::uint8_t> scale_codes_;  // else these,
  std::vector<float> scale_scales_;        // their scales,
  float scale_mean_ = 0;                   // and what was taken off
};

}  // namespace qw::train
