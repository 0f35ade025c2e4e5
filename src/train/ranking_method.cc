// Learning to rank as Qwen3-Reranker does: asked whether a document answers a query, a language model says "yes" or
// "no". The loss is the cross-entropy of these two tokens' logits alone, which is what ranks when the model serves.
#include <algorithm>

#include "tokenizer/retrieval_prompt.h"
#include "train/internal/example_method.h"
#include "train/scores.h"

namespace qw::train {
namespace {

class RankingMethod final : public ExampleMethod {
 public:
  explicit RankingMethod(const MethodContext& context)
      : ExampleMethod(context, data::Holds::kRankings, data::Reading::kWhole) {}

  Status open(const data::Cursor& at) override;
  Status draw() override;
  Status learn(StepRecord& record) override;
  Result<EvalRecord> evaluate() override;
  json::Object identity() const override { return {{"ranking", json::Object()}}; }

 private:
  // The answer as the label of each question's last row, the only one whose logits are wanted.
  void set_answers(const data::ExampleStream& of, std::span<const std::int64_t> numbers,
                   data::PackedBatch& batch) const;
  // Of the logits of one row.
  ScoreLoss loss(std::span<const float> logits, std::int32_t answer, std::span<double, 2> d) const;

  std::int32_t yes_ = 0, no_ = 0;
};

Status RankingMethod::open(const data::Cursor& at) {
  const auto yes = c_.tokenizer.find(tokenizer::kYes), no = c_.tokenizer.find(tokenizer::kNo);
  if (!yes || !no) return fail(ErrorKind::kUsage, "[ranking]: \"yes\" and \"no\" are no tokens of this tokenizer");
  yes_ = *yes;
  no_ = *no;
  return ExampleMethod::open(at);
}

void RankingMethod::set_answers(const data::ExampleStream& of, std::span<const std::int64_t> numbers,
                                data::PackedBatch& batch) const {
  for (std::size_t d = 0; d < numbers.size(); ++d)
    batch.labels[static_cast<std::size_t>(batch.cu_seqlens[d + 1] - 1)] = of.liked(numbers[d]) ? yes_ : no_;
  batch.kept = std::ssize(numbers);
}

Status RankingMethod::draw() {
  QW_TRY(ExampleMethod::draw());
  for (std::size_t b = 0; b < batches_.size(); ++b) set_answers(*examples_, numbers_[b], batches_[b]);
  return {};
}

ScoreLoss RankingMethod::loss(std::span<const float> logits, std::int32_t answer, std::span<double, 2> d) const {
  const float both[] = {logits[static_cast<std::size_t>(no_)], logits[static_cast<std::size_t>(yes_)]};
  return class_loss(both, answer == yes_ ? 1 : 0, d);
}

Status RankingMethod::learn(StepRecord& record) {
  double count = 0;
  for (const auto& batch : batches_) count += static_cast<double>(batch.kept);
  std::vector<double> sums(3 * batches_.size());  // loss, questions that are right and margins of each batch
  const Status learnt = c_.share.each(batches_.size(), [&](std::size_t b) -> Status {
    const data::PackedBatch& batch = batches_[b];
    QW_TRY(c_.graph.forward(c_.weights, {batch.tokens, batch.positions, batch.cu_seqlens, batch.labels}));
    const auto chunk = [&](std::span<const std::int32_t> rows, std::span<float> logits) {
      const std::size_t vocab = logits.size() / rows.size();
      double sum = 0;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::span<float> row = logits.subspan(i * vocab, vocab);
        double d[2];
        const ScoreLoss lost = loss(row, batch.labels[static_cast<std::size_t>(rows[i])], d);
        std::fill(row.begin(), row.end(), 0.0f);
        row[static_cast<std::size_t>(no_)] = static_cast<float>(d[0]);
        row[static_cast<std::size_t>(yes_)] = static_cast<float>(d[1]);
        sum += lost.loss;
        sums[3 * b + 1] += lost.right ? 1 : 0;
        sums[3 * b + 2] += lost.margin;
      }
      return sum;
    };
    sums[3 * b] = c_.graph.backward_logits(static_cast<float>(1 / count), chunk);
    return {};
  });
  QW_TRY(learnt);
  return judge(sums, count, record);
}

Result<EvalRecord> RankingMethod::evaluate() {
  EvalRecord record;
  record.step = c_.step;
  if (!heldout_) return record;
  std::vector<double> counts(c_.dataset.heldout.size());
  for (const auto& source : c_.dataset.heldout) {
    SourceEval& of = record.sources.emplace_back();
    of.name = source.name;
    of.accuracy = of.margin = 0;
  }
  data::PackedBatch batch;
  std::vector<float> logits(static_cast<std::size_t>(c_.model.traits().vocab));
  std::vector<double> given(3 * static_cast<std::size_t>(heldout_->examples()));
  for (std::int64_t i = 0; i < heldout_->examples(); ++i) {
    SourceEval& of = record.sources[heldout_->source_of(i)];
    if (c_.config.eval.max_tokens > 0 && of.tokens >= c_.config.eval.max_tokens) continue;
    batch.clear();
    heldout_->append(i, batch);
    of.tokens += std::ssize(batch.tokens);
    counts[heldout_->source_of(i)] += 1;
    if (!c_.share.mine(static_cast<std::size_t>(i))) continue;
    set_answers(*heldout_, std::span(&i, 1), batch);
    QW_TRY(c_.graph.forward(c_.served, {batch.tokens, batch.positions, batch.cu_seqlens, batch.labels}));
    const auto last = static_cast<std::int32_t>(batch.tokens.size() - 1);
    c_.graph.logits(std::span(&last, 1), logits.data());
    double d[2];
    const ScoreLoss lost = loss(logits, batch.labels.back(), d);
    double* const place = given.data() + 3 * i;
    place[0] = lost.loss, place[1] = lost.right ? 1 : 0, place[2] = lost.margin;
  }
  QW_TRY(c_.share.add_up(given));
  for (std::int64_t i = 0; i < heldout_->examples(); ++i) {  // 0 of those that were left out
    SourceEval& of = record.sources[heldout_->source_of(i)];
    const double* const place = given.data() + 3 * i;
    of.loss += place[0];
    *of.accuracy += place[1];
    *of.margin += place[2];
  }
  double all = 0;
  record.accuracy = record.margin = 0;
  for (std::size_t s = 0; s < counts.size(); ++s) {
    SourceEval& of = record.sources[s];
    all += counts[s];
    record.eval_loss += of.loss;
    *record.accuracy += *of.accuracy;
    *record.margin += *of.margin;
    const double n = std::max(1.0, counts[s]);
    of.loss /= n;
    *of.accuracy /= n;
    *of.margin /= n;
  }
  all = std::max(1.0, all);
  record.eval_loss /= all;
  *record.accuracy /= all;
  *record.margin /= all;
  QW_TRY(check_finite(record));
  return record;
}

}  // namespace

std::unique_ptr<Method> make_ranking_method(const MethodContext& context) {
  return std::make_unique<RankingMethod>(context);
}

}  // namespace qw::train
