#include "likelihood.h"

#include <algorithm>
#include <cmath>

#include "commands.h"

namespace qw::app {
namespace {

float logprob_of(std::span<const float> logits, engine::TokenId id) {
  return static_cast<float>(logits[static_cast<std::size_t>(id)] - log_sum_exp(logits));
}

}  // namespace

double log_sum_exp(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - max);
  return max + std::log(sum);
}

double Likelihood::perplexity() const {
  return logprobs.empty() ? 1 : std::exp(nll / static_cast<double>(logprobs.size()));
}

Result<Likelihood> likelihood(engine::LoadedModel& model, std::span<const engine::TokenId> ids, std::int64_t context,
                              std::int64_t stride, formats::NpyWriter* logits, std::int32_t adapter) {
  Likelihood out;
  const auto total = static_cast<std::int64_t>(ids.size());
  Status written;
  std::int64_t scored = 0;  // tokens before this one are done
  for (std::int64_t begin = 0; scored < total; begin += stride) {
    const std::int64_t end = std::min(total, begin + context);
    const auto window = ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    QW_TRY(model.for_each_logits(window, [&](std::int64_t t, std::span<const float> row) {
      const std::int64_t at = begin + t;
      if (logits != nullptr && written && at >= scored) written = logits->append(row);
      if (at + 1 < end && at + 1 >= std::max<std::int64_t>(scored, 1)) {
        out.logprobs.push_back(logprob_of(row, ids[static_cast<std::size_t>(at + 1)]));
        out.nll -= out.logprobs.back();
      }
    }, adapter));
    QW_TRY(written);
    if (interrupted().load()) return fail(ErrorKind::kInterrupted, "interrupted");
    scored = end;
  }
  return out;
}

}  // namespace qw::app
