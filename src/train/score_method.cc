// Learning to judge: rewards from preference pairs, and classes of documents. A document is judged by what the head
// gives at its last token.
#include <algorithm>
#include <optional>

#include "data/examples.h"
#include "train/internal/method.h"
#include "train/scores.h"

namespace qw::train {
namespace {

class ScoreMethod final : public Method {
 public:
  explicit ScoreMethod(const MethodContext& context)
      : c_(context), outputs_(static_cast<std::size_t>(c_.graph.final_width())), documents_(c_.config.reward ? 2 : 1) {
    batches_.resize(static_cast<std::size_t>(c_.config.accumulation));
    numbers_.resize(batches_.size());
  }

  Status open(const data::Cursor& at) override;
  data::Cursor cursor() const override { return examples_->cursor(); }
  Status draw() override;
  std::span<const data::PackedBatch> batches() const override { return batches_; }
  Status learn(StepRecord& record) override;
  Result<EvalRecord> evaluate() override;
  MethodSize size() const override {
    return {examples_->examples_in_epoch(), examples_->rows(),
            examples_->left_out() + (heldout_ ? heldout_->left_out() : 0)};
  }
  json::Object identity() const override;

 private:
  data::Holds holds() const { return c_.config.reward ? data::Holds::kPairs : data::Holds::kClasses; }
  Result<data::ExampleStream> stream(const std::vector<data::DatasetSource>& sources, const data::Cursor& at) const {
    return data::ExampleStream::create(sources, holds(), data::Reading::kWhole, c_.config.sequence_length,
                                       c_.config.seed, at);
  }
  // Runs a batch; what the head gives at the ends of its documents: [documents, outputs].
  Result<std::vector<float>> scores(const ops::ParameterBuffer& by, const data::PackedBatch& batch) const;
  // Of one example, whose scores these are.
  ScoreLoss loss(const data::ExampleStream& of, std::int64_t number, std::span<const float> scores,
                 std::span<double> d_scores) const;

  MethodContext c_;
  std::size_t outputs_, documents_;  // of an example
  std::optional<data::ExampleStream> examples_, heldout_;
  std::vector<data::PackedBatch> batches_;
  std::vector<std::vector<std::int64_t>> numbers_;  // which examples stand in each batch
};

Status ScoreMethod::open(const data::Cursor& at) {
  QW_ASSIGN(auto opened, stream(c_.dataset.train, at));
  examples_.emplace(std::move(opened));
  if (c_.dataset.heldout.empty() || heldout_) return {};
  QW_ASSIGN(auto heldout, stream(c_.dataset.heldout, {}));
  heldout_.emplace(std::move(heldout));
  return {};
}

Status ScoreMethod::draw() {
  for (std::size_t i = 0; i < batches_.size(); ++i)
    examples_->next(c_.config.batch_sequences, batches_[i], numbers_[i]);
  return {};
}

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
  double count = 0, right = 0, margin = 0;
  for (const auto& of : numbers_) count += static_cast<double>(of.size());
  const std::size_t each = documents_ * outputs_;
  std::vector<double> d_scores(each);
  for (std::size_t b = 0; b < batches_.size(); ++b) {
    const data::PackedBatch& batch = batches_[b];
    QW_ASSIGN(const std::vector<float> given, scores(c_.weights, batch));
    std::vector<float> d_rows(batch.tokens.size() * outputs_);
    for (std::size_t e = 0; e < numbers_[b].size(); ++e) {
      const ScoreLoss lost = loss(*examples_, numbers_[b][e], std::span(given).subspan(e * each, each), d_scores);
      record.loss += lost.loss / count;
      right += lost.right ? 1 : 0;
      margin += lost.margin;
      for (std::size_t i = 0; i < each; ++i) {
        const auto last = static_cast<std::size_t>(batch.cu_seqlens[e * documents_ + i / outputs_ + 1] - 1);
        d_rows[last * outputs_ + i % outputs_] = static_cast<float>(d_scores[i] / count);
      }
    }
    c_.graph.backward_rows(d_rows);
  }
  record.accuracy = right / count;
  record.margin = margin / count;
  return {};
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
  for (std::int64_t i = 0; i < heldout_->examples(); ++i) {
    batch.clear();
    heldout_->append(i, batch);
    QW_ASSIGN(const std::vector<float> given, scores(c_.served, batch));
    const ScoreLoss lost = loss(*heldout_, i, given, d_scores);
    for (Sums* sums : {&all, &of[heldout_->source_of(i)]}) {
      sums->loss += lost.loss;
      sums->right += lost.right ? 1 : 0;
      sums->margin += lost.margin;
      sums->examples += 1;
      sums->tokens += static_cast<std::int64_t>(batch.tokens.size());
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
