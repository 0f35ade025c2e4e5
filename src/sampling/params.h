// What a request may ask of the sampler. Plain values; `validate` is the one place which judges them.
//
// The order in which they act (the first three as Hugging Face's generate() does, penalties as OpenAI describes them):
//   logit_bias, repetition penalty over prompt + output, presence and frequency penalties over the output only, logits
//   processors (grammar, watermark, forced tokens), masked ids, then temperature, top-k, top-p, min-p, and the draw.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tokenizer/tokenizer.h"

namespace qw::sampling {

using tokenizer::TokenId;

// More alternatives than this per token would make events larger than any client reads (OpenAI allows 20).
inline constexpr std::int32_t kMaxTopLogprobs = 128;

struct SamplingParams {
  float temperature = 1.0f;         // 0: greedy, the most likely token; ties go to the lower id
  std::int32_t top_k = 0;           // keep the k most likely; 0: all. Exactly k are kept: ties go to lower ids
  float top_p = 1.0f;               // keep the smallest most-likely set with at least this mass (of what top_k left)
  float min_p = 0.0f;               // keep tokens at least this fraction as likely as the most likely one
  float repetition_penalty = 1.0f;  // logit > 0 ? l / p : l * p for every id in prompt or output
  float presence_penalty = 0.0f;    // subtracted once for every id in the output
  float frequency_penalty = 0.0f;   // subtracted per occurrence in the output
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::uint64_t seed = 0;           // the draw for output token i depends on (seed, i) and the logits only
  bool logprobs = false;            // report log-probabilities under the untouched model distribution
  std::int32_t top_logprobs = 0;    // how many alternatives to report with each token; needs logprobs
  std::vector<TokenId> stop_ids;    // ids which end the request (the end-of-turn tokens of the model, usually)
  std::vector<std::string> stop;    // strings which end it; acted on by TextStream, not by the sampler
  std::int32_t min_tokens = 0;      // stop ids cannot be drawn, and stop strings do not count, before this many tokens
};

// kUsage naming the field. `vocab` is the number of logits a row holds.
Status validate(const SamplingParams& params, std::int64_t vocab);

// Rows of the logits which are no tokens: an embedding table may be larger than the tokenizer, which may have holes.
struct VocabularyMask {
  std::int64_t usable = 0;          // ids >= usable are never drawn; 0 means the whole row is usable
  std::vector<TokenId> holes;       // ids below `usable` which are never drawn
};
VocabularyMask vocabulary_mask(const tokenizer::Tokenizer& tokenizer, std::int64_t vocab);

}  // namespace qw::sampling
