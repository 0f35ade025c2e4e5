// Learning from rated answers. A step first runs the mismatched answers of all its batches, whose mean drift from the
// model before training each of its losses contains, and then learns batch by batch: so accumulation is equal to the
// big batch.
#include <algorithm>
#include <optional>

#include "train/internal/example_method.h"
#include "train/internal/references.h"
#include "train/kto.h"

namespace qw::train {
namespace {

using Numbers = std::vector<std::int64_t>;

class KtoMethod final : public ExampleMethod {
 public:
  explicit KtoMethod(const MethodContext& context)
      : ExampleMethod(context, data::Holds::kRatings, data::Reading::kAnswers) {}

  Status draw() override;
  Status learn(StepRecord& record) override;
  Result<EvalRecord> evaluate() override;
  json::Object identity() const override { return {{"kto", to_json(config())}}; }

 private:
  const KtoConfig& config() const { return *c_.config.kto; }
  // Of example i the reference of its answer is at 2i, that of the answer behind the foreign prompt at 2i + 1.
  Status find_references();
  Result<std::vector<double>> score(const data::ExampleStream& from) const;
  // Sums of log-probabilities of some answers, or of those behind foreign prompts.
  Result<std::vector<double>> sums(const ops::ParameterBuffer& by, const data::ExampleStream& from, const Numbers& of,
                                   bool mismatched) const;
  Numbers block(const data::ExampleStream& from, std::int64_t at) const;

  References references_;
};

Status KtoMethod::draw() {
  QW_TRY(find_references());
  return ExampleMethod::draw();
}

Result<std::vector<double>> KtoMethod::sums(const ops::ParameterBuffer& by, const data::ExampleStream& from,
                                            const Numbers& of, bool mismatched) const {
  data::PackedBatch batch;
  for (const std::int64_t i : of) {
    if (mismatched)
      from.append_mismatched(i, batch);
    else
      from.append(i, batch);
  }
  QW_ASSIGN(const std::vector<float> logprobs, c_.logprobs(by, batch));
  std::vector<double> out;
  for (const AnswerScore& answer : answer_scores(batch, logprobs)) out.push_back(answer.logprob);
  return out;
}

Numbers KtoMethod::block(const data::ExampleStream& from, std::int64_t at) const {
  Numbers out;
  for (auto i = at; i < std::min(from.examples(), at + c_.config.batch_sequences); ++i) out.push_back(i);
  return out;
}

Result<std::vector<double>> KtoMethod::score(const data::ExampleStream& from) const {
  std::vector<double> out(2 * static_cast<std::size_t>(from.examples()));
  for (std::int64_t at = 0, number = 0; at < from.examples(); at += c_.config.batch_sequences, ++number) {
    if (!c_.share.mine(static_cast<std::size_t>(number))) continue;
    const Numbers of = block(from, at);
    std::vector<double> foreign(of.size());
    QW_ASSIGN(const auto own, sums(c_.weights, from, of, false));
    if (config().drift) {
      QW_ASSIGN(foreign, sums(c_.weights, from, of, true));
    }
    for (std::size_t i = 0; i < of.size(); ++i) {
      out[2 * static_cast<std::size_t>(of[i])] = own[i];
      out[2 * static_cast<std::size_t>(of[i]) + 1] = foreign[i];
    }
  }
  QW_TRY(c_.share.add_up(out));
  return out;
}

Status KtoMethod::find_references() {
  return references_.find(
      c_, [this] { return score(*examples_); },
      [this] { return heldout_ ? score(*heldout_) : Result<std::vector<double>>(std::vector<double>()); });
}

Status KtoMethod::learn(StepRecord& record) {
  double count = 0, drift = 0;
  for (const Numbers& of : numbers_) count += static_cast<double>(of.size());
  std::vector<double> of_batch(numbers_.size());
  for (std::size_t b = 0; config().drift && b < numbers_.size(); ++b) {
    const Numbers& of = numbers_[b];
    if (!c_.share.mine(b)) continue;
    QW_ASSIGN(const auto foreign, sums(c_.weights, *examples_, of, true));
    for (std::size_t i = 0; i < of.size(); ++i) of_batch[b] += (foreign[i] - references_.train(2 * of[i] + 1)) / count;
  }
  QW_TRY(c_.share.add_up(of_batch));
  for (const double part : of_batch) drift += part;
  // Of each batch: the loss, and of answers that were not liked and of those that were the ratios and how many.
  std::vector<double> told(5 * batches_.size());
  const Status learnt = c_.share.each(batches_.size(), [&](std::size_t b) -> Status {
    double* const of = told.data() + 5 * b;
    const data::PackedBatch& batch = batches_[b];
    QW_ASSIGN(const std::vector<float> logprobs, c_.logprobs(c_.weights, batch));
    const std::vector<AnswerScore> answers = answer_scores(batch, logprobs);
    std::vector<float> row_weights(batch.tokens.size());
    for (std::size_t d = 0; d < answers.size(); ++d) {
      const bool liked = examples_->liked(numbers_[b][d]);
      const double r = answers[d].logprob - references_.train(2 * numbers_[b][d]);
      const KtoLoss loss = kto_loss(config(), r, drift, liked);
      of[0] += loss.loss;
      of[liked ? 2 : 1] += r;
      of[liked ? 4 : 3] += 1;
      // backward() weighs -log p.
      std::fill(row_weights.begin() + batch.cu_seqlens[d], row_weights.begin() + batch.cu_seqlens[d + 1],
                static_cast<float>(-loss.d_logprob));
    }
    c_.graph.backward(static_cast<float>(1 / count), row_weights);
    return {};
  });
  QW_TRY(learnt);
  QW_TRY(c_.share.add_up(told));
  double ratio[2] = {}, seen[2] = {};
  for (std::size_t i = 0; i < told.size(); i += 5) {
    record.loss += told[i] / count;
    for (std::size_t liked = 0; liked < 2; ++liked) {
      ratio[liked] += told[i + 1 + liked];
      seen[liked] += told[i + 3 + liked];
    }
  }
  if (config().drift) record.drift = drift;
  if (seen[0] > 0 && seen[1] > 0) record.margin = ratio[1] / seen[1] - ratio[0] / seen[0];
  return {};
}

Result<EvalRecord> KtoMethod::evaluate() {
  EvalRecord record;
  record.step = c_.step;
  if (!heldout_) return record;
  QW_TRY(find_references());
  const std::int64_t n = heldout_->examples();
  double drift = 0;
  std::vector<double> ratios(static_cast<std::size_t>(n)), drifts(ratios.size());
  std::vector<SourceEval> of(c_.dataset.heldout.size());
  for (std::int64_t at = 0, number = 0; at < n; at += c_.config.batch_sequences, ++number) {
    if (!c_.share.mine(static_cast<std::size_t>(number))) continue;
    const Numbers block_of = block(*heldout_, at);
    const auto place = static_cast<std::size_t>(at);
    QW_ASSIGN(const auto own, sums(c_.served, *heldout_, block_of, false));
    for (std::size_t i = 0; i < own.size(); ++i) ratios[place + i] = own[i] - references_.heldout(2 * block_of[i]);
    if (!config().drift) continue;
    QW_ASSIGN(const auto foreign, sums(c_.served, *heldout_, block_of, true));
    for (std::size_t i = 0; i < foreign.size(); ++i)
      drifts[place + i] = (foreign[i] - references_.heldout(2 * block_of[i] + 1)) / static_cast<double>(n);
  }
  QW_TRY(c_.share.add_up(ratios));
  QW_TRY(c_.share.add_up(drifts));
  for (const double d : drifts) drift += d;
  struct Sums {
    double loss = 0, answers = 0, ratio[2] = {}, seen[2] = {};
    std::optional<double> margin() const {
      if (seen[0] == 0 || seen[1] == 0) return std::nullopt;
      return ratio[1] / seen[1] - ratio[0] / seen[0];
    }
  } all;
  std::vector<Sums> by_source(of.size());
  for (std::int64_t i = 0; i < n; ++i) {
    const bool liked = heldout_->liked(i);
    const double r = ratios[static_cast<std::size_t>(i)];
    const double loss = kto_loss(config(), r, drift, liked).loss;
    for (Sums* sums_of : {&all, &by_source[heldout_->source_of(i)]}) {
      sums_of->loss += loss;
      sums_of->answers += 1;
      sums_of->ratio[liked ? 1 : 0] += r;
      sums_of->seen[liked ? 1 : 0] += 1;
    }
  }
  for (std::size_t i = 0; i < of.size(); ++i) {
    of[i].name = c_.dataset.heldout[i].name;
    of[i].loss = by_source[i].loss / std::max(1.0, by_source[i].answers);
    of[i].margin = by_source[i].margin();
  }
  record.sources = std::move(of);
  record.eval_loss = all.loss / all.answers;
  record.margin = all.margin();
  QW_TRY(check_finite(record));
  return record;
}

}  // namespace

std::unique_ptr<Method> make_kto_method(const MethodContext& context) { return std::make_unique<KtoMethod>(context); }

}  // namespace qw::train
