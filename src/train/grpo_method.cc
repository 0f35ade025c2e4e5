// Learning from the model's own answers. A step draws a group of answers to each of its prompts, judges them, and
// learns batch by batch; `updates` steps learn from the same answers.
//
// What is drawn is a function of the weights, the seed and the place in the data; the engine gives the same answers
// whatever runs beside. Several processes share out the answers, what judges them, and the batches. So a checkpoint needs nothing but that place, and the answers while steps to come learn from
// them.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "base/rng.h"
#include "base/sha256.h"
#include "train/answer_rewards.h"
#include "train/grpo.h"
#include "train/internal/example_method.h"
#include "train/internal/lora.h"
#include "train/internal/rollouts.h"

namespace qw::train {
namespace {

using tokenizer::TokenId;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kRolloutStream = 0x726f6c6c;  // apart from the streams that shuffle data; + epoch
// A chat's prompt may begin in thousands of documents: held-out ones are asked together, so that the engine has work.
constexpr std::int64_t kAskedTogether = 256;

// An answer that was drawn, and what its loss needs beside the weights.
struct Sample {
  std::int64_t prompt = 0;  // which example
  std::vector<TokenId> tokens;
  double advantage = 0;
  std::vector<float> old, before;
};

class GrpoMethod final : public ExampleMethod {
 public:
  explicit GrpoMethod(const MethodContext& context);

  Status open(const data::Cursor& at) override;
  Status draw() override;
  Status learn(StepRecord& record) override;
  Result<EvalRecord> evaluate() override;
  double take_other_flops() override { return rollouts_.take_flops(); }
  json::Object identity() const override;
  json::Object state() const override;
  Status restore(const json::Value& state) override;

 private:
  struct Group {
    std::int64_t prompt = 0;
    std::vector<Rollout> rollouts;
    std::vector<double> rewards;               // weighted
    std::vector<std::vector<double>> of_each;  // by answer
    bool teaches() const {
      return std::any_of(rewards.begin(), rewards.end(), [&](double r) { return r != rewards[0]; });
    }
  };
  const GrpoConfig& config() const { return *c_.config.grpo; }
  std::size_t first_sample(std::size_t batch) const { return batch * static_cast<std::size_t>(c_.config.batch_sequences); }
  std::int64_t answers() const { return c_.config.batch_sequences * c_.config.accumulation; }
  std::vector<TokenId> prompt(const data::ExampleStream& of, std::int64_t number) const;
  std::string expected(const data::ExampleStream& of, std::int64_t number) const;
  Result<std::vector<double>> judge(const data::ExampleStream& of, std::int64_t number, const Rollout& rollout) const;
  Result<std::vector<std::vector<double>>> judge_all(const data::ExampleStream& of, std::span<const std::int64_t> numbers,
                                                     std::span<const Rollout> rollouts) const;
  // Puts together what of each sample (of `what`) only the process has that ran its batch.
  Status complete(std::vector<float> Sample::*what, const std::vector<bool>& ran);
  Result<std::vector<Group>> draw_groups(std::int64_t count);
  Status draw_answers();
  void tell(const std::vector<Group>& groups, std::int64_t redrawn, double seconds);
  void make_batches();
  Status find_before();

  Rollouts rollouts_;
  std::optional<AnswerRewards> rewards_;
  ops::ParameterBuffer before_;  // with beta: the weights before training
  std::string before_sha256_;
  std::vector<Sample> samples_;                      // of the step, in the order of the batches
  std::vector<std::vector<float>> engine_logprobs_;  // as samples_, of answers just drawn
  std::int64_t updates_done_ = 0;                    // that learnt from samples_
  RolloutRecord told_;                               // of answers just drawn
};

std::string sha256_of(const ops::ParameterBuffer& weights) {
  base::Sha256 hash;
  hash.update(std::as_bytes(weights.all()));
  return hash.hex();
}

GrpoMethod::GrpoMethod(const MethodContext& context)
    : ExampleMethod(context, data::Holds::kPrompts, data::Reading::kPrompts,
                    context.config.sequence_length - context.config.grpo->max_tokens + 1),
      rollouts_(context, context.config.grpo->max_tokens) {
  if (config().beta == 0) return;
  before_ = ops::ParameterBuffer(c_.weights.shapes());
  std::copy(c_.weights.all().begin(), c_.weights.all().end(), before_.all().begin());
  before_sha256_ = sha256_of(before_);
}

json::Object GrpoMethod::identity() const {
  json::Object told = to_json(config());
  if (config().beta > 0) told.set("before_sha256", before_sha256_);
  return {{"grpo", std::move(told)}};
}

Status GrpoMethod::open(const data::Cursor& at) {
  if (!rewards_) {
    QW_ASSIGN(rewards_, AnswerRewards::create(config().rewards));
  }
  samples_.clear();
  updates_done_ = 0;
  return ExampleMethod::open(at);
}

std::vector<TokenId> GrpoMethod::prompt(const data::ExampleStream& of, std::int64_t number) const {
  data::PackedBatch batch;
  of.append(number, batch);
  return {batch.tokens.begin(), batch.tokens.end()};
}

std::string GrpoMethod::expected(const data::ExampleStream& of, std::int64_t number) const {
  return c_.tokenizer.decode(of.expected(number));
}

Result<std::vector<double>> GrpoMethod::judge(const data::ExampleStream& of, std::int64_t number,
                                              const Rollout& rollout) const {
  std::span<const TokenId> said = rollout.tokens;
  if (rollout.ended) said = said.first(said.size() - 1);
  const std::string text = c_.tokenizer.decode(said), wanted = expected(of, number);
  return rewards_->judge({text, wanted, static_cast<std::int64_t>(rollout.tokens.size()), config().max_tokens});
}

// Each answer is judged by one process: a program that takes about its time might be judged otherwise by another.
Result<std::vector<std::vector<double>>> GrpoMethod::judge_all(const data::ExampleStream& of,
                                                               std::span<const std::int64_t> numbers,
                                                               std::span<const Rollout> rollouts) const {
  const std::size_t kinds = rewards_->names().size();
  std::vector<double> flat(rollouts.size() * kinds);
  for (std::size_t i = 0; i < rollouts.size(); ++i) {
    if (!c_.share.mine(i)) continue;
    QW_ASSIGN(const auto values, judge(of, numbers[i], rollouts[i]));
    std::copy(values.begin(), values.end(), flat.begin() + static_cast<std::ptrdiff_t>(i * kinds));
  }
  QW_TRY(c_.share.add_up(flat));
  std::vector<std::vector<double>> out;
  for (std::size_t i = 0; i < rollouts.size(); ++i)
    out.emplace_back(flat.begin() + static_cast<std::ptrdiff_t>(i * kinds), flat.begin() + static_cast<std::ptrdiff_t>((i + 1) * kinds));
  return out;
}

// The next prompts, their answers and rewards.
Result<std::vector<GrpoMethod::Group>> GrpoMethod::draw_groups(std::int64_t count) {
  std::vector<Group> groups(static_cast<std::size_t>(count));
  std::vector<Question> questions;
  data::PackedBatch batch;
  std::vector<std::int64_t> numbers;
  for (Group& group : groups) {
    examples_->next(1, batch, numbers);
    group.prompt = numbers[0];
    const data::Cursor at = examples_->cursor();
    base::Rng of_epoch(c_.config.seed, kRolloutStream + at.epoch);
    base::Rng seeds(of_epoch.next_u64(), static_cast<std::uint64_t>(at.sequence));
    for (std::int64_t i = 0; i < config().group; ++i)
      questions.push_back({{batch.tokens.begin(), batch.tokens.end()}, seeds.next_u64()});
  }
  QW_ASSIGN(auto drawn, rollouts_.answers(questions, 1.0f));
  std::vector<std::int64_t> prompts;
  for (const Group& group : groups) prompts.insert(prompts.end(), static_cast<std::size_t>(config().group), group.prompt);
  QW_ASSIGN(const auto values, judge_all(*examples_, prompts, drawn));
  std::size_t next = 0;
  for (Group& group : groups)
    for (std::int64_t i = 0; i < config().group; ++i, ++next) {
      group.rewards.push_back(rewards_->weighted(values[next]));
      group.of_each.push_back(values[next]);
      group.rollouts.push_back(std::move(drawn[next]));
    }
  return groups;
}

Status GrpoMethod::draw_answers() {
  const auto start = Clock::now();
  const std::int64_t wanted = answers() / config().group;
  QW_TRY(rollouts_.begin(c_.weights));
  std::vector<Group> groups;
  std::int64_t redrawn = 0;
  for (std::int64_t left = config().redraws;; --left) {
    QW_ASSIGN(auto drawn, draw_groups(wanted - static_cast<std::int64_t>(groups.size())));
    for (Group& group : drawn) {
      if (left > 0 && !group.teaches())
        ++redrawn;
      else
        groups.push_back(std::move(group));
    }
    if (static_cast<std::int64_t>(groups.size()) == wanted) break;
  }
  QW_TRY(rollouts_.end());
  tell(groups, redrawn, std::chrono::duration<double>(Clock::now() - start).count());
  samples_.clear();
  engine_logprobs_.clear();
  std::vector<double> advantages(static_cast<std::size_t>(config().group));
  for (Group& group : groups) {
    grpo_advantages(config().average, group.rewards, advantages);
    for (std::size_t i = 0; i < advantages.size(); ++i) {
      samples_.push_back({group.prompt, std::move(group.rollouts[i].tokens), advantages[i], {}, {}});
      engine_logprobs_.push_back(std::move(group.rollouts[i].logprobs));
    }
  }
  updates_done_ = 0;
  return {};
}

void GrpoMethod::tell(const std::vector<Group>& groups, std::int64_t redrawn, double seconds) {
  RolloutRecord r;
  r.answers = answers();
  const auto n = static_cast<double>(r.answers), all = static_cast<double>(groups.size());
  std::vector<double> sums(rewards_->names().size());
  for (const Group& group : groups) {
    double mean = 0, squares = 0;
    const auto g = static_cast<double>(group.rewards.size());
    for (std::size_t i = 0; i < group.rewards.size(); ++i) {
      mean += group.rewards[i] / g;
      r.tokens += static_cast<double>(group.rollouts[i].tokens.size()) / n;
      r.cut_share += group.rollouts[i].ended ? 0 : 1 / n;
      for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += group.of_each[i][k] / n;
    }
    for (const double reward : group.rewards) squares += (reward - mean) * (reward - mean);
    r.reward += mean / all;
    r.reward_deviation += std::sqrt(squares / (g - 1)) / all;
    r.equal_share += group.teaches() ? 0 : 1 / all;
  }
  for (std::size_t k = 0; k < sums.size(); ++k) r.rewards.emplace_back(rewards_->names()[k], sums[k]);
  r.redrawn_share = static_cast<double>(redrawn) / (all + static_cast<double>(redrawn));
  r.draw_seconds = seconds;
  told_ = std::move(r);
}

void GrpoMethod::make_batches() {
  const auto each = static_cast<std::size_t>(c_.config.batch_sequences);
  for (std::size_t b = 0; b < batches_.size(); ++b) {
    data::PackedBatch& batch = batches_[b];
    batch.clear();
    for (const Sample& sample : std::span(samples_).subspan(b * each, each)) {
      std::vector<TokenId> text = prompt(*examples_, sample.prompt);
      const std::size_t begin = text.size();
      text.insert(text.end(), sample.tokens.begin(), sample.tokens.end());
      for (std::size_t r = 0; r + 1 < text.size(); ++r) {
        batch.tokens.push_back(text[r]);
        batch.positions.push_back(static_cast<std::int32_t>(r));
        batch.labels.push_back(r + 1 >= begin ? text[r + 1] : -1);
      }
      batch.kept += static_cast<std::int64_t>(sample.tokens.size());
      batch.cu_seqlens.push_back(static_cast<std::int32_t>(batch.tokens.size()));
    }
  }
}

// What the model before training gives the answers.
Status GrpoMethod::find_before() {
  std::vector<bool> ran(batches_.size());
  for (std::size_t b = 0; b < batches_.size(); ++b) {
    if (!c_.share.mine(b)) continue;
    ran[b] = true;
    const data::PackedBatch& batch = batches_[b];
    QW_ASSIGN(const std::vector<float> logprobs, c_.logprobs(before_, batch));
    std::size_t s = first_sample(b);
    for (std::size_t d = 1; d < batch.cu_seqlens.size(); ++d, ++s) {
      const auto end = logprobs.begin() + batch.cu_seqlens[d];
      samples_[s].before.assign(end - static_cast<std::ptrdiff_t>(samples_[s].tokens.size()), end);
    }
  }
  return complete(&Sample::before, ran);
}

// Each number is 0 but with one process, so that sums are the number itself.
Status GrpoMethod::complete(std::vector<float> Sample::*what, const std::vector<bool>& ran) {
  if (c_.share.size() == 1) return {};
  std::vector<double> all;
  for (std::size_t s = 0; s < samples_.size(); ++s) {
    std::vector<float>& values = samples_[s].*what;
    if (!ran[s / first_sample(1)]) values.assign(samples_[s].tokens.size(), 0.0f);
    all.insert(all.end(), values.begin(), values.end());
  }
  QW_TRY(c_.share.add_up(all));
  auto from = all.begin();
  for (Sample& sample : samples_)
    for (float& value : sample.*what) value = static_cast<float>(*from++);
  return {};
}

Status GrpoMethod::draw() {
  if (!samples_.empty() && updates_done_ < config().updates) return {};
  QW_TRY(draw_answers());
  make_batches();
  if (config().beta > 0) QW_TRY(find_before());
  return {};
}

Status GrpoMethod::learn(StepRecord& record) {
  const bool first = updates_done_ == 0;
  RolloutRecord told = first ? told_ : RolloutRecord();
  std::int64_t all = 0;
  for (const Sample& sample : samples_) all += static_cast<std::int64_t>(sample.tokens.size());
  const auto tokens_of_step = static_cast<double>(all);
  struct Of {
    double loss = 0, gap = 0, divergence = 0, clipped = 0;
  };
  std::vector<Of> of(batches_.size());
  std::vector<bool> ran(batches_.size());
  QW_TRY(c_.share.each(batches_.size(), [&](std::size_t b) -> Status {
    const data::PackedBatch& batch = batches_[b];
    ran[b] = true;
    QW_ASSIGN(const std::vector<float> logprobs, c_.logprobs(c_.weights, batch));
    std::vector<float> row_weights(batch.tokens.size());
    std::vector<double> d_logprobs;
    std::size_t s = first_sample(b);
    for (std::size_t d = 1; d < batch.cu_seqlens.size(); ++d, ++s) {
      Sample& sample = samples_[s];
      const std::size_t n = sample.tokens.size(), begin = static_cast<std::size_t>(batch.cu_seqlens[d]) - n;
      const std::span<const float> now = std::span(logprobs).subspan(begin, n);
      if (first) {
        sample.old.assign(now.begin(), now.end());
        for (std::size_t i = 0; i < n; ++i) of[b].gap += static_cast<double>(std::abs(now[i] - engine_logprobs_[s][i]));
      }
      d_logprobs.resize(n);
      const double weight = grpo_token_weight(config(), static_cast<std::int64_t>(n), answers(), all);
      const GrpoLoss loss = grpo_loss(config(), {sample.advantage, sample.old, sample.before}, weight, now, d_logprobs);
      of[b].loss += loss.loss;
      of[b].divergence += loss.divergence;
      of[b].clipped += static_cast<double>(loss.clipped);
      // backward() weighs -log p.
      for (std::size_t i = 0; i < n; ++i) row_weights[begin + i] = static_cast<float>(-d_logprobs[i] * tokens_of_step);
    }
    c_.graph.backward(static_cast<float>(1 / tokens_of_step), row_weights);
    return {};
  }));
  if (first && config().updates > 1) QW_TRY(complete(&Sample::old, ran));  // other processes may go on from a checkpoint
  std::vector<double> sums;
  for (const Of& o : of) sums.insert(sums.end(), {o.loss, o.gap, o.divergence, o.clipped});
  QW_TRY(c_.share.add_up(sums));
  Of total;
  for (std::size_t i = 0; i < sums.size(); i += 4) {
    total.loss += sums[i];
    total.gap += sums[i + 1];
    total.divergence += sums[i + 2];
    total.clipped += sums[i + 3];
  }
  record.loss = total.loss;
  ++updates_done_;
  if (first) told.sampler_gap = total.gap / tokens_of_step;
  told.clipped_share = total.clipped / tokens_of_step;
  if (config().beta > 0) told.kl = total.divergence / tokens_of_step;
  record.rollouts = std::move(told);
  return {};
}

json::Object GrpoMethod::state() const {
  if (samples_.empty() || updates_done_ == config().updates) return {};
  json::Object out;
  out.set("updates_done", updates_done_);
  json::Array samples;
  for (const Sample& sample : samples_) {
    json::Object one;
    one.set("prompt", sample.prompt);
    one.set("tokens", json::Array(sample.tokens.begin(), sample.tokens.end()));
    one.set("advantage", sample.advantage);
    const auto floats = [&](const char* key, const std::vector<float>& of) {
      json::Array values;
      for (const float x : of) values.emplace_back(static_cast<double>(x));
      one.set(key, std::move(values));
    };
    floats("old", sample.old);
    if (config().beta > 0) floats("before", sample.before);
    samples.emplace_back(std::move(one));
  }
  out.set("samples", std::move(samples));
  return out;
}

// The floats of a sample, one a token.
Status read_floats(const json::Value& sample, const char* key, std::size_t n, std::vector<float>& out) {
  const json::Value* values = sample.find(key);
  if (values == nullptr || !values->is_array() || values->as_array().size() != n)
    return fail(ErrorKind::kBadInput, std::string("an answer has no ") + key + " of each token");
  for (const json::Value& value : values->as_array()) {
    if (!value.is_number()) return fail(ErrorKind::kBadInput, std::string("an answer's ") + key + " is not a number");
    out.push_back(static_cast<float>(value.as_double()));
  }
  return {};
}

Result<Sample> read_sample(const json::Value& value, std::int64_t prompts, std::int64_t vocab,
                           const GrpoConfig& config) {
  const json::Value *prompt = value.find("prompt"), *tokens = value.find("tokens"),
                    *advantage = value.find("advantage");
  if (prompt == nullptr || !prompt->is_int() || prompt->as_int() < 0 || prompt->as_int() >= prompts ||
      tokens == nullptr || !tokens->is_array() || tokens->as_array().empty() ||
      std::ssize(tokens->as_array()) > config.max_tokens || advantage == nullptr || !advantage->is_number())
    return fail(ErrorKind::kBadInput, "an answer has no prompt, tokens or advantage");
  Sample out;
  out.prompt = prompt->as_int();
  out.advantage = advantage->as_double();
  for (const json::Value& token : tokens->as_array()) {
    if (!token.is_int() || token.as_int() < 0 || token.as_int() >= vocab)
      return fail(ErrorKind::kBadInput, "an answer's token is none");
    out.tokens.push_back(static_cast<TokenId>(token.as_int()));
  }
  QW_TRY(read_floats(value, "old", out.tokens.size(), out.old));
  if (config.beta > 0) QW_TRY(read_floats(value, "before", out.tokens.size(), out.before));
  return out;
}

Status GrpoMethod::restore(const json::Value& state) {
  const json::Value *done = state.find("updates_done"), *samples = state.find("samples");
  if (done == nullptr || !done->is_int() || done->as_int() < 1 || done->as_int() >= config().updates ||
      samples == nullptr || !samples->is_array() || std::ssize(samples->as_array()) != answers())
    return fail(ErrorKind::kBadInput, "the answers that steps to come learn from are not there");
  std::vector<Sample> read;
  for (const json::Value& value : samples->as_array()) {
    QW_ASSIGN(auto sample, read_sample(value, examples_->examples(), c_.model.traits().vocab, config()));
    read.push_back(std::move(sample));
  }
  samples_ = std::move(read);
  updates_done_ = done->as_int();
  make_batches();
  return {};
}

Result<EvalRecord> GrpoMethod::evaluate() {
  EvalRecord record;
  record.step = c_.step;
  if (!heldout_) return record;
  // The first prompts of each source, as many as eval.max_tokens allows.
  const std::int64_t most = c_.config.eval.max_tokens;
  std::vector<std::int64_t> asked, rows(c_.dataset.heldout.size());
  for (std::int64_t i = 0; i < heldout_->examples(); ++i) {
    std::int64_t& used = rows[heldout_->source_of(i)];
    if (most > 0 && used >= most) continue;
    used += std::ssize(prompt(*heldout_, i)) + config().max_tokens;
    asked.push_back(i);
  }
  std::vector<double> sums(rows.size()), counts(rows.size());
  for (std::size_t s = 0; s < rows.size(); ++s) record.sources.emplace_back().name = c_.dataset.heldout[s].name;
  QW_TRY(rollouts_.begin(c_.served));
  for (std::size_t at = 0; at < asked.size(); at += kAskedTogether) {
    std::vector<Question> questions;
    const auto now = std::span(asked).subspan(at, std::min<std::size_t>(kAskedTogether, asked.size() - at));
    for (const std::int64_t i : now) questions.push_back({prompt(*heldout_, i), 0});
    QW_ASSIGN(const auto answers, rollouts_.answers(questions, 0.0f));
    QW_ASSIGN(const auto judged, judge_all(*heldout_, now, answers));
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const std::uint32_t source = heldout_->source_of(now[i]);
      sums[source] += rewards_->weighted(judged[i]);
      counts[source] += 1;
      record.sources[source].tokens += std::ssize(answers[i].tokens);
    }
  }
  QW_TRY(rollouts_.end());
  double sum = 0, count = 0;
  for (std::size_t s = 0; s < rows.size(); ++s) {
    record.sources[s].reward = sums[s] / std::max(1.0, counts[s]);
    record.sources[s].loss = -*record.sources[s].reward;
    sum += sums[s];
    count += counts[s];
  }
  record.reward = sum / std::max(1.0, count);
  record.eval_loss = -*record.reward;
  return record;
}

}  // namespace

std::unique_ptr<Method> make_grpo_method(const MethodContext& context) { return std::make_unique<GrpoMethod>(context); }

}  // namespace qw::train
