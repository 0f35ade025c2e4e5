#include "formats/internal/row_makers.h"

#include <algorithm>
#include <cstring>

#include "tensor/blocks.h"

namespace qw::formats::internal {
namespace {

using tensor::DType;

// Rows made together: neighbours share cache lines and words of the file.
constexpr std::int64_t kTileRows = 32;
// Which eighth of a word holds output 8 k + i.
constexpr int kAwqPlace[8] = {0, 4, 1, 5, 2, 6, 3, 7};

}  // namespace

float float_at(const tensor::ConstView& view, std::int64_t i) {
  float f = 0;
  tensor::decode_row(view.dtype, view.data + i * tensor::row_bytes(view.dtype, 1), 1, &f);
  return f;
}

int GroupedLayout::zero(std::int64_t g, std::int64_t o) const {
  const int per_word = 32 / bits;
  std::uint32_t word = qzeros[g * (out / per_word) + o / per_word];
  // One is added to the whole word, carries included: so the subtraction that made the file is undone even where a zero
  // point was 0 and borrowed from its neighbour.
  if (zeros_less_one) word += bits == 4 ? 0x11111111u : 0x01010101u;
  const int place = static_cast<int>(o % per_word);
  return static_cast<int>(word >> (bits * (awq ? kAwqPlace[place] : place)) & ((1u << bits) - 1));
}

// Codes of rows [begin, begin + count), count <= kTileRows, one after the other.
void GroupedMaker::codes(std::int64_t begin, std::int64_t count, std::uint8_t* to) const {
  const int per_word = 32 / w_.bits;
  const std::uint32_t mask = (1u << w_.bits) - 1;
  if (w_.awq) {
    for (std::int64_t i = 0; i < w_.in; ++i)
      for (std::int64_t r = 0; r < count; ++r) {
        const std::int64_t o = begin + r;
        to[r * w_.in + i] = static_cast<std::uint8_t>(w_.qweight[i * (w_.out / 8) + o / 8] >> (4 * kAwqPlace[o % 8]) & mask);
      }
    return;
  }
  for (std::int64_t word = 0; word < w_.in / per_word; ++word)
    for (std::int64_t r = 0; r < count; ++r) {
      const std::uint32_t packed = w_.qweight[word * w_.out + begin + r];
      for (int j = 0; j < per_word; ++j)
        to[r * w_.in + word * per_word + j] = static_cast<std::uint8_t>(packed >> (w_.bits * j) & mask);
    }
}

template <class Block>
void GroupedMaker::encode_q4(std::int64_t row, const std::uint8_t* q, std::byte* to) const {
  for (std::int64_t b = 0; b < w_.in / 32; ++b, q += 32) {
    const std::int64_t g = b * 32 / w_.group;
    Block block;
    block.d = tensor::f32_to_f16(w_.scale(g, row));
    if constexpr (std::is_same_v<Block, tensor::BlockQ4_Z>) block.zero = static_cast<std::uint16_t>(w_.zero(g, row));
    for (int j = 0; j < 16; ++j) block.q[j] = static_cast<std::uint8_t>(q[j] | q[j + 16] << 4);
    std::memcpy(to + b * static_cast<std::int64_t>(sizeof(block)), &block, sizeof(block));
  }
}

void GroupedMaker::encode_q8_0(std::int64_t row, const std::uint8_t* q, std::byte* to) const {
  for (std::int64_t b = 0; b < w_.in / 32; ++b, q += 32) {
    const std::int64_t g = b * 32 / w_.group;
    const int zero = w_.zero(g, row);
    tensor::BlockQ8_0 block;
    block.d = tensor::f32_to_f16(w_.scale(g, row));
    for (int j = 0; j < 32; ++j) block.q[j] = static_cast<std::int8_t>(q[j] - zero);
    std::memcpy(to + b * static_cast<std::int64_t>(sizeof(block)), &block, sizeof(block));
  }
}

void GroupedMaker::encode(std::int64_t row, const std::uint8_t* q, std::byte* to) const {
  if (type_ == DType::kQ4_0) return encode_q4<tensor::BlockQ4_0>(row, q, to);
  if (type_ == DType::kQ4_Z) return encode_q4<tensor::BlockQ4_Z>(row, q, to);
  if (type_ == DType::kQ8_0) return encode_q8_0(row, q, to);
  std::vector<float> scale(static_cast<std::size_t>(w_.groups)), value(static_cast<std::size_t>(w_.in));
  std::vector<int> zero(scale.size());
  for (std::size_t g = 0; g < scale.size(); ++g) {
    scale[g] = w_.scale(static_cast<std::int64_t>(g), row);
    zero[g] = w_.zero(static_cast<std::int64_t>(g), row);
  }
  for (std::int64_t i = 0; i < w_.in; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const auto g = static_cast<std::size_t>(w_.group_of.empty() ? i / w_.group : w_.group_of[at]);
    value[at] = scale[g] * static_cast<float>(q[i] - zero[g]);
  }
  tensor::encode_row(type_, value.data(), w_.in, to);
}

void GroupedMaker::make_rows(std::int64_t begin, std::int64_t count, std::byte* to) const {
  std::vector<std::uint8_t> tile(static_cast<std::size_t>(std::min(count, kTileRows) * w_.in));
  const std::int64_t bytes = tensor::row_bytes(type_, w_.in);
  for (std::int64_t at = 0; at < count; at += kTileRows) {
    const std::int64_t rows = std::min(kTileRows, count - at);
    codes(begin + at, rows, tile.data());
    for (std::int64_t r = 0; r < rows; ++r) encode(begin + at + r, tile.data() + r * w_.in, to + (at + r) * bytes);
  }
}

Fp8Maker::Fp8Maker(Fp8Layout layout, DType type) : w_(layout), type_(type) {
  for (int b = 0; b < 256; ++b) values_[b] = tensor::f8_e4m3_to_f32(static_cast<std::uint8_t>(b));
}

void Fp8Maker::make_rows(std::int64_t begin, std::int64_t count, std::byte* to) const {
  const std::int64_t down = (w_.rows + w_.block_rows - 1) / w_.block_rows;
  const std::int64_t across = (w_.columns + w_.block_columns - 1) / w_.block_columns;
  std::vector<float> row(static_cast<std::size_t>(w_.columns));
  for (std::int64_t r = begin; r < begin + count; ++r, to += tensor::row_bytes(type_, w_.columns)) {
    const std::int64_t scales = (r / w_.rows * down + r % w_.rows / w_.block_rows) * across;
    const std::uint8_t* from = w_.weight + r * w_.columns;
    for (std::int64_t b = 0; b < across; ++b) {
      const float scale = float_at(w_.scales, scales + b);
      const std::int64_t end = std::min(w_.columns, (b + 1) * w_.block_columns);
      for (std::int64_t c = b * w_.block_columns; c < end; ++c)
        row[static_cast<std::size_t>(c)] = values_[from[c]] * scale;
    }
    tensor::encode_row(type_, row.data(), w_.columns, to);
  }
}

}  // namespace qw::formats::internal
