// The exponential all kernels share: exp(x) = 2^n * p(r), n = round(x / ln 2), r = x - n ln 2 in two steps
// (Cody and Waite, "Software Manual for the Elementary Functions"), p a minimax polynomial on |r| <= ln(2) / 2.
//
// Error of a normal result, relative: 3.1e-9 from p, 1.6e-8 from r (half an ulp of ln(2)/2 plus 127 times the rounding
// of kLn2Low), and at most 2^-24 * (1 + 0.35 * 1.2 + 0.06) = 8.9e-8 from Horner's steps with fused multiply-adds: 1.1e-7
// in all. Separate multiplies and adds (portable) round each step twice, which adds 2.1e-8 + 2.1e-8: below 1.5e-7.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace qw::kernels {

inline constexpr float kExpRelativeError = 1.5e-7F;

inline constexpr float kLog2E = 1.44269504088896341F;
// 355/512: nine bits, so that n * kLn2High is exact for every n in range.
inline constexpr float kLn2High = 0.693359375F;
inline constexpr float kLn2Low = -2.12194440054690583e-4F;
// Below, exp is under half of the smallest denormal; above, it is over the largest float.
inline constexpr float kExpLowest = -104.0F;
inline constexpr float kExpHighest = 89.0F;
// Minimax for p(r) / exp(r) - 1 with p = 1 + r + r^2 (c2 + c3 r + ...), by Remez: 3.07e-9 over |r| <= 0.3467.
inline constexpr float kExpC2 = 0.499999934321F;
inline constexpr float kExpC3 = 0.16666520399F;
inline constexpr float kExpC4 = 0.0416683907835F;
inline constexpr float kExpC5 = 0.00836874510894F;
inline constexpr float kExpC6 = 0.00138145401768F;

inline float exp_scalar(float x) {
  if (x < kExpLowest) return 0.0F;
  if (x > kExpHighest) return std::numeric_limits<float>::infinity();
  if (x != x) return x;
  // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
  constexpr float kRound = 12582912.0F;
  const float n = (x * kLog2E + kRound) - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float p = kExpC6;
  p = p * r + kExpC5;
  p = p * r + kExpC4;
  p = p * r + kExpC3;
  p = p * r + kExpC2;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  // 2^n in two factors: n reaches 128 and -150, which one float exponent cannot hold.
  const auto i = static_cast<std::int32_t>(n);
  const std::int32_t half = i / 2;
  const auto power = [](std::int32_t e) { return std::bit_cast<float>((e + 127) << 23); };
  return p * power(half) * power(i - half);
}

}  // namespace qw::kernels
