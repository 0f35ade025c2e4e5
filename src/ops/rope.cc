#include "ops/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace qw::ops {
namespace {

// The pair index at which a wave makes `turns` turns over the original context (YaRN, equation 17).
double correction_index(const RopeSpec& s, double turns) {
  return s.rotary * std::log(static_cast<double>(s.original_context) / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(static_cast<double>(s.theta)));
}

// Share of interpolation (1) against extrapolation (0) for pair i.
double yarn_ramp(const RopeSpec& s, int i) {
  const double low = std::max(std::floor(correction_index(s, static_cast<double>(s.beta_fast))), 0.0);
  const double high = std::min(std::ceil(correction_index(s, static_cast<double>(s.beta_slow))), s.rotary - 1.0);
  return std::clamp((i - low) / std::max(high - low, 0.001), 0.0, 1.0);
}

// Prompts of up to 2^30 contexts: more than positions can count.
constexpr int kNtkLevels = 31;

std::vector<float> ntk_frequencies(const RopeSpec& s) {
  std::vector<float> frequencies;
  for (int level = 0; level < kNtkLevels; ++level) {
    const double alpha = level == 0 ? 1.0 : std::ldexp(1.0, level + 1) - 1;
    const double base = static_cast<double>(s.theta) * std::pow(alpha, s.rotary / (s.rotary - 2.0));
    for (int i = 0; i < s.rotary / 2; ++i) frequencies.push_back(static_cast<float>(std::pow(base, -2.0 * i / s.rotary)));
  }
  return frequencies;
}

// Factor of a row's cos and sin.
double row_scale(const RopeSpec& s, std::int32_t position, std::int64_t prompt_tokens) {
  double scale = s.scaling == RopeScaling::kYarn ? static_cast<double>(s.attention_factor) : 1.0;
  const double i = position + 1.0;
  if (s.logn_context > 0 && i > static_cast<double>(s.logn_context))
    scale *= std::log(i) / std::log(static_cast<double>(s.logn_context));
  const double n = std::max(i, static_cast<double>(prompt_tokens));
  if (s.growth_context > 0 && n > static_cast<double>(s.growth_context))
    scale *= 0.1 * std::log(n / static_cast<double>(s.growth_context)) + 1;
  return scale;
}

void rotate(const Machine& m, const RopeSpec& s, const float* cos, const float* sin, std::int64_t rows,
            std::int64_t width, float* x, bool inverse) {
  const std::int64_t half = s.rotary / 2;
  for_rows(m.pool, rows, [&](std::int64_t begin, std::int64_t end) {
    m.kernels.rope(x + begin * width, width, end - begin, width / s.head_dim, s.head_dim, s.rotary, cos + begin * half,
                   sin + begin * half, inverse);
  });
}

}  // namespace

int ntk_level(const RopeSpec& s, std::int64_t prompt_tokens) {
  if (static_cast<double>(prompt_tokens) <= static_cast<double>(s.original_context)) return 0;
  // Quotients of logarithms as the reference takes them: at exact powers their rounding decides.
  const double doublings = std::log(static_cast<double>(prompt_tokens) / static_cast<double>(s.original_context)) / std::log(2.0);
  return std::clamp(static_cast<int>(std::ceil(doublings + 1)) - 1, 0, kNtkLevels - 1);
}

RopeSpec as_trained(RopeSpec spec) {
  if (spec.scaling == RopeScaling::kDynamicNtk) spec.scaling = RopeScaling::kNone;
  spec.logn_context = spec.growth_context = 0;
  spec.chunk = spec.chunk_reach = 0;
  spec.view = ChunkView::kOwn;
  return spec;
}

bool looks_at_prompts(const RopeSpec& s) { return s.scaling == RopeScaling::kDynamicNtk || s.growth_context > 0; }

std::int64_t prompt_form(const RopeSpec& s, std::int64_t prompt_tokens) {
  if (s.growth_context > 0 && static_cast<double>(prompt_tokens) > static_cast<double>(s.growth_context)) return prompt_tokens;
  return s.scaling == RopeScaling::kDynamicNtk ? ntk_level(s, prompt_tokens) : 0;
}

std::int64_t rope_place(const RopeSpec& s, std::int64_t position) {
  if (s.chunk == 0) return position;
  const std::int64_t own = position % s.chunk;
  if (s.view == ChunkView::kOwn) return own;
  return std::min(s.chunk + (s.view == ChunkView::kBefore ? own : s.chunk - 1), s.chunk_reach);
}

std::vector<float> rope_frequencies(const RopeSpec& s) {
  if (s.scaling == RopeScaling::kDynamicNtk) return ntk_frequencies(s);
  std::vector<float> frequencies(static_cast<std::size_t>(s.rotary / 2));
  for (int i = 0; i < s.rotary / 2; ++i) {
    const double plain = std::pow(static_cast<double>(s.theta), -2.0 * i / s.rotary);
    double f = plain;
    if (s.scaling == RopeScaling::kLinear) f = plain / static_cast<double>(s.factor);
    if (s.scaling == RopeScaling::kYarn) {
      const double ramp = yarn_ramp(s, i);
      f = plain / static_cast<double>(s.factor) * ramp + plain * (1 - ramp);
    }
    frequencies[static_cast<std::size_t>(i)] = static_cast<float>(f);
  }
  return frequencies;
}

void rope_angles(const Machine& m, const RopeSpec& spec, const std::vector<float>& frequencies,
                 const std::int32_t* positions, const std::int32_t* prompts, std::int64_t rows, float* cos, float* sin) {
  const std::int64_t half = spec.rotary / 2;
  for_rows(m.pool, rows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t prompt = prompts == nullptr ? 0 : prompts[r];
      const double scale = row_scale(spec, positions[r], prompt);
      const auto place = static_cast<float>(rope_place(spec, positions[r]));
      const float* turns = frequencies.data() + (spec.scaling == RopeScaling::kDynamicNtk ? ntk_level(spec, prompt) * half : 0);
      for (std::int64_t i = 0; i < half; ++i) {
        // The product is rounded to float, as the reference does: at long positions the rounding is visible.
        const float angle = place * turns[i];
        cos[r * half + i] = static_cast<float>(std::cos(static_cast<double>(angle)) * scale);
        sin[r * half + i] = static_cast<float>(std::sin(static_cast<double>(angle)) * scale);
      }
    }
  });
}

void rope_forward(const Machine& m, const RopeSpec& spec, const float* cos, const float* sin, std::int64_t rows,
                  std::int64_t width, float* x) {
  rotate(m, spec, cos, sin, rows, width, x, false);
}

void rope_backward(const Machine& m, const RopeSpec& spec, const float* cos, const float* sin, std::int64_t rows,
                   std::int64_t width, float* dy) {
  rotate(m, spec, cos, sin, rows, width, dy, true);
}

}  // namespace qw::ops
