#include "sampling/params.h"

#include <cmath>

namespace qw::sampling {
namespace {

Status check_range(const char* name, float value, float low, float high) {
  if (std::isfinite(value) && value >= low && value <= high) return {};
  return fail(ErrorKind::kUsage, std::string(name) + " must be between " + std::to_string(low) + " and " +
                                     std::to_string(high) + ", not " + std::to_string(value));
}

// Wide enough for every published setting; beyond it a penalty or bias only makes the arithmetic overflow.
constexpr float kLargest = 1e4f;

}  // namespace

Status validate(const SamplingParams& p, std::int64_t vocab) {
  QW_TRY(check_range("temperature", p.temperature, 0, kLargest));
  QW_TRY(check_range("top_p", p.top_p, 0, 1));
  QW_TRY(check_range("min_p", p.min_p, 0, 1));
  QW_TRY(check_range("repetition_penalty", p.repetition_penalty, 1e-4f, kLargest));
  QW_TRY(check_range("presence_penalty", p.presence_penalty, -kLargest, kLargest));
  QW_TRY(check_range("frequency_penalty", p.frequency_penalty, -kLargest, kLargest));
  if (p.top_k < 0) return fail(ErrorKind::kUsage, "top_k must not be negative (0 keeps all tokens)");
  if (p.min_tokens < 0) return fail(ErrorKind::kUsage, "min_tokens must not be negative");
  if (p.top_logprobs < 0 || p.top_logprobs > kMaxTopLogprobs)
    return fail(ErrorKind::kUsage, "top_logprobs must be between 0 and " + std::to_string(kMaxTopLogprobs));
  if (p.top_logprobs > 0 && !p.logprobs) return fail(ErrorKind::kUsage, "top_logprobs needs logprobs");
  for (const auto& [id, bias] : p.logit_bias) {
    if (id < 0 || id >= vocab)
      return fail(ErrorKind::kUsage, "logit_bias: token id " + std::to_string(id) + " is outside the vocabulary");
    QW_TRY(check_range("logit_bias", bias, -kLargest, kLargest));
  }
  for (const std::string& s : p.stop)
    if (s.empty()) return fail(ErrorKind::kUsage, "stop: an empty string cannot end a text");
  return {};
}

}  // namespace qw::sampling
