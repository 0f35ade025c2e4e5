#include "train/internal/nf4.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tensor/blocks.h"
#include "train/internal/dynamic_code.h"

namespace qw::train {
namespace {

constexpr float kLeastScale = 1e-38f;  // of a block of zeros, as bitsandbytes divides

// Up to here, inclusive, a level is nearest.
const std::array<float, 15>& nf4_bounds() {
  static const std::array<float, 15> bounds = [] {
    std::array<float, 15> b{};
    for (std::size_t i = 0; i < b.size(); ++i) b[i] = (Nf4::kLevels[i] + Nf4::kLevels[i + 1]) / 2;
    return b;
  }();
  return bounds;
}

std::uint8_t nf4_code(float x, const std::array<float, 15>& bounds) {
  std::uint8_t code = 0;
  for (const float bound : bounds) code = static_cast<std::uint8_t>(code + (x > bound ? 1 : 0));
  return code;
}

}  // namespace

// The paper's appendix E.
const std::array<float, 16> Nf4::kLevels{-1.0f,
                                         -0.6961928009986877f,
                                         -0.5250730514526367f,
                                         -0.39491748809814453f,
                                         -0.28444138169288635f,
                                         -0.18477343022823334f,
                                         -0.09105003625154495f,
                                         0.0f,
                                         0.07958029955625534f,
                                         0.16093020141124725f,
                                         0.24611230194568634f,
                                         0.33791524171829224f,
                                         0.44070982933044434f,
                                         0.5626170039176941f,
                                         0.7229568362236023f,
                                         1.0f};

Result<std::unique_ptr<Nf4>> Nf4::of(const tensor::ConstView& matrix, bool twice, tensor::DType made_as,
                                     base::ThreadPool& pool) {
  std::unique_ptr<Nf4> out(new Nf4(matrix.shape, made_as));
  const std::int64_t rows = matrix.shape.rows(), columns = matrix.shape.back(), n = rows * columns;
  const std::int64_t blocks = (n + kBlock - 1) / kBlock;
  out->codes_.assign(static_cast<std::size_t>((n + 1) / 2), 0);
  out->scales_.assign(static_cast<std::size_t>(blocks), 0);
  // So many rows are whole blocks.
  const std::int64_t together = kBlock / std::gcd(kBlock, columns);
  const auto& bounds = nf4_bounds();
  pool.parallel_for((rows + together - 1) / together, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> x(static_cast<std::size_t>(together * columns));
    for (std::int64_t g = begin; g < end; ++g) {
      const std::int64_t first = g * together, count = std::min(rows, first + together) - first;
      tensor::decode(tensor::rows_of(matrix, first, count), x.data());
      for (std::int64_t at = 0; at < count * columns; at += kBlock) {
        const std::int64_t whole = first * columns + at, length = std::min(kBlock, count * columns - at);
        float scale = 0;
        for (std::int64_t i = 0; i < length; ++i) {
          const float size = std::abs(x[static_cast<std::size_t>(at + i)]);
          scale = std::isfinite(size) ? std::max(scale, size) : std::numeric_limits<float>::infinity();
        }
        out->scales_[static_cast<std::size_t>(whole / kBlock)] = scale;
        const float by = 1 / std::max(scale, kLeastScale);
        for (std::int64_t i = 0; i < length; ++i) {
          const std::uint8_t code = nf4_code(x[static_cast<std::size_t>(at + i)] * by, bounds);
          out->codes_[static_cast<std::size_t>((whole + i) / 2)] |=
              static_cast<std::uint8_t>(i % 2 == 0 ? code << 4 : code);
        }
      }
    }
  });
  for (const float scale : out->scales_)
    if (!std::isfinite(scale)) return fail(ErrorKind::kBadInput, "a number that is not finite has no place in NF4");
  if (twice) out->quantise_scales(pool);
  return out;
}

void Nf4::quantise_scales(base::ThreadPool& pool) {
  const auto blocks = static_cast<std::int64_t>(scales_.size());
  scale_mean_ = static_cast<float>(std::accumulate(scales_.begin(), scales_.end(), 0.0) / static_cast<double>(blocks));
  for (float& scale : scales_) scale -= scale_mean_;
  constexpr std::int64_t kTogether = DynamicCode::kBlock;
  const auto close = kernels::code_kernels(base::Isa::kPortable).close;  // few numbers
  scale_codes_.resize(scales_.size());
  scale_scales_.resize(static_cast<std::size_t>((blocks + kTogether - 1) / kTogether));
  pool.parallel_for(static_cast<std::int64_t>(scale_scales_.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b)
      scale_scales_[static_cast<std::size_t>(b)] =
          close(DynamicCode::with_sign(), scales_.data() + b * kTogether, std::min(kTogether, blocks - b * kTogether),
                scale_codes_.data() + b * kTogether);
  });
  std::vector<float>().swap(scales_);
}

float Nf4::scale(std::int64_t block) const {
  const auto b = static_cast<std::size_t>(block);
  if (!scales_.empty()) return scales_[b];
  const float opened = scale_scales_[b / DynamicCode::kBlock] * DynamicCode::with_sign().values[scale_codes_[b]];
  return opened + scale_mean_;
}

tensor::ConstView Nf4::view() const {
  tensor::ConstView view;
  view.dtype = made_as_;
  view.shape = shape_;
  view.maker = this;
  return view;
}

std::int64_t Nf4::bytes() const {
  return static_cast<std::int64_t>(codes_.size() + scale_codes_.size() +
                                   (scales_.size() + scale_scales_.size()) * sizeof(float));
}

// Numbers [begin, end): of each block first the sixteen that there are, then which of them each is.
template <typename Number, typename Round>
void Nf4::open(std::int64_t begin, std::int64_t end, Round round, Number* out) const {
  Number levels[16];
  for (std::int64_t at = begin; at < end;) {
    const std::int64_t stop = std::min(end, (at / kBlock + 1) * kBlock);
    const float by = scale(at / kBlock);
    for (std::size_t c = 0; c < 16; ++c) levels[c] = round(by * kLevels[c]);
    const std::uint8_t* two = codes_.data() + at / 2;
    if (at % 2 != 0) *out++ = levels[*two++ & 15], ++at;
    for (; at + 1 < stop; at += 2, ++two) {
      *out++ = levels[*two >> 4];
      *out++ = levels[*two & 15];
    }
    if (at < stop) *out++ = levels[*two >> 4], ++at;
  }
}

void Nf4::make_rows(std::int64_t begin, std::int64_t count, std::byte* out) const {
  const std::int64_t columns = shape_.back(), first = begin * columns, end = first + count * columns;
  if (made_as_ == tensor::DType::kF32)
    open(
        first, end, [](float x) { return x; }, reinterpret_cast<float*>(out));
  else
    open(first, end, tensor::f32_to_bf16, reinterpret_cast<std::uint16_t*>(out));
}

}  // namespace qw::train
