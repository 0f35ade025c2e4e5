// Chooses the next token of one request from a row of logits.
//
// A choice is a pure function of (params, seed, index of the output token, tokens so far, logits, processors): it does not depend
// on batch mates, threads or earlier draws. No call sorts the vocabulary: candidates are selected by threshold first.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "sampling/logits_processor.h"
#include "sampling/params.h"

namespace qw::sampling {

struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0;                  // nats
};

struct Sampled {
  TokenId id = 0;
  // Log-softmax of the raw logits (before bias, penalties, masks, temperature); set if params.logprobs.
  float logprob = 0;
  std::vector<TokenLogprob> top;      // params.top_logprobs most likely usable tokens, most likely first
};

// Memory that one thread lends to every sampler it drives; grows to the vocabulary (or has that reserved), then
// allocates nothing.
struct SamplerScratch {
  std::vector<Candidate> candidates;
  std::vector<float> raw;             // the logits as the model gave them, kept when logprobs are wanted
};

class Sampler {
 public:
  // `params` must have passed validate(); `mask` must outlive the sampler (nullptr: every row is a token).
  Sampler(SamplingParams params, std::span<const TokenId> prompt, const VocabularyMask* mask = nullptr,
          std::vector<std::unique_ptr<LogitsProcessor>> processors = {});
  ~Sampler();
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;

  // Once, before the first sample(); `vocab` is the width of the rows.
  Status prepare(std::int64_t vocab);
  // Makes room for this many output tokens in all, so that neither sample() nor accept() allocates before there are more
  // (processors apart).
  void reserve(std::int64_t output_tokens);
  // LogitsProcessor::work_ahead of the processors, in turn: true once none has more to do than a little.
  bool work_ahead(std::size_t steps) const;
  bool works_ahead() const { return works_ahead_; }  // whether a processor does
  // Chooses the token which follows the tokens so far. Overwrites `logits`. kFailed if a logit is NaN or +infinity, or
  // if nothing is allowed.
  Result<Sampled> sample(std::span<float> logits, SamplerScratch& scratch) const;
  // The same, into memory that is used again.
  Status sample(std::span<float> logits, SamplerScratch& scratch, Sampled& out) const;
  // How likely `id` was where the model gave `logits`, as sample tells of the token it draws (params.logprobs): out.id is
  // `id`. Overwrites `logits`. kFailed if a logit is NaN or +infinity.
  Status report(std::span<float> logits, TokenId id, SamplerScratch& scratch, Sampled& out) const;
  // The token that would be drawn after the tokens so far and `between` if the model gave `logits` there, which are
  // overwritten: what another model's row means for this request. What processors do to logits, and what `between` does to
  // penalties, is left out of it; -1 if nothing can be drawn.
  TokenId guess(std::span<float> logits, std::span<const TokenId> between, SamplerScratch& scratch) const;
  // Appends a token to the output: the sampled one, or one decided elsewhere.
  Status accept(TokenId id);

  // Is `id` one of the stop ids (which end the request if it was drawn)?
  bool is_stop(TokenId id) const;
  const SamplingParams& params() const { return params_; }
  std::span<const TokenId> tokens() const { return tokens_; }     // prompt, then output
  std::int64_t prompt_tokens() const { return prompt_tokens_; }
  std::int64_t output_tokens() const { return static_cast<std::int64_t>(tokens_.size()) - prompt_tokens_; }

 private:
  class Penalties;
  Status edit(std::span<float> logits) const;
  void forbid(std::span<float> logits, std::int64_t index) const;
  TokenId choose(std::span<const float> logits, float max, std::span<const TokenId> between, SamplerScratch& scratch) const;

  SamplingParams params_;
  std::vector<TokenId> tokens_;
  std::int64_t prompt_tokens_ = 0;
  const VocabularyMask* mask_ = nullptr;
  std::vector<std::unique_ptr<LogitsProcessor>> processors_;
  bool works_ahead_ = false;
  std::unique_ptr<Penalties> penalties_;   // present when a penalty is on
};

}  // namespace qw::sampling
