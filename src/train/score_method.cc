// Learning to judge: rewards from preference pairs, and classes of documents. A document is judged by what the head
// gives at its last token.
#include <algorithm>
#include <optional>

#include "train/internal/example_method.h"
#include "train/scores.h"

namespace qw::train {
namespace {

class ScoreMethod final : public ExampleMethod {
 public:
  explicit ScoreMethod(const MethodContext& context)
      : ExampleMethod(context, context.config.reward ? data::Holds::kPairs : data::Holds::kClasses,
                      data::Reading::kWhole),
        outputs_(static_cast<std::size_t>(c_.graph.final_width())),
        documents_(c_.config.reward ? 2 : 1) {}

  Status learn(StepRecord& record) override;
  Result<EvalRecord> evaluate() override;
  json::Object identity() const override;

 private:
  // Runs a batch; what the head gives at the ends of its documents: [documents, outputs].
  Result<std::vector<float>> scores(const ops::ParameterBuffer& by, const data::PackedBatch& batch) const;
  // Of one example, whose scores these are.
  ScoreLoss loss(const data::ExampleStream& of, std::int64_t number, std::span<const float> scores,
                 std::span<double> d_scores) const;

  std::size_t outputs_, documents_;  // of an example
};

json::Object ScoreMethod::identity() const {
  if (!c_.config.reward) return {{"classes", json::Array(c_.dataset.labels.begin(), c_.dataset.labels.end())}};
  return {{"reward", json::Object{{"center", c_.config.reward->center}}}};
}

Result<std::vector<float>> ScoreMethod::scores(const ops::ParameterBuffer& by, const data::PackedBatch& batch) const {
  QW_TRY(c_.graph.forward(by, {batch.tokens, batch.positions, batch.cu_seqlens, batch.labels}));
  std::vector<float> out;
  for (std::size_t d = 1; d < batch.cu_seqlens.size(); ++d) {
    const float* row = c_.graph.final_hidden() + static_cast<std::size_t>(batch.cu_seqlens[d] - 1) * outputs_;
    out.insert(out.end(), row, row + outputs_);
  }
  return out;
}

ScoreLoss ScoreMethod::loss(const data::ExampleStream& of, std::int64_t number, std::span<const float> scores,
                            std::span<double> d_scores) const {
  const auto value = static_cast<double>(of.value(number));
  if (!c_.config.reward) return class_loss(scores, static_cast<std::int64_t>(value), d_scores);
  return reward_loss(*c_.config.reward, scores.first<2>(), value, d_scores.first<2>());
}

Status ScoreMethod::learn(StepRecord& record) {
  double count = 0;
  for (const auto& of : numbers_) count += static_cast<double>(of.size());
  const std::size_t each = documents_ * outputs_;
  std::vector<double> d_scores(each);
  std::vector<double> sums(3 * batches_.size());  // loss, examples that are right and margins of each batch
  const Status learnt = c_.share.each(batches_.size(), [&](std::size_t b) -> Status {
    const data::PackedBatch& batch = batches_[b];
    QW_ASSIGN(const std::vector<float> given, scores(c_.weights, batch));
    std::vector<float> d_rows(batch.tokens.size() * outputs_);
    for (std::size_t e = 0; e < numbers_[b].size(); ++e) {
      const ScoreLoss lost = loss(*examples_, numbers_[b][e], std::span(given).subspan(e * each, each), d_scores);
      sums[3 * b] += lost.loss;
      sums[3 * b + 1] += lost.right ? 1 : 0;
      sums[3 * b + 2] += lost.margin;
      for (std::size_t i = 0; i < each; ++i) {
        const auto last = static_cast<std::size_t>(batch.cu_seqlens[e * documents_ + i / outputs_ + 1] - 1);
        d_rows[last * outputs_ + i % outputs_] = static_cast<float>(d_scores[i] / count);
      }
    }
    c_.graph.backward_rows(d_rows);
    return {};
  });
  QW_TRY(learnt);
  return judge(sums, count, record);
}

Result<EvalRecord> ScoreMethod::evaluate() {
  EvalRecord record;
  record.step = c_.step;
  if (!heldout_) return record;
  struct Sums {
    double loss = 0, right = 0, margin = 0, examples = 0;
    std::int64_t tokens = 0;
  } all;
  std::vector<Sums> of(c_.dataset.heldout.size());
  std::vector<double> d_scores(documents_ * outputs_);
  data::PackedBatch batch;
  const std::size_t each = documents_ * outputs_;
  std::vector<double> all_given((each + 1) * static_cast<std::size_t>(heldout_->examples()));  // scores, and tokens
  for (std::int64_t i = 0; i < heldout_->examples(); ++i) {
    if (!c_.share.mine(static_cast<std::size_t>(i))) continue;
    batch.clear();
    heldout_->append(i, batch);
    QW_ASSIGN(const std::vector<float> of_one, scores(c_.served, batch));
    const auto place = all_given.begin() + i * static_cast<std::ptrdiff_t>(each + 1);
    *std::copy(of_one.begin(), of_one.end(), place) = static_cast<double>(batch.tokens.size());
  }
  QW_TRY(c_.share.add_up(all_given));
  for (std::int64_t i = 0; i < heldout_->examples(); ++i) {
    const auto place = all_given.begin() + i * static_cast<std::ptrdiff_t>(each + 1);
    const std::vector<float> given(place, place + static_cast<std::ptrdiff_t>(each));
    const ScoreLoss lost = loss(*heldout_, i, given, d_scores);
    for (Sums* sums : {&all, &of[heldout_->source_of(i)]}) {
      sums->loss += lost.loss;
      sums->right += lost.right ? 1 : 0;
      sums->margin += lost.margin;
      sums->examples += 1;
      sums->tokens += static_cast<std::int64_t>(place[static_cast<std::ptrdiff_t>(each)]);
    }
  }
  const auto mean = [](double sum, const Sums& sums) { return sum / std::max(1.0, sums.examples); };
  for (std::size_t i = 0; i < of.size(); ++i) {
    SourceEval& source = record.sources.emplace_back();
    source.name = c_.dataset.heldout[i].name;
    source.tokens = of[i].tokens;
    source.loss = mean(of[i].loss, of[i]);
    source.accuracy = mean(of[i].right, of[i]);
    source.margin = mean(of[i].margin, of[i]);
  }
  record.eval_loss = mean(all.loss, all);
  record.accuracy = mean(all.right, all);
  record.margin = mean(all.margin, all);
  QW_TRY(check_finite(record));
  return record;
}

}  // namespace

std::unique_ptr<Method> make_score_method(const MethodContext& context) {
  return std::make_unique<ScoreMethod>(context);
}

}  // namespace qw::train
