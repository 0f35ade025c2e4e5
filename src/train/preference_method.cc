// Learning from preference pairs.
#include <algorithm>
#include <optional>

#include "train/internal/example_method.h"
#include "train/internal/references.h"

namespace qw::train {
namespace {

class PairMethod final : public ExampleMethod {
 public:
  explicit PairMethod(const MethodContext& context)
      : ExampleMethod(context, data::Holds::kPairs, data::Reading::kAnswers) {}

  Status draw() override;
  Status learn(StepRecord& record) override;
  Result<EvalRecord> evaluate() override;
  json::Object identity() const override { return {{"preference", to_json(*c_.config.preference)}}; }

 private:
  bool refers() const { return needs_reference(c_.config.preference->method); }
  Status find_references();
  Result<std::vector<double>> score(const data::ExampleStream& pairs) const;

  References references_;  // of pair i the preferred answer's at 2i, the other's behind it
};

Status PairMethod::draw() {
  QW_TRY(find_references());
  return ExampleMethod::draw();
}

Status PairMethod::learn(StepRecord& record) {
  double count = 0;
  for (const auto& batch : batches_) count += static_cast<double>(batch.cu_seqlens.size() - 1) / 2;
  std::vector<double> sums(3 * batches_.size());  // loss, pairs that are right and margins of each batch
  const Status learnt = c_.share.each(batches_.size(), [&](std::size_t b) -> Status {
    const data::PackedBatch& batch = batches_[b];
    QW_ASSIGN(const std::vector<float> logprobs, c_.logprobs(c_.weights, batch));
    std::vector<AnswerScore> answers = answer_scores(batch, logprobs);
    std::vector<float> row_weights(batch.tokens.size());
    for (std::size_t d = 0; d < answers.size(); d += 2) {
      if (refers())
        for (std::size_t i = 0; i < 2; ++i)
          answers[d + i].reference = references_.train(2 * numbers_[b][d / 2] + static_cast<std::int64_t>(i));
      const PairLoss loss = pair_loss(*c_.config.preference, answers[d], answers[d + 1]);
      sums[3 * b] += loss.loss;
      sums[3 * b + 1] += loss.margin > 0 ? 1 : 0;
      sums[3 * b + 2] += loss.margin;
      // backward() weighs -log p.
      for (auto r = batch.cu_seqlens[d]; r < batch.cu_seqlens[d + 2]; ++r)
        row_weights[static_cast<std::size_t>(r)] =
            static_cast<float>(-(r < batch.cu_seqlens[d + 1] ? loss.d_chosen : loss.d_rejected));
    }
    c_.graph.backward(static_cast<float>(1 / count), row_weights);
    return {};
  });
  QW_TRY(learnt);
  return judge(sums, count, record);
}

Result<std::vector<double>> PairMethod::score(const data::ExampleStream& pairs) const {
  std::vector<double> out(2 * static_cast<std::size_t>(pairs.examples()));
  data::PackedBatch batch;
  for (std::int64_t i = 0, block = 0; i < pairs.examples(); i += c_.config.batch_sequences, ++block) {
    if (!c_.share.mine(static_cast<std::size_t>(block))) continue;
    batch.clear();
    for (std::int64_t j = i; j < std::min(pairs.examples(), i + c_.config.batch_sequences); ++j) pairs.append(j, batch);
    QW_ASSIGN(const std::vector<float> logprobs, c_.logprobs(c_.weights, batch));
    auto place = static_cast<std::size_t>(2 * i);
    for (const AnswerScore& answer : answer_scores(batch, logprobs)) out[place++] = answer.logprob;
  }
  QW_TRY(c_.share.add_up(out));
  return out;
}

Status PairMethod::find_references() {
  if (!refers()) return {};
  return references_.find(
      c_, [this] { return score(*examples_); },
      [this] { return heldout_ ? score(*heldout_) : Result<std::vector<double>>(std::vector<double>()); });
}

Result<EvalRecord> PairMethod::evaluate() {
  EvalRecord record;
  record.step = c_.step;
  if (!heldout_) return record;
  QW_TRY(find_references());
  struct Sums {
    double loss = 0, right = 0, pairs = 0;
    std::int64_t tokens = 0;
  };
  std::vector<Sums> of(c_.dataset.heldout.size());
  data::PackedBatch batch;
  std::vector<double> given(4 * static_cast<std::size_t>(heldout_->examples()));  // log p and tokens of both answers
  for (std::int64_t i = 0; i < heldout_->examples(); ++i) {
    if (!c_.share.mine(static_cast<std::size_t>(i))) continue;
    batch.clear();
    heldout_->append(i, batch);
    QW_ASSIGN(const std::vector<float> logprobs, c_.logprobs(c_.served, batch));
    auto place = given.begin() + 4 * i;
    for (const AnswerScore& answer : answer_scores(batch, logprobs)) {
      *place++ = answer.logprob;
      *place++ = static_cast<double>(answer.tokens);
    }
  }
  QW_TRY(c_.share.add_up(given));
  for (std::int64_t i = 0; i < heldout_->examples(); ++i) {
    AnswerScore both[2];
    for (std::size_t d = 0; d < 2; ++d) {
      both[d].logprob = given[4 * static_cast<std::size_t>(i) + 2 * d];
      both[d].tokens = static_cast<std::int64_t>(given[4 * static_cast<std::size_t>(i) + 2 * d + 1]);
    }
    if (refers())
      for (std::size_t d = 0; d < 2; ++d) both[d].reference = references_.heldout(2 * i + static_cast<std::int64_t>(d));
    const PairLoss loss = pair_loss(*c_.config.preference, both[0], both[1]);
    Sums& sums = of[heldout_->source_of(i)];
    sums.loss += loss.loss;
    sums.right += loss.margin > 0 ? 1 : 0;
    sums.pairs += 1;
    sums.tokens += both[0].tokens + both[1].tokens;
  }
  Sums all;
  for (std::size_t i = 0; i < of.size(); ++i) {
    const double n = std::max(1.0, of[i].pairs);
    SourceEval& source = record.sources.emplace_back();
    source.name = c_.dataset.heldout[i].name;
    source.tokens = of[i].tokens;
    source.loss = of[i].loss / n;
    source.accuracy = of[i].right / n;
    all.loss += of[i].loss;
    all.right += of[i].right;
    all.pairs += of[i].pairs;
  }
  record.eval_loss = all.loss / all.pairs;
  record.accuracy = all.right / all.pairs;
  QW_TRY(check_finite(record));
  return record;
}

}  // namespace

std::unique_ptr<Method> make_preference_method(const MethodContext& context) {
  return std::make_unique<PairMethod>(context);
}

}  // namespace qw::train
