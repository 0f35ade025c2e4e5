#include "tensor/search_encode.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/result.h"
#include "tensor/groups.h"

namespace qw::tensor {
namespace {

using Byte = std::uint8_t;

// Groups whose greatest magnitude lies below this are zero: their inverse scales would not be finite.
constexpr float kZeroGroup = 1e-15f;

// v rounded to nearest even, inside [low, high]; a NaN (0 / 0) becomes low.
int level(float v, int low, int high) {
  if (!(v > static_cast<float>(low))) return low;
  if (v >= static_cast<float>(high)) return high;
  return static_cast<int>(std::lrint(v));
}

// v without its fraction, inside [0, high]; a NaN (values whose range overflows) becomes 0.
int truncated(float v, int high) {
  if (!(v > 0)) return 0;
  return v >= static_cast<float>(high) ? high : static_cast<int>(v);
}

float extreme_of(const float* x, int n) {  // the signed element of greatest magnitude
  float best = 0;
  for (int i = 0; i < n; ++i) best = std::fabs(x[i]) > std::fabs(best) ? x[i] : best;
  return best;
}

void put_half(Byte* p, float f) {
  const std::uint16_t h = f32_to_f16(f);
  std::memcpy(p, &h, 2);
}
float get_half(const Byte* p) {
  std::uint16_t h;
  std::memcpy(&h, p, 2);
  return f16_to_f32(h);
}

// Scale s with levels in [-levels, levels - 1] that makes sum w (x - s q)^2 least: the levels of 19 trial scales around
// extreme / -levels, each with its least-squares scale.
float fit_scale(const float* x, const float* w, int n, int levels) {
  const float extreme = extreme_of(x, n);
  if (std::fabs(extreme) < kZeroGroup) return 0;
  float best = 0, scale = 0;
  for (int t = -9; t <= 9; ++t) {
    const float inverse = -(static_cast<float>(levels) + 0.1f * static_cast<float>(t)) / extreme;
    float xq = 0, qq = 0;
    for (int i = 0; i < n; ++i) {
      const auto q = static_cast<float>(level(inverse * x[i], -levels, levels - 1));
      xq += w[i] * x[i] * q;
      qq += w[i] * q * q;
    }
    if (qq > 0 && xq * xq > best * qq) {
      scale = xq / qq;
      best = scale * xq;
    }
  }
  return scale;
}

struct Line {
  float scale = 0, min = 0;  // x ~ scale * q - min, min >= 0
};
struct LineSearch {
  float begin, step;  // of what is added to the number of levels to get a trial's inverse scale times the range
  int steps;
  bool absolute;  // least sum of |error| instead of squares
};

float line_error(const float* x, const float* w, int n, const int* q, Line line, bool absolute) {
  float error = 0;
  for (int i = 0; i < n; ++i) {
    const float d = line.scale * static_cast<float>(q[i]) - line.min - x[i];
    error += w[i] * (absolute ? std::fabs(d) : d * d);
  }
  return error;
}

// Scale and min for levels 0..max_level: trial levels by uniform division of the range, then weighted least squares.
Line fit_line(const float* x, const float* w, int n, int max_level, const LineSearch& search) {
  float low = *std::min_element(x, x + n), sum_w = 0, sum_x = 0;
  const float high = *std::max_element(x, x + n);
  low = std::min(low, 0.0f);
  if (!(high - low > kZeroGroup)) return {0, -low};
  for (int i = 0; i < n; ++i) {
    sum_w += w[i];
    sum_x += w[i] * x[i];
  }
  int q[32];
  const auto divide = [&](float inverse) {
    for (int i = 0; i < n; ++i) q[i] = level(inverse * (x[i] - low), 0, max_level);
  };
  Line best{(high - low) / static_cast<float>(max_level), -low};
  divide(1 / best.scale);
  float least = line_error(x, w, n, q, best, search.absolute);
  for (int t = 0; t <= search.steps; ++t) {
    divide((search.begin + search.step * static_cast<float>(t) + static_cast<float>(max_level)) / (high - low));
    float q1 = 0, qq = 0, xq = 0;
    for (int i = 0; i < n; ++i) {
      const auto l = static_cast<float>(q[i]);
      q1 += w[i] * l;
      qq += w[i] * l * l;
      xq += w[i] * l * x[i];
    }
    const float determinant = sum_w * qq - q1 * q1;
    if (!(determinant > 0)) continue;
    Line line{(sum_w * xq - sum_x * q1) / determinant, -(qq * sum_x - q1 * xq) / determinant};
    if (line.min < 0) line = {xq / qq, 0};
    const float error = line_error(x, w, n, q, line, search.absolute);
    if (error < least) {
      least = error;
      best = line;
    }
  }
  return best;
}

// The weights of the squared errors of a group: the caller's, tempered by the elements' own size, or the format's own.
enum class OwnWeights { kSquare, kSize, kSizeOverMean };
struct Weights {
  const float* importance;  // of the block, or nullptr
  float mean_square;        // of the block's elements, times a format's factor
  OwnWeights own;
  void of(const float* x, int begin, int n, float* w) const {
    float mean = 0;
    if (own == OwnWeights::kSizeOverMean) {
      for (int i = 0; i < n; ++i) mean += x[begin + i] * x[begin + i];
      mean = std::sqrt(mean / static_cast<float>(n));
    }
    for (int i = 0; i < n; ++i) {
      const float v = x[begin + i];
      w[i] = importance != nullptr ? importance[begin + i] * std::sqrt(mean_square + v * v)
             : own == OwnWeights::kSquare ? v * v
                                          : mean + std::fabs(v);
    }
  }
};
Weights weights_of(const float* x, int n, const float* importance, float factor, OwnWeights own) {
  float squares = 0;
  for (int i = 0; i < n; ++i) squares += x[i] * x[i];
  return {importance, factor * squares / static_cast<float>(n), own};
}

// ---- blocks of 32 ---------------------------------------------------------------------------------------------------

void put_nibbles(const int* q, Byte* out) {
  for (int j = 0; j < 16; ++j) out[j] = static_cast<Byte>((q[j] & 15) | (q[j + 16] & 15) << 4);
}
void put_fifth_bits(const int* q, Byte* out) {
  std::uint32_t bits = 0;
  for (int j = 0; j < 32; ++j) bits |= static_cast<std::uint32_t>(q[j] >> 4 & 1) << j;
  std::memcpy(out, &bits, 4);
}

constexpr LineSearch kImportantLine{-0.9f, 0.05f, 36, false};

// Q4_1 and Q5_1. Rounds as the reference does: quotients use the scale before it became a half, ties go up.
void encode_line32(const float* x, const float* importance, Byte* out, bool five) {
  const int top = five ? 31 : 15;
  int q[32];
  float scale, min;
  if (importance == nullptr) {
    min = *std::min_element(x, x + 32);
    scale = (*std::max_element(x, x + 32) - min) / static_cast<float>(top);
    const float inverse = scale != 0 && std::isfinite(1 / scale) ? 1 / scale : 0;
    for (int j = 0; j < 32; ++j) q[j] = truncated((x[j] - min) * inverse + 0.5f, top);
  } else {
    float w[32];
    weights_of(x, 32, importance, 1, OwnWeights::kSquare).of(x, 0, 32, w);
    const Line line = fit_line(x, w, 32, top, kImportantLine);
    scale = line.scale;
    min = -line.min;
    for (int j = 0; j < 32; ++j) q[j] = scale > 0 ? level((x[j] - min) / scale, 0, top) : 0;
  }
  put_half(out, scale);
  put_half(out + 2, min);
  if (five) put_fifth_bits(q, out + 4);
  put_nibbles(q, out + (five ? 8 : 4));
}

void encode_q5_0(const float* x, const float* importance, Byte* out) {
  int q[32];
  float scale;
  if (importance == nullptr) {
    scale = extreme_of(x, 32) / -16.0f;
    const float inverse = scale != 0 && std::isfinite(1 / scale) ? 1 / scale : 0;
    for (int j = 0; j < 32; ++j) q[j] = truncated(x[j] * inverse + 16.5f, 31);
  } else {
    float w[32];
    weights_of(x, 32, importance, 1, OwnWeights::kSquare).of(x, 0, 32, w);
    scale = fit_scale(x, w, 32, 16);
    for (int j = 0; j < 32; ++j) q[j] = scale != 0 ? level(x[j] / scale, -16, 15) + 16 : 16;
  }
  put_half(out, scale);
  put_fifth_bits(q, out + 2);
  put_nibbles(q, out + 6);
}

void encode_mxfp4(const float* x, Byte* out) {
  const float amax = std::fabs(extreme_of(x, 32));
  // The greatest level of E2M1 is 6 = 1.5 * 2^2.
  out[0] = static_cast<Byte>(amax > 0 ? std::clamp(std::ilogb(amax) - 2 + 127, 0, 254) : 0);
  const float scale = mxfp4_scale(out[0]);
  int q[32];
  for (int j = 0; j < 32; ++j) {
    q[j] = 0;
    for (int l = 1; l < 16; ++l) {
      const auto off = [&](int i) { return std::fabs(kMxfp4Levels[i] * scale - x[j]); };
      if (off(l) < off(q[j])) q[j] = l;
    }
  }
  put_nibbles(q, out + 1);
}

int nearest_iq4(float v) {
  if (!(v > kIq4Levels[0])) return 0;
  int above = 1;
  while (above < 15 && v >= kIq4Levels[above]) ++above;
  return v - kIq4Levels[above - 1] < kIq4Levels[above] - v ? above - 1 : above;
}

float fit_iq4(const float* x, const float* w) {
  const float extreme = extreme_of(x, 32);
  if (std::fabs(extreme) < kZeroGroup) return 0;
  float best = 0, scale = 0;
  for (int t = -8; t <= 7; ++t) {  // -8: the trial that maps the extreme to the greatest level instead of the least
    const float inverse = (t == -8 ? -static_cast<float>(kIq4Levels[0]) : static_cast<float>(t + kIq4Levels[0])) / extreme;
    float xq = 0, qq = 0;
    for (int j = 0; j < 32; ++j) {
      const float q = kIq4Levels[nearest_iq4(inverse * x[j])];
      xq += w[j] * q * x[j];
      qq += w[j] * q * q;
    }
    if (qq > 0 && xq * xq > best * qq) {
      scale = xq / qq;
      best = scale * xq;
    }
  }
  return scale;
}

void put_iq4(const float* x, float scale, Byte* out) {
  int q[32];
  for (int j = 0; j < 32; ++j) q[j] = nearest_iq4(scale != 0 ? x[j] / scale : 0);
  put_nibbles(q, out);
}

void encode_iq4_nl(const float* x, const float* importance, Byte* out) {
  float w[32];
  weights_of(x, 32, importance, 2, OwnWeights::kSquare).of(x, 0, 32, w);
  put_half(out, fit_iq4(x, w));
  put_iq4(x, get_half(out), out + 2);
}

void encode_iq4_xs(const float* x, const float* importance, Byte* out) {
  const Weights weights = weights_of(x, 256, importance, 2, OwnWeights::kSquare);
  float scales[8], w[32];
  for (int t = 0; t < 8; ++t) {
    weights.of(x, 32 * t, 32, w);
    scales[t] = fit_iq4(x + 32 * t, w);
  }
  std::memset(out, 0, 136);
  put_half(out, extreme_of(scales, 8) / -32.0f);
  const float d = get_half(out);
  std::uint16_t high = 0;
  for (int t = 0; t < 8; ++t) {
    const int s = d != 0 ? level(scales[t] / d, -32, 31) : 0;
    out[4 + t / 2] = static_cast<Byte>(out[4 + t / 2] | ((s + 32) & 15) << (t % 2 * 4));
    high = static_cast<std::uint16_t>(high | ((s + 32) >> 4) << (2 * t));
    put_iq4(x + 32 * t, d * static_cast<float>(s), out + 8 + 16 * t);
  }
  std::memcpy(out + 2, &high, 2);
}

// ---- super-blocks of 256 --------------------------------------------------------------------------------------------

// With scales and minima in place, the levels nearest to x under them as a reader will see them; `q` zero so far.
void requantise(DType type, const Byte* block, const float* x, int low, int high, int* q) {
  Groups8 groups[8];
  open_groups(type, block, 256, groups);
  for (int i = 0; i < 256; ++i) {
    const Groups8& g = groups[i / 32];
    const float scale = g.scale[i % 32 / 16];
    q[i] = scale != 0 ? level((x[i] + g.min[i % 32 / 16]) / scale, low, high) : std::max(low, 0);
  }
}

// Scales and minima of all groups of a super-block in `top` + 1 steps of their greatest.
struct SuperScales {
  float d = 0, dmin = 0;
  int scale[16] = {}, min[16] = {};
};
SuperScales round_lines(const Line* lines, int n, int top) {
  SuperScales s;
  for (int j = 0; j < n; ++j) {
    s.d = std::max(s.d, lines[j].scale);
    s.dmin = std::max(s.dmin, lines[j].min);
  }
  const float scales = s.d > 0 ? static_cast<float>(top) / s.d : 0, mins = s.dmin > 0 ? static_cast<float>(top) / s.dmin : 0;
  for (int j = 0; j < n; ++j) {
    s.scale[j] = level(scales * lines[j].scale, 0, top);
    s.min[j] = level(mins * lines[j].min, 0, top);
  }
  s.d /= static_cast<float>(top);
  s.dmin /= static_cast<float>(top);
  return s;
}

float group_error(const float* x, const float* importance, int n, float scale, float min, int low, int high) {
  float error = 0;
  const float inverse = scale != 0 ? 1 / scale : 0;
  for (int i = 0; i < n; ++i) {
    const float d = scale * static_cast<float>(level((x[i] + min) * inverse, low, high)) - min - x[i];
    error += (importance != nullptr ? importance[i] : 1.0f) * d * d;
  }
  return error;
}

// What the fits found was rounded group by group; the neighbouring steps of scale and min together often do better.
// The error is that of the levels a reader will see.
void refine(const float* x, const float* importance, int size, int levels, int top, SuperScales& s) {
  const float d = f16_to_f32(f32_to_f16(s.d)), dmin = f16_to_f32(f32_to_f16(s.dmin));
  constexpr int kReach = 2;
  for (int j = 0; j < 256 / size; ++j) {
    const float* group = x + j * size;
    const float* weights = importance != nullptr ? importance + j * size : nullptr;
    const int scale = s.scale[j], min = s.min[j];
    float least = INFINITY;
    for (int a = std::max(0, scale - kReach); a <= std::min(top, scale + kReach); ++a) {
      for (int b = std::max(0, min - kReach); b <= std::min(top, min + kReach); ++b) {
        const float error =
            group_error(group, weights, size, d * static_cast<float>(a), dmin * static_cast<float>(b), 0, levels);
        if (!(error < least)) continue;
        least = error;
        s.scale[j] = a;
        s.min[j] = b;
      }
    }
  }
}

void put_two_bits(const int* q, Byte* out) {  // 256 levels 0..3, four to a byte of each half
  for (int i = 0; i < 256; ++i) {
    Byte& b = out[i / 128 * 32 + i % 32];
    b = static_cast<Byte>(b | (q[i] & 3) << (i % 128 / 32 * 2));
  }
}

void encode_q2_k(const float* x, const float* importance, Byte* out) {
  const Weights weights = weights_of(x, 256, importance, 1, OwnWeights::kSize);
  Line lines[16];
  float w[16];
  for (int j = 0; j < 16; ++j) {
    weights.of(x, 16 * j, 16, w);
    lines[j] = fit_line(x + 16 * j, w, 16, 3, importance != nullptr ? kImportantLine : LineSearch{-0.5f, 0.1f, 15, true});
  }
  SuperScales s = round_lines(lines, 16, 15);
  refine(x, importance, 16, 3, 15, s);
  std::memset(out, 0, 84);
  for (int j = 0; j < 16; ++j) out[j] = static_cast<Byte>(s.scale[j] | s.min[j] << 4);
  put_half(out + 80, s.d);
  put_half(out + 82, s.dmin);
  int q[256];
  requantise(DType::kQ2_K, out, x, 0, 3, q);
  put_two_bits(q, out + 16);
}

// The step of d around `scale` with the least error of the levels a reader will see.
int best_q3_scale(const float* x, const float* importance, float d, float scale) {
  const int middle = d != 0 ? level(scale / d, -32, 31) : 0;
  int best = middle;
  float least = INFINITY;
  for (int s = std::max(-32, middle - 3); s <= std::min(31, middle + 3); ++s) {
    const float error = group_error(x, importance, 16, d * static_cast<float>(s), 0, -4, 3);
    if (!(error < least)) continue;
    least = error;
    best = s;
  }
  return best;
}

void encode_q3_k(const float* x, const float* importance, Byte* out) {
  const Weights weights = weights_of(x, 256, importance, 2, OwnWeights::kSquare);
  float scales[16], w[16];
  for (int j = 0; j < 16; ++j) {
    weights.of(x, 16 * j, 16, w);
    scales[j] = fit_scale(x + 16 * j, w, 16, 4);
  }
  std::memset(out, 0, 110);
  put_half(out + 108, extreme_of(scales, 16) / -32.0f);
  const float d = get_half(out + 108);
  for (int j = 0; j < 16; ++j) {
    const int s = best_q3_scale(x + 16 * j, importance == nullptr ? nullptr : importance + 16 * j, d, scales[j]) + 32;
    Byte& low = out[96 + j % 8];
    Byte& high = out[104 + j % 4];
    low = static_cast<Byte>(low | (s & 15) << (j / 8 * 4));
    high = static_cast<Byte>(high | (s >> 4) << (j / 4 * 2));
  }
  int q[256];
  requantise(DType::kQ3_K, out, x, -4, 3, q);
  for (int i = 0; i < 256; ++i) {
    const int stored = q[i] + 4;  // 0..7: two low bits, and the third in the mask
    q[i] = stored;
    if (stored > 3) out[i % 32] = static_cast<Byte>(out[i % 32] | 1 << (i / 32));
  }
  put_two_bits(q, out + 32);
}

void encode_q45_k(const float* x, const float* importance, Byte* out, bool five) {
  const Weights weights = weights_of(x, 256, importance, 2, OwnWeights::kSizeOverMean);
  const LineSearch own = five ? LineSearch{-0.5f, 0.1f, 15, false} : LineSearch{-1.0f, 0.1f, 20, false};
  Line lines[8];
  float w[32];
  for (int j = 0; j < 8; ++j) {
    weights.of(x, 32 * j, 32, w);
    lines[j] = fit_line(x + 32 * j, w, 32, five ? 31 : 15, importance != nullptr ? kImportantLine : own);
  }
  SuperScales s = round_lines(lines, 8, 63);
  refine(x, importance, 32, five ? 31 : 15, 63, s);
  std::memset(out, 0, five ? 176 : 144);
  put_half(out, s.d);
  put_half(out + 2, s.dmin);
  Byte* packed = out + 4;
  for (int j = 0; j < 4; ++j) {
    packed[j] = static_cast<Byte>(s.scale[j] | (s.scale[j + 4] >> 4) << 6);
    packed[j + 4] = static_cast<Byte>(s.min[j] | (s.min[j + 4] >> 4) << 6);
    packed[j + 8] = static_cast<Byte>((s.scale[j + 4] & 15) | (s.min[j + 4] & 15) << 4);
  }
  int q[256];
  requantise(five ? DType::kQ5_K : DType::kQ4_K, out, x, 0, five ? 31 : 15, q);
  Byte* low = out + (five ? 48 : 16);
  for (int i = 0; i < 256; ++i) {
    Byte& b = low[i / 64 * 32 + i % 32];
    b = static_cast<Byte>(b | (q[i] & 15) << (i % 64 / 32 * 4));
    if (q[i] > 15) out[16 + i % 32] = static_cast<Byte>(out[16 + i % 32] | 1 << (i / 32));
  }
}

void encode_q6_k(const float* x, const float* importance, Byte* out) {
  float scales[16], w[16];
  for (int j = 0; j < 16; ++j) {
    for (int i = 0; i < 16; ++i) w[i] = importance != nullptr ? importance[16 * j + i] : x[16 * j + i] * x[16 * j + i];
    scales[j] = fit_scale(x + 16 * j, w, 16, 32);
  }
  std::memset(out, 0, 210);
  const float d = extreme_of(scales, 16) / -128.0f;
  put_half(out + 208, d);
  for (int j = 0; j < 16; ++j) out[192 + j] = static_cast<Byte>(d != 0 ? level(scales[j] / d, -128, 127) : 0);
  int q[256];
  requantise(DType::kQ6_K, out, x, -32, 31, q);
  for (int i = 0; i < 256; ++i) {
    const int stored = q[i] + 32, half = i / 128, t = i % 128 / 32;
    Byte& low = out[64 * half + t % 2 * 32 + i % 32];
    Byte& high = out[128 + 32 * half + i % 32];
    low = static_cast<Byte>(low | (stored & 15) << (t / 2 * 4));
    high = static_cast<Byte>(high | (stored >> 4) << (2 * t));
  }
}

void encode_block(DType type, const float* x, const float* importance, Byte* out) {
  switch (type) {
    case DType::kQ4_1: return encode_line32(x, importance, out, false);
    case DType::kQ5_1: return encode_line32(x, importance, out, true);
    case DType::kQ5_0: return encode_q5_0(x, importance, out);
    case DType::kMXFP4: return encode_mxfp4(x, out);
    case DType::kIQ4_NL: return encode_iq4_nl(x, importance, out);
    case DType::kIQ4_XS: return encode_iq4_xs(x, importance, out);
    case DType::kQ2_K: return encode_q2_k(x, importance, out);
    case DType::kQ3_K: return encode_q3_k(x, importance, out);
    case DType::kQ4_K: return encode_q45_k(x, importance, out, false);
    case DType::kQ5_K: return encode_q45_k(x, importance, out, true);
    case DType::kQ6_K: return encode_q6_k(x, importance, out);
    default: QW_CHECK(!"encode_block: not a format of groups.h");
  }
}

}  // namespace

void encode_groups(DType type, const float* row, std::int64_t n, const float* importance, void* out) {
  const DTypeInfo& format = info(type);
  auto* block = static_cast<Byte*>(out);
  for (std::int64_t i = 0; i < n; i += format.block_elements, block += format.block_bytes) {
    encode_block(type, row + i, importance == nullptr ? nullptr : importance + i, block);
  }
}

}  // namespace qw::tensor
