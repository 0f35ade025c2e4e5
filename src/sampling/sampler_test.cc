#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "base/rng.h"

namespace qw::sampling {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// The contract said naively: edits in order, a full sort, and the draw over the kept set in ascending id order.
struct Naive {
  std::vector<TokenId> kept;
  TokenId id = 0;
};
Naive naive_sample(const SamplingParams& p, std::vector<float> logits, const std::vector<TokenId>& prompt,
                   const std::vector<TokenId>& output) {
  for (const auto& [id, bias] : p.logit_bias) logits[static_cast<std::size_t>(id)] += bias;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    const auto in_output = std::count(output.begin(), output.end(), id);
    if (in_output > 0 || std::count(prompt.begin(), prompt.end(), id) > 0)
      logits[i] = logits[i] > 0 ? logits[i] / p.repetition_penalty : logits[i] * p.repetition_penalty;
    if (in_output > 0) logits[i] -= p.presence_penalty + p.frequency_penalty * static_cast<float>(in_output);
  }
  if (static_cast<std::int32_t>(output.size()) < p.min_tokens)
    for (const TokenId id : p.stop_ids) logits[static_cast<std::size_t>(id)] = -kInf;
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto at = [&](TokenId id) { return static_cast<double>(logits[static_cast<std::size_t>(id)]); };
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return at(a) > at(b); });
  if (p.temperature == 0) return {{order[0]}, order[0]};
  const double max = at(order[0]);
  const auto weight = [&](TokenId id) { return std::exp((at(id) - max) / static_cast<double>(p.temperature)); };
  if (p.top_k > 0 && p.top_k < static_cast<int>(order.size())) order.resize(static_cast<std::size_t>(p.top_k));
  if (p.top_p < 1) {
    double total = 0, mass = 0;
    for (const TokenId id : order) total += weight(id);
    std::size_t n = 0;
    while (n < order.size() && (n == 0 || mass < static_cast<double>(p.top_p) * total)) mass += weight(order[n++]);
    order.resize(n);
  }
  std::erase_if(order, [&](TokenId id) { return weight(id) < static_cast<double>(p.min_p) || at(id) == -kInf; });
  std::sort(order.begin(), order.end());
  double total = 0;
  for (const TokenId id : order) total += weight(id);
  double left = base::Rng(p.seed, output.size()).next_double() * total;
  for (const TokenId id : order)
    if ((left -= weight(id)) < 0) return {order, id};
  return {order, order.back()};
}

std::vector<float> random_logits(base::Rng& rng, std::size_t n, bool ties) {
  std::vector<float> logits(n);
  for (float& l : logits) {
    l = static_cast<float>(rng.next_normal() * 3);
    if (ties) l = std::round(l);
  }
  return logits;
}

SamplingParams random_params(base::Rng& rng, std::size_t vocab) {
  SamplingParams p;
  const float temperatures[] = {0, 0.3f, 0.7f, 1, 1.5f};
  p.temperature = temperatures[rng.below(5)];
  if (rng.below(2)) p.top_k = static_cast<std::int32_t>(1 + rng.below(vocab + 3));
  if (rng.below(2)) p.top_p = rng.next_float();
  if (rng.below(3) == 0) p.min_p = rng.next_float() * 0.3f;
  if (rng.below(3) == 0) p.repetition_penalty = 0.8f + rng.next_float();
  if (rng.below(3) == 0) p.presence_penalty = rng.next_float() * 2 - 0.5f;
  if (rng.below(3) == 0) p.frequency_penalty = rng.next_float() * 2 - 0.5f;
  if (rng.below(3) == 0) p.logit_bias = {{static_cast<TokenId>(rng.below(vocab)), rng.next_float() * 8 - 4}};
  if (rng.below(3) == 0) p.stop_ids = {0, static_cast<TokenId>(rng.below(vocab))};
  p.min_tokens = static_cast<std::int32_t>(rng.below(4));
  p.seed = rng.next_u64();
  return p;
}

TEST(Sampler, EqualsNaiveFullSort) {
  base::Rng rng(3);
  SamplerScratch scratch;
  for (int round = 0; round < 4000; ++round) {
    const std::size_t vocab = 4 + rng.below(round % 10 == 0 ? 3000 : 200);
    const SamplingParams p = random_params(rng, vocab);
    ASSERT_TRUE(validate(p, static_cast<std::int64_t>(vocab)));
    std::vector<TokenId> prompt, output;
    for (std::uint64_t n = rng.below(6); n > 0; --n) prompt.push_back(static_cast<TokenId>(rng.below(vocab)));
    Sampler sampler(p, prompt);
    for (int t = 0; t < 5; ++t) {
      const std::vector<float> logits = random_logits(rng, vocab, round % 2 == 0);
      std::vector<float> row = logits;
      const auto got = sampler.sample(row, scratch);
      ASSERT_TRUE(got) << got.error().message;
      ASSERT_EQ(got->id, naive_sample(p, logits, prompt, output).id) << "round " << round << " token " << t;
      // Also histories that the sampler itself would not have chosen.
      const TokenId next = rng.below(2) ? got->id : static_cast<TokenId>(rng.below(vocab));
      ASSERT_TRUE(sampler.accept(next));
      output.push_back(next);
    }
  }
}

// Draws `n` tokens from one fixed row and returns the chi-square statistic against the expected probabilities.
double chi_square(const SamplingParams& base_params, const std::vector<float>& logits,
                  const std::map<TokenId, double>& expected, int n) {
  std::map<TokenId, int> counts;
  SamplerScratch scratch;
  for (int i = 0; i < n; ++i) {
    SamplingParams p = base_params;
    p.seed = 1000 + static_cast<std::uint64_t>(i);
    std::vector<float> row = logits;
    ++counts[Sampler(p, {}).sample(row, scratch)->id];
  }
  double statistic = 0;
  for (const auto& [id, count] : counts) EXPECT_TRUE(expected.contains(id)) << id;
  for (const auto& [id, probability] : expected) {
    const double e = probability * n;
    statistic += (counts[id] - e) * (counts[id] - e) / e;
  }
  return statistic;
}

TEST(Sampler, DrawsFollowTheDistribution) {
  // Probabilities 0.4 0.3 0.2 0.1 in shuffled places.
  const std::vector<float> logits = {std::log(0.1f), std::log(0.4f), std::log(0.2f), std::log(0.3f)};
  constexpr int kDraws = 20000;
  constexpr double kChi3 = 16.27;  // 99.9 % quantile, 3 degrees of freedom
  constexpr double kChi2 = 13.82;  // 2 degrees of freedom
  constexpr double kChi1 = 10.83;  // 1 degree of freedom
  SamplingParams p;
  EXPECT_LT(chi_square(p, logits, {{1, 0.4}, {3, 0.3}, {2, 0.2}, {0, 0.1}}, kDraws), kChi3);
  p.top_k = 3;
  EXPECT_LT(chi_square(p, logits, {{1, 4 / 9.0}, {3, 3 / 9.0}, {2, 2 / 9.0}}, kDraws), kChi2);
  p.top_k = 0;
  p.top_p = 0.65f;
  EXPECT_LT(chi_square(p, logits, {{1, 4 / 7.0}, {3, 3 / 7.0}}, kDraws), kChi1);
  p.top_p = 1;
  p.temperature = 0.5f;  // squares the probabilities
  EXPECT_LT(chi_square(p, logits, {{1, 16 / 30.0}, {3, 9 / 30.0}, {2, 4 / 30.0}, {0, 1 / 30.0}}, kDraws), kChi3);
  // The test can fail: the wrong distribution is far outside.
  EXPECT_GT(chi_square(p, logits, {{1, 0.4}, {3, 0.3}, {2, 0.2}, {0, 0.1}}, kDraws), 100.0);
}

TEST(Sampler, ReproducibleAndDifferentAtEveryPosition) {
  const std::vector<float> logits(64, 0.0f);
  SamplingParams p;
  p.seed = 42;
  const auto run = [&] {
    Sampler s(p, {});
    SamplerScratch scratch;
    std::vector<TokenId> ids;
    for (int i = 0; i < 32; ++i) {
      std::vector<float> row = logits;
      ids.push_back(s.sample(row, scratch)->id);
      EXPECT_TRUE(s.accept(ids.back()));
    }
    return ids;
  };
  const auto first = run();
  EXPECT_EQ(first, run());
  EXPECT_GT(std::set<TokenId>(first.begin(), first.end()).size(), 10u);
  p.seed = 43;
  EXPECT_NE(first, run());
}

// A guess from the model's own row is the draw itself, at every place; what is ahead is drawn with its own random number.
TEST(Sampler, AGuessFromTheSameRowIsTheDraw) {
  base::Rng rng(12);
  SamplerScratch scratch;
  for (int round = 0; round < 50; ++round) {
    SamplingParams params;
    params.temperature = round % 5 == 0 ? 0.0f : 0.9f;
    params.seed = rng.next_u64();
    if (round % 2) params.top_k = 7;
    if (round % 3 == 0) params.top_p = 0.8f;
    if (round % 3 == 1) params.repetition_penalty = 1.4f;
    params.stop_ids = {3};
    params.min_tokens = 2;
    params.logit_bias = {{5, 0.5f}};
    const VocabularyMask mask{45, {7}};
    const std::vector<TokenId> prompt{1, 2, 3};
    Sampler sampler(params, prompt, &mask);
    ASSERT_TRUE(sampler.prepare(50));
    for (std::int64_t place = 0; place < 6; ++place) {
      std::vector<float> row(50);
      for (float& l : row) l = rng.next_float() * 5;
      auto guessed = row, drawn = row, ahead = row;
      const TokenId guess = sampler.guess(guessed, {}, scratch);
      ASSERT_EQ(guess, sampler.sample(drawn, scratch)->id);
      EXPECT_GE(sampler.guess(ahead, std::vector<TokenId>{4, 5, 6}, scratch), 0);
      ASSERT_TRUE(sampler.accept(guess));
    }
  }
  Sampler sampler({}, std::vector<TokenId>{1});
  std::vector<float> nothing(50, -kInf), broken(50, std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(sampler.guess(nothing, {}, scratch), -1);
  EXPECT_EQ(sampler.guess(broken, {}, scratch), -1);
}

TEST(Sampler, TiesGoToTheLowerId) {
  SamplingParams p;
  p.temperature = 0;
  SamplerScratch scratch;
  std::vector<float> row(100, 1.0f);
  row[7] = row[50] = 2.0f;
  EXPECT_EQ(Sampler(p, {}).sample(row, scratch)->id, 7);
  p.temperature = 1;
  p.top_k = 2;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    p.seed = seed;
    std::vector<float> flat(1000, 0.5f);
    EXPECT_LT(Sampler(p, {}).sample(flat, scratch)->id, 2);
  }
}

TEST(Sampler, LogprobsAreOfTheUntouchedModel) {
  SamplingParams p;
  p.logprobs = true;
  p.top_logprobs = 3;
  p.temperature = 0;
  p.logit_bias = {{0, 100.0f}};
  p.repetition_penalty = 1.7f;
  VocabularyMask mask{5, {3}};
  std::vector<float> row = {0.5f, 2.0f, 1.0f, 3.0f, -1.0f, 9.0f};
  double sum = 0;
  for (const float l : row) sum += std::exp(static_cast<double>(l));
  const double normaliser = std::log(sum);
  SamplerScratch scratch;
  const std::vector<TokenId> prompt = {1, 2};
  const auto got = Sampler(p, prompt, &mask).sample(row, scratch);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->id, 0);
  EXPECT_NEAR(got->logprob, 0.5 - normaliser, 1e-5);
  ASSERT_EQ(got->top.size(), 3u);  // row 5 is no token, 3 is a hole
  EXPECT_EQ(got->top[0].id, 1);
  EXPECT_EQ(got->top[1].id, 2);
  EXPECT_EQ(got->top[2].id, 0);
  EXPECT_NEAR(got->top[0].logprob, 2.0 - normaliser, 1e-5);
}

TEST(Sampler, MaskedIdsAreNeverDrawn) {
  VocabularyMask mask{40, {0, 11}};
  SamplingParams p;
  SamplerScratch scratch;
  for (p.seed = 0; p.seed < 500; ++p.seed) {
    std::vector<float> row(64, 0.0f);
    row[11] = row[60] = 20.0f;
    const TokenId id = Sampler(p, {}, &mask).sample(row, scratch)->id;
    ASSERT_TRUE(id > 0 && id < 40 && id != 11) << id;
  }
}

TEST(Sampler, MinTokensForbidsStopIds) {
  SamplingParams p;
  p.temperature = 0;
  p.stop_ids = {2};
  p.min_tokens = 2;
  Sampler s(p, {});
  SamplerScratch scratch;
  for (int t = 0; t < 3; ++t) {
    std::vector<float> row = {0, 1, 5, 2};
    const TokenId id = s.sample(row, scratch)->id;
    EXPECT_EQ(id, t < 2 ? 3 : 2);
    EXPECT_EQ(s.is_stop(id), t == 2);
    ASSERT_TRUE(s.accept(id));
  }
}

TEST(Sampler, BadLogitsAreAnError) {
  SamplerScratch scratch;
  SamplingParams p;
  for (const float bad : {std::nanf(""), kInf})
    for (const std::size_t place : {std::size_t{0}, std::size_t{40}, std::size_t{99}}) {
      std::vector<float> row(100, 0.0f);
      row[place] = bad;
      EXPECT_FALSE(Sampler(p, {}).sample(row, scratch));
    }
  std::vector<float> nothing(100, -kInf);
  EXPECT_FALSE(Sampler(p, {}).sample(nothing, scratch));
}

// Allows one scripted token at each step, and records the calls.
class Forced : public LogitsProcessor {
 public:
  Forced(std::vector<TokenId> script, std::vector<TokenId>* accepted) : script_(std::move(script)), accepted_(accepted) {}
  Status prepare(const History& prompt, std::int64_t vocab) override {
    EXPECT_EQ(prompt.tokens.size(), 2u);
    EXPECT_EQ(vocab, 16);
    prepared_ = true;
    return {};
  }
  Status apply(std::span<float> logits, const History& history) override {
    EXPECT_TRUE(prepared_);
    const std::size_t step = history.output().size();
    if (step >= script_.size()) return fail(ErrorKind::kFailed, "script ended");
    for (std::size_t i = 0; i < logits.size(); ++i)
      if (static_cast<TokenId>(i) != script_[step]) logits[i] = -kInf;
    return {};
  }
  Status accept(TokenId id) override {
    accepted_->push_back(id);
    return {};
  }

 private:
  std::vector<TokenId> script_;
  std::vector<TokenId>* accepted_;
  bool prepared_ = false;
};

TEST(Sampler, ProcessorsDecide) {
  std::vector<TokenId> accepted;
  std::vector<std::unique_ptr<LogitsProcessor>> processors;
  processors.push_back(std::make_unique<Forced>(std::vector<TokenId>{9, 3, 3}, &accepted));
  const std::vector<TokenId> prompt = {1, 2};
  Sampler s(SamplingParams{}, prompt, nullptr, std::move(processors));
  ASSERT_TRUE(s.prepare(16));
  SamplerScratch scratch;
  for (int t = 0; t < 3; ++t) {
    std::vector<float> row(16, 0.0f);
    const auto got = s.sample(row, scratch);
    ASSERT_TRUE(got);
    ASSERT_TRUE(s.accept(got->id));
  }
  EXPECT_EQ(accepted, (std::vector<TokenId>{9, 3, 3}));
  std::vector<float> row(16, 0.0f);
  EXPECT_FALSE(s.sample(row, scratch));
}

TEST(SamplingParams, ValidateNamesTheField) {
  const auto message = [](auto change) {
    SamplingParams p;
    change(p);
    const Status status = validate(p, 100);
    return status ? std::string("ok") : status.error().message;
  };
  EXPECT_EQ(message([](auto&) {}), "ok");
  EXPECT_NE(message([](auto& p) { p.temperature = -1; }).find("temperature"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.temperature = std::nanf(""); }).find("temperature"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.top_p = 1.5f; }).find("top_p"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.min_p = -0.1f; }).find("min_p"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.top_k = -1; }).find("top_k"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.repetition_penalty = 0; }).find("repetition_penalty"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.logit_bias = {{100, 1.0f}}; }).find("logit_bias"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.logit_bias = {{1, kInf}}; }).find("logit_bias"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.stop = {""}; }).find("stop"), std::string::npos);
  EXPECT_NE(message([](auto& p) { p.top_logprobs = 5; }).find("top_logprobs"), std::string::npos);
}

}  // namespace
}  // namespace qw::sampling
