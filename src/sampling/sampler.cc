#include "sampling/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/rng.h"
#include "sampling/internal/select.h"

namespace qw::sampling {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

// Tokens this many nats below the best (after temperature) are left out of the draw: e^-45 each, so that even a
// vocabulary of 2^18 rows loses less than 1e-14 of its mass.
constexpr double kNegligibleNats = 45.0;

// log(sum(exp(x))) in a fixed order.
double log_sum_exp(std::span<const float> x, float max) {
  double sum = 0;
  for (const float v : x) sum += static_cast<double>(std::exp(v - max));
  return max + std::log(sum);
}

void set_weights(std::vector<Candidate>& candidates, float max, float temperature) {
  for (Candidate& c : candidates)
    c.weight = std::exp((static_cast<double>(c.logit) - max) / static_cast<double>(temperature));
}

double total_weight(const std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  return total;
}

}  // namespace

// Which ids the penalties act on, kept up to date token by token: an open hash table, at most half full.
class Sampler::Penalties {
 public:
  explicit Penalties(std::span<const TokenId> prompt) {
    for (const TokenId id : prompt) entry(id);
  }
  void reserve(std::size_t more) { resize(used_ + more); }
  void accept(TokenId id) { ++entry(id).count; }
  void apply(const SamplingParams& p, std::span<float> logits) const {
    for (const auto& [id, count] : table_) {
      if (id < 0 || static_cast<std::size_t>(id) >= logits.size()) continue;
      float& l = logits[static_cast<std::size_t>(id)];
      l = l > 0 ? l / p.repetition_penalty : l * p.repetition_penalty;
      if (count > 0) l -= p.presence_penalty + p.frequency_penalty * static_cast<float>(count);
    }
  }

 private:
  static constexpr TokenId kNobody = -1;  // ids are not negative
  struct Entry {
    TokenId id = kNobody;
    std::int32_t count = 0;  // times in the output; 0 for ids of the prompt only
  };
  // The entry of `id`, made if there is none.
  Entry& entry(TokenId id) {
    if (2 * (used_ + 1) > table_.size()) resize(2 * used_ + 8);
    Entry& e = place(id);
    used_ += e.id == kNobody;
    e.id = id;
    return e;
  }
  Entry& place(TokenId id) {
    const std::size_t mask = table_.size() - 1;
    std::size_t i = static_cast<std::uint32_t>(id) * std::size_t{0x9e3779b97f4a7c15u} >> 32 & mask;  // Knuth's multiplicative hash
    while (table_[i].id != kNobody && table_[i].id != id) i = (i + 1) & mask;
    return table_[i];
  }
  void resize(std::size_t entries) {
    const std::size_t size = std::bit_ceil(2 * entries + 2);
    if (size <= table_.size()) return;
    std::vector<Entry> old(size);
    old.swap(table_);
    for (const Entry& e : old)
      if (e.id != kNobody) place(e.id) = e;
  }

  std::vector<Entry> table_;
  std::size_t used_ = 0;
};

Sampler::Sampler(SamplingParams params, std::span<const TokenId> prompt, const VocabularyMask* mask,
                 std::vector<std::unique_ptr<LogitsProcessor>> processors)
    : params_(std::move(params)),
      tokens_(prompt.begin(), prompt.end()),
      prompt_tokens_(static_cast<std::int64_t>(prompt.size())),
      mask_(mask),
      processors_(std::move(processors)),
      works_ahead_(std::any_of(processors_.begin(), processors_.end(), [](const auto& p) { return p->works_ahead(); })) {
  if (params_.repetition_penalty != 1 || params_.presence_penalty != 0 || params_.frequency_penalty != 0)
    penalties_ = std::make_unique<Penalties>(prompt);
}
Sampler::~Sampler() = default;
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;

Status Sampler::prepare(std::int64_t vocab) {
  for (auto& p : processors_) QW_TRY(p->prepare({tokens_, prompt_tokens_}, vocab));
  return {};
}

bool Sampler::work_ahead(std::size_t steps) const {
  return std::all_of(processors_.begin(), processors_.end(), [&](const auto& p) { return p->work_ahead(steps); });
}

void Sampler::reserve(std::int64_t output_tokens) {
  tokens_.reserve(static_cast<std::size_t>(prompt_tokens_ + output_tokens));
  // Distinct tokens: a longer answer than this is rare, and 128 KB for each request are enough.
  constexpr std::int64_t kMostDistinct = 4096;
  if (penalties_) penalties_->reserve(static_cast<std::size_t>(std::min(output_tokens, kMostDistinct)));
}

Status Sampler::accept(TokenId id) {
  tokens_.push_back(id);
  if (penalties_) penalties_->accept(id);
  for (auto& p : processors_) QW_TRY(p->accept(id));
  return {};
}

bool Sampler::is_stop(TokenId id) const {
  return std::find(params_.stop_ids.begin(), params_.stop_ids.end(), id) != params_.stop_ids.end();
}

// Bias, penalties, processors, masks: everything that changes logits before temperature.
Status Sampler::edit(std::span<float> logits) const {
  for (const auto& [id, bias] : params_.logit_bias) logits[static_cast<std::size_t>(id)] += bias;
  if (penalties_) penalties_->apply(params_, logits);
  for (const auto& p : processors_) QW_TRY(p->apply(logits, {tokens_, prompt_tokens_}));
  forbid(logits, output_tokens());
  return {};
}

// Rows which are no tokens, and stop ids where output token `index` may not be one.
void Sampler::forbid(std::span<float> logits, std::int64_t index) const {
  if (mask_ != nullptr) {
    if (mask_->usable > 0 && mask_->usable < static_cast<std::int64_t>(logits.size()))
      std::fill(logits.begin() + mask_->usable, logits.end(), kForbidden);
    for (const TokenId id : mask_->holes) logits[static_cast<std::size_t>(id)] = kForbidden;
  }
  if (index < params_.min_tokens)
    for (const TokenId id : params_.stop_ids)
      if (id >= 0 && static_cast<std::size_t>(id) < logits.size()) logits[static_cast<std::size_t>(id)] = kForbidden;
}

// Keeps candidates by top-k, top-p and min-p, then draws by the inverse distribution function in ascending id order,
// unless a processor draws.
TokenId Sampler::choose(std::span<const float> logits, float max, std::span<const TokenId> between,
                        SamplerScratch& scratch) const {
  if (params_.temperature == 0 || params_.top_k == 1) return internal::first_equal(logits, max);
  std::vector<Candidate>& kept = scratch.candidates;
  const bool top_k = params_.top_k > 0 && params_.top_k < static_cast<std::int64_t>(logits.size());
  if (top_k) {
    internal::select_top_k(logits, params_.top_k, kept);
  } else {
    const double reach = kNegligibleNats * static_cast<double>(params_.temperature);
    internal::select_at_least(logits, static_cast<float>(max - reach), kept);
  }
  set_weights(kept, max, params_.temperature);
  if (params_.top_p < 1) internal::keep_top_p(kept, static_cast<double>(params_.top_p), total_weight(kept));
  if (params_.min_p > 0)
    std::erase_if(kept, [least = static_cast<double>(params_.min_p)](const Candidate& c) { return c.weight < least; });
  if (top_k || params_.top_p < 1)
    std::sort(kept.begin(), kept.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });

  if (kept.size() > 1)
    for (const auto& p : processors_)
      if (const auto taken = p->draw(kept, {tokens_, prompt_tokens_}, between)) return kept[*taken].id;

  const std::int64_t index = output_tokens() + static_cast<std::int64_t>(between.size());
  base::Rng rng(params_.seed, static_cast<std::uint64_t>(index));
  double left = rng.next_double() * total_weight(kept);
  for (const Candidate& c : kept) {
    left -= c.weight;
    if (left < 0) return c.id;
  }
  return kept.back().id;  // rounding used up the whole mass
}

TokenId Sampler::guess(std::span<float> logits, std::span<const TokenId> between, SamplerScratch& scratch) const {
  for (const auto& [id, bias] : params_.logit_bias)
    if (static_cast<std::size_t>(id) < logits.size()) logits[static_cast<std::size_t>(id)] += bias;
  if (penalties_) penalties_->apply(params_, logits);
  forbid(logits, output_tokens() + static_cast<std::int64_t>(between.size()));
  const internal::RowScan row = internal::scan(logits);
  if (!row.valid || row.max == kForbidden) return -1;
  return choose(logits, row.max, between, scratch);
}

Result<Sampled> Sampler::sample(std::span<float> logits, SamplerScratch& scratch) const {
  Sampled out;
  QW_TRY(sample(logits, scratch, out));
  return out;
}

Status Sampler::sample(std::span<float> logits, SamplerScratch& scratch, Sampled& out) const {
  out.logprob = 0;
  out.top.clear();
  if (params_.logprobs) scratch.raw.assign(logits.begin(), logits.end());
  QW_TRY(edit(logits));
  const internal::RowScan row = internal::scan(logits);
  if (!row.valid) return fail(ErrorKind::kFailed, "the model gave a logit which is not a number or infinite");
  if (row.max == kForbidden) return fail(ErrorKind::kFailed, "no token is allowed here");
  out.id = choose(logits, row.max, {}, scratch);
  return params_.logprobs ? report(scratch.raw, out.id, scratch, out) : Status();
}

Status Sampler::report(std::span<float> logits, TokenId id, SamplerScratch& scratch, Sampled& out) const {
  out.id = id;
  out.top.clear();
  const internal::RowScan row = internal::scan(logits);
  if (!row.valid) return fail(ErrorKind::kFailed, "the model gave a logit which is not a number or infinite");
  const double normaliser = log_sum_exp(logits, row.max);
  const auto logprob = [&](float logit) { return static_cast<float>(logit - normaliser); };
  out.logprob = logprob(logits[static_cast<std::size_t>(id)]);
  if (params_.top_logprobs == 0) return {};
  if (mask_ != nullptr)
    for (const TokenId hole : mask_->holes) logits[static_cast<std::size_t>(hole)] = kForbidden;
  const bool cut = mask_ != nullptr && mask_->usable > 0 && mask_->usable < static_cast<std::int64_t>(logits.size());
  internal::select_top_k(cut ? logits.first(static_cast<std::size_t>(mask_->usable)) : logits, params_.top_logprobs,
                         scratch.candidates);
  for (const Candidate& c : scratch.candidates) out.top.push_back({c.id, logprob(c.logit)});
  return {};
}

}  // namespace qw::sampling
