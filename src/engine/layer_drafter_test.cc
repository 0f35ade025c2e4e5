// Layers that draft, on a model made of a hash whose drafts are right if and only if the drafter feeds them well: what
// was kept of the row before, the token after it, and a cache without gaps.
#include "engine/layer_drafter.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/rng.h"
#include "engine/engine.h"
#include "kvcache/block_pool.h"

namespace qw::engine {
namespace {

constexpr std::int64_t kVocab = 40;

class HashModel final : public StepExecutor {
 public:
  explicit HashModel(const kvcache::BlockPool& pool)
      : block_tokens_(pool.shape().block_tokens),
        seen_(static_cast<std::size_t>(pool.total_blocks() * block_tokens_), -1),
        read_(seen_.size(), 0) {}

  Status run(const ops::StepBatch& b) override {
    ++runs;
    kept_.clear();
    for (std::size_t r = 0; r < b.tokens.size(); ++r) at(seen_, b, r, b.positions[r]) = b.tokens[r];
    for (std::size_t r = 0; r < b.tokens.size(); ++r) {
      std::uint64_t hash = 1;
      for (std::int32_t p = 0; p <= b.positions[r]; ++p) hash = after(hash, at(seen_, b, r, p));
      keep(kept_, hash);
    }
    speak(b.logit_rows, kept_, logits_);
    return {};
  }
  Status compute_logits(std::span<const std::int32_t> rows) override {
    speak(rows, kept_, logits_);
    return {};
  }
  Status run_draft(const ops::StepBatch& b) override {
    ++draft_runs;
    draft_kept_.clear();
    for (std::size_t r = 0; r < b.tokens.size(); ++r) {
      const std::int32_t p = b.positions[r];
      std::uint64_t hash = 0;
      std::memcpy(&hash, b.given.data() + 2 * r, sizeof(hash));
      // The row before was read, and of the same text: what it kept is what this one is given.
      if (p > 0) {
        EXPECT_EQ(at(read_, b, r, p - 1), hash) << p;
      }
      at(read_, b, r, p) = hash = after(hash, b.tokens[r]);
      keep(draft_kept_, hash);
    }
    speak(b.logit_rows, draft_kept_, draft_logits_);
    return {};
  }
  std::span<float> logits(std::int64_t i) override { return row(logits_, i); }
  std::span<float> draft_logits(std::int64_t i) override { return row(draft_logits_, i); }
  std::span<const float> kept(std::int64_t r) const override {
    return std::span(kept_).subspan(static_cast<std::size_t>(2 * r), 2);
  }
  std::span<const float> draft_kept(std::int64_t r) const override {
    return std::span(draft_kept_).subspan(static_cast<std::size_t>(2 * r), 2);
  }
  bool drafts() const override { return true; }
  std::int64_t vocab() const override { return kVocab; }
  std::int64_t max_rows() const override { return 16; }
  std::int64_t max_logit_rows() const override { return 16; }

  int runs = 0, draft_runs = 0;

 private:
  static std::uint64_t after(std::uint64_t hash, std::int32_t token) {
    return (hash ^ static_cast<std::uint64_t>(token)) * 1099511628211u + 7;
  }
  static void keep(std::vector<float>& rows, std::uint64_t hash) {
    rows.resize(rows.size() + 2);
    std::memcpy(rows.data() + rows.size() - 2, &hash, sizeof(hash));
  }
  static void speak(std::span<const std::int32_t> rows, const std::vector<float>& kept, std::vector<float>& logits) {
    logits.resize(rows.size() * kVocab);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::uint64_t hash = 0;
      std::memcpy(&hash, kept.data() + 2 * rows[i], sizeof(hash));
      base::Rng rng(hash);
      for (float& l : row(logits, static_cast<std::int64_t>(i))) l = rng.next_float() * 4;
    }
  }
  static std::span<float> row(std::vector<float>& rows, std::int64_t i) {
    return std::span(rows).subspan(static_cast<std::size_t>(i * kVocab), kVocab);
  }
  template <class T>
  T& at(std::vector<T>& cache, const ops::StepBatch& b, std::size_t r, std::int32_t p) {
    const auto& table = b.tables[static_cast<std::size_t>(b.sequences[r])];
    return cache[static_cast<std::size_t>(table[static_cast<std::size_t>(p / block_tokens_)] * block_tokens_ +
                                          p % block_tokens_)];
  }

  std::int32_t block_tokens_;
  std::vector<std::int32_t> seen_;   // by slot of the cache: the model's token,
  std::vector<std::uint64_t> read_;  // and what the drafting layers kept
  std::vector<float> kept_, draft_kept_, logits_, draft_logits_;
};

struct House {
  kvcache::BlockPool pool;
  HashModel model;
  std::unique_ptr<Engine> engine;
  House(std::int32_t blocks, bool layers)
      : pool(*kvcache::BlockPool::create({1, 1, 1, 8, tensor::DType::kF32}, blocks)), model(pool) {
    EngineConfig c;
    c.context = 100;
    c.max_rows = 16;
    c.max_sequences = 4;
    c.growth_tokens = 4;
    c.drafts.layers = layers;
    c.drafts.adaptive = false;
    c.drafts.most = 5;
    engine = *Engine::create(model, pool, std::move(c));
  }
  ~House() { engine.reset(); }
};

Request request_of(std::uint64_t seed) {
  base::Rng rng(seed);
  Request r;
  for (std::uint64_t n = 2 + rng.below(40); n > 0; --n) r.prompt.push_back(static_cast<TokenId>(rng.below(kVocab)));
  r.max_tokens = 20 + static_cast<std::int64_t>(rng.below(30));
  r.params.temperature = seed % 2 == 0 ? 0.0f : 0.9f;
  r.params.seed = seed;
  r.params.logprobs = true;
  return r;
}

// The layers say what the model says, so nearly every draft is right: also under sampling, for they draw with its
// numbers.
TEST(LayerDrafter, IsRightWhereTheLayersAre) {
  for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6}) {
    House without(16, false), with(16, true);
    const auto wanted = generate(*without.engine, request_of(seed));
    const auto got = generate(*with.engine, request_of(seed));
    ASSERT_TRUE(wanted && got);
    EXPECT_EQ(got->tokens, wanted->tokens);
    const Usage& usage = got->finished.usage;
    EXPECT_EQ(usage.accepted_tokens, usage.drafted_tokens) << seed;
    EXPECT_GT(usage.accepted_tokens, usage.completion_tokens / 2);
    EXPECT_LT(with.model.runs, without.model.runs);
  }
}

// Several at once, preempted and read again from the beginning.
TEST(LayerDrafter, FollowsPreemptedSequences) {
  struct Log final : Sink {
    std::vector<TokenId> tokens;
    Finished finished;
    Verdict on_token(const TokenEvent& e) noexcept override {
      tokens.push_back(e.id);
      return Verdict::kContinue;
    }
    void on_finished(const Finished& f) noexcept override { finished = f; }
  };
  House house(14, true);
  std::vector<std::shared_ptr<Log>> logs;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    Request r = request_of(seed);
    logs.push_back(std::make_shared<Log>());
    r.sink = logs.back();
    ASSERT_TRUE(house.engine->submit(std::move(r)));
  }
  while (house.engine->step()) ASSERT_EQ(house.engine->violation(), "");
  std::int64_t accepted = 0, drafted = 0;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    House alone(16, false);
    const Log& log = *logs[seed - 1];
    EXPECT_EQ(log.tokens, generate(*alone.engine, request_of(seed))->tokens) << seed;
    accepted += log.finished.usage.accepted_tokens;
    drafted += log.finished.usage.drafted_tokens;
  }
  EXPECT_GT(house.engine->stats().preemptions, 0);
  EXPECT_GT(accepted, 100);
  EXPECT_EQ(accepted, drafted);
  EXPECT_EQ(house.engine->stats().failed_drafters, 0);
}

}  // namespace
}  // namespace qw::engine
