// A StepExecutor for tests: a language model made of a hash. It keeps nothing but a paged cache of what the tokens were
// (and with which adapter), so wrong tables, lost or wrongly shared blocks or a bad order show up as different logits;
// and it is batch-invariant by construction. With states it also carries a hash from token to token, as recurrent
// layers do, and checks that each state is where its rows begin. An adapter is a voice: a number that changes how tokens
// are read.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <vector>

#include "base/rng.h"
#include "engine/step_executor.h"
#include "kvcache/block_pool.h"
#include "kvcache/state_pool.h"

namespace qw::engine {

class FakeExecutor final : public StepExecutor {
 public:
  FakeExecutor(const kvcache::BlockPool& pool, std::int64_t vocab, std::int64_t max_rows, std::int64_t max_logit_rows,
               kvcache::StatePool* states = nullptr, std::int32_t adapters = 0)
      : pool_(pool),
        block_tokens_(pool.shape().block_tokens),
        vocab_(vocab),
        max_rows_(max_rows),
        max_logit_rows_(max_logit_rows),
        states_(states),
        logits_(static_cast<std::size_t>(vocab * max_logit_rows)) {
    QW_CHECK(pool.shape().dtype == tensor::DType::kF32);  // a token takes the place of its first key
    for (std::int32_t a = 0; a < adapters; ++a) voice_of_slot_.push_back(a);
  }

  // What the model knows after a text: the hash of its tokens, each with its voice (FNV-1a).
  static std::uint64_t begin() { return 1469598103934665603u; }
  static std::uint64_t after(std::uint64_t hash, std::int32_t seen) {
    return (hash ^ static_cast<std::uint64_t>(seen)) * 1099511628211u;
  }
  static std::int32_t seen(std::int32_t token, std::int32_t voice) { return token + (voice + 1) * 1000; }
  // Its logits then.
  static void speak(std::uint64_t hash, std::span<float> logits) {
    base::Rng rng(hash);
    for (float& l : logits) l = rng.next_float() * 4;
  }
  // With `habits`: after each token another is likelier, whatever stood before, in circles of twelve, so that texts repeat
  // themselves and look-ups find something. Of vocabularies of at least 32.
  static void lean(std::int32_t last, std::span<float> logits) { logits[static_cast<std::size_t>(20 + (last * 7 + 3) % 12)] += 4; }

  Status run(const ops::StepBatch& b) override {
    ++runs;
    if (keep_rows_of_runs) rows_of_runs.push_back(b.tokens.size());
    if (before_run) before_run();
    if (fail_next) {
      fail_next = false;
      return fail(ErrorKind::kFailed, "the device is gone");
    }
    QW_CHECK(static_cast<std::int64_t>(b.tokens.size()) <= max_rows_);
    QW_CHECK(static_cast<std::int64_t>(b.logit_rows.size()) <= max_logit_rows_);
    for (std::size_t r = 0; r < b.tokens.size(); ++r) {
      const std::int32_t what = seen(b.tokens[r], b.adapters.empty() ? -1 : voice(b.adapters[r]));
      slot(b, r, b.positions[r]) = what;
      if (states_ != nullptr) carry(b, r, what);
    }
    last_ = b;
    return compute_logits(b.logit_rows);
  }
  Status compute_logits(std::span<const std::int32_t> rows) override {
    QW_CHECK(static_cast<std::int64_t>(rows.size()) <= max_logit_rows_);
    const ops::StepBatch& b = last_;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const auto r = static_cast<std::size_t>(rows[i]);
      std::uint64_t hash = begin();  // over the whole visible text, read from the cache
      for (std::int32_t p = 0; p <= b.positions[r]; ++p) hash = after(hash, slot(b, r, p));
      if (states_ != nullptr) hash ^= carried_[r] * 3;
      speak(hash, logits(static_cast<std::int64_t>(i)));
      if (habits) lean(b.tokens[r], logits(static_cast<std::int64_t>(i)));
    }
    return {};
  }
  std::span<float> logits(std::int64_t i) override {
    return {logits_.data() + i * vocab_, static_cast<std::size_t>(vocab_)};
  }
  std::int64_t vocab() const override { return vocab_; }
  std::int32_t adapters() const override { return static_cast<std::int32_t>(voice_of_slot_.size()); }
  Status set_adapter(std::int32_t slot, ops::PreparedAdapter adapter) override {
    const auto at = static_cast<std::size_t>(slot);
    if (at >= voice_of_slot_.size()) voice_of_slot_.resize(at + 1, kSilent);
    voice_of_slot_[at] = adapter == nullptr ? kSilent : voices.at(adapter.get());
    return {};
  }
  std::int64_t max_rows() const override { return max_rows_; }
  std::int64_t max_logit_rows() const override { return max_logit_rows_; }

  std::int64_t runs = 0;
  bool keep_rows_of_runs = true;
  std::vector<std::size_t> rows_of_runs;
  std::function<void()> before_run;
  bool fail_next = false;
  bool habits = false;
  std::map<const ops::PackedAdapter*, std::int32_t> voices;  // of adapters that are to come

 private:
  static constexpr std::int32_t kSilent = -2;  // nobody may use the slot
  std::int32_t voice(std::int32_t slot) const {
    if (slot < 0) return -1;
    const std::int32_t voice = voice_of_slot_.at(static_cast<std::size_t>(slot));
    QW_CHECK(voice != kSilent);
    return voice;
  }
  std::int32_t& slot(const ops::StepBatch& b, std::size_t row, std::int32_t position) {
    const auto& table = b.tables[static_cast<std::size_t>(b.sequences[row])];
    const std::int32_t block = table[static_cast<std::size_t>(position / block_tokens_)];
    return reinterpret_cast<std::int32_t*>(pool_.keys(0, block))[position % block_tokens_];
  }
  void carry(const ops::StepBatch& b, std::size_t row, std::int32_t what) {
    const std::int32_t index = b.slots[static_cast<std::size_t>(b.sequences[row])];
    std::int64_t& tokens = states_->tokens()[static_cast<std::size_t>(index)];
    QW_CHECK(b.positions[row] == 0 || tokens == b.positions[row]);
    std::uint64_t hash = begin();
    float* state = states_->data() + index * states_->slot_floats();
    if (b.positions[row] > 0) std::memcpy(&hash, state, sizeof(hash));
    hash = after(hash, what);
    std::memcpy(state, &hash, sizeof(hash));
    tokens = b.positions[row] + 1;
    carried_.resize(std::max(carried_.size(), row + 1));
    carried_[row] = hash;
  }
  const kvcache::BlockPool& pool_;
  std::int32_t block_tokens_;
  std::int64_t vocab_, max_rows_, max_logit_rows_;
  std::vector<std::int32_t> voice_of_slot_;
  ops::StepBatch last_;
  kvcache::StatePool* states_;
  std::vector<std::uint64_t> carried_;  // by row
  std::vector<float> logits_;
};

}  // namespace qw::engine
