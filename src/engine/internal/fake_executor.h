// A StepExecutor for tests: a language model made of a hash. It keeps nothing but a paged cache of token ids, so wrong
// tables, lost blocks or a bad order show up as different logits; and it is batch-invariant by construction.
#pragma once

#include <functional>
#include <vector>

#include "base/rng.h"
#include "engine/step_executor.h"
#include "kvcache/block_pool.h"

namespace qw::engine {

class FakeExecutor final : public StepExecutor {
 public:
  FakeExecutor(const kvcache::BlockPool& pool, std::int64_t vocab, std::int64_t max_rows, std::int64_t max_logit_rows)
      : block_tokens_(pool.shape().block_tokens),
        vocab_(vocab),
        max_rows_(max_rows),
        max_logit_rows_(max_logit_rows),
        cache_(static_cast<std::size_t>(pool.total_blocks() * block_tokens_), -1),
        logits_(static_cast<std::size_t>(vocab * max_logit_rows)) {}

  Status run(const ops::StepBatch& b) override {
    ++runs;
    rows_of_runs.push_back(b.tokens.size());
    if (before_run) before_run();
    if (fail_next) {
      fail_next = false;
      return fail(ErrorKind::kFailed, "the device is gone");
    }
    QW_CHECK(static_cast<std::int64_t>(b.tokens.size()) <= max_rows_);
    QW_CHECK(static_cast<std::int64_t>(b.logit_rows.size()) <= max_logit_rows_);
    for (std::size_t r = 0; r < b.tokens.size(); ++r) slot(b, r, b.positions[r]) = b.tokens[r];
    for (std::size_t i = 0; i < b.logit_rows.size(); ++i) {
      const auto r = static_cast<std::size_t>(b.logit_rows[i]);
      std::uint64_t hash = 1469598103934665603u;  // FNV-1a over the whole visible sequence, read from the cache
      for (std::int32_t p = 0; p <= b.positions[r]; ++p)
        hash = (hash ^ static_cast<std::uint64_t>(slot(b, r, p))) * 1099511628211u;
      base::Rng rng(hash);
      for (float& l : logits(static_cast<std::int64_t>(i))) l = rng.next_float() * 4;
    }
    return {};
  }
  std::span<float> logits(std::int64_t i) override {
    return {logits_.data() + i * vocab_, static_cast<std::size_t>(vocab_)};
  }
  std::int64_t vocab() const override { return vocab_; }
  std::int64_t max_rows() const override { return max_rows_; }
  std::int64_t max_logit_rows() const override { return max_logit_rows_; }

  std::int64_t runs = 0;
  std::vector<std::size_t> rows_of_runs;
  std::function<void()> before_run;
  bool fail_next = false;

 private:
  std::int32_t& slot(const ops::StepBatch& b, std::size_t row, std::int32_t position) {
    const auto& table = b.tables[static_cast<std::size_t>(b.sequences[row])];
    const std::int32_t block = table[static_cast<std::size_t>(position / block_tokens_)];
    return cache_[static_cast<std::size_t>(block * block_tokens_ + position % block_tokens_)];
  }
  std::int32_t block_tokens_;
  std::int64_t vocab_, max_rows_, max_logit_rows_;
  std::vector<std::int32_t> cache_;
  std::vector<float> logits_;
};

}  // namespace qw::engine
