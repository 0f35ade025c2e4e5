// How likely a model finds a text.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/loaded_model.h"
#include "formats/npy.h"

namespace qw::app {

// ln of the sum of e^x: what logits are above their logarithms of probability.
double log_sum_exp(std::span<const float> logits);

struct Likelihood {
  std::vector<float> logprobs;  // nats, of the tokens that have something before them
  double nll = 0;               // minus their sum
  double perplexity() const;    // 1 if there are none
};

// Windows of `context` tokens, each starting `stride` after the one before (1 <= stride <= context <= the engine's
// longest sequence); a token is scored in the first window that holds it, so with stride < context every token (but the
// first window's) has at least context - stride before it. `logits`: if given, gets a row a token. kInterrupted when
// the user ends it.
Result<Likelihood> likelihood(engine::LoadedModel& model, std::span<const engine::TokenId> ids, std::int64_t context,
                              std::int64_t stride, formats::NpyWriter* logits = nullptr, std::int32_t adapter = -1);

}  // namespace qw::app
