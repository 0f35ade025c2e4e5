// Learning from preference pairs: one step, evaluation, and what the model gave the pairs before training.
#include <algorithm>
#include <array>
#include <cmath>

#include "train/internal/state.h"
#include "train/internal/tensor_file.h"

namespace qw::train {
namespace {

constexpr const char* kReferenceFormat = "qianwen-references-1";

// A sum as the two floats that a file holds of it. Used when it was just computed too, so that a run that is resumed
// goes on with the same numbers.
std::array<float, 2> halves(double sum) {
  const auto high = static_cast<float>(sum);
  return {high, static_cast<float>(sum - static_cast<double>(high))};
}
double whole(float high, float low) { return static_cast<double>(high) + static_cast<double>(low); }

// Scores of the documents of a batch, in their order.
std::vector<AnswerScore> answers(const data::PackedBatch& batch, std::span<const float> logprobs) {
  std::vector<AnswerScore> out(batch.cu_seqlens.size() - 1);
  for (std::size_t d = 0; d < out.size(); ++d)
    for (auto r = static_cast<std::size_t>(batch.cu_seqlens[d]); r < static_cast<std::size_t>(batch.cu_seqlens[d + 1]);
         ++r) {
      if (batch.labels[r] < 0) continue;
      out[d].logprob += static_cast<double>(logprobs[r]);
      ++out[d].tokens;
    }
  return out;
}

void refer(const std::vector<double>& references, const std::vector<std::int64_t>& numbers,
           std::vector<AnswerScore>& of) {
  if (references.empty()) return;
  for (std::size_t d = 0; d < of.size(); ++d)
    of[d].reference = references[static_cast<std::size_t>(2 * numbers[d / 2]) + d % 2];
}

}  // namespace

Status Trainer::State::learn_pairs(std::span<const data::PackedBatch> of, StepRecord& record) {
  double count = 0, right = 0, margin = 0;
  for (const auto& batch : of) count += static_cast<double>(batch.cu_seqlens.size() - 1) / 2;
  for (std::size_t b = 0; b < of.size(); ++b) {
    const data::PackedBatch& batch = of[b];
    QW_TRY(graph->forward(weights, {batch.tokens, batch.positions, batch.cu_seqlens, batch.labels}));
    std::vector<float> scores(batch.tokens.size()), row_weights(batch.tokens.size());
    graph->token_logprobs(scores);
    std::vector<AnswerScore> by_document = answers(batch, scores);
    refer(references.train, numbers[b], by_document);
    for (std::size_t d = 0; d < by_document.size(); d += 2) {
      const PairLoss loss = pair_loss(*config.preference, by_document[d], by_document[d + 1]);
      record.loss += loss.loss / count;
      right += loss.margin > 0 ? 1 : 0;
      margin += loss.margin;
      // backward() weighs -log p.
      for (auto r = batch.cu_seqlens[d]; r < batch.cu_seqlens[d + 2]; ++r)
        row_weights[static_cast<std::size_t>(r)] =
            static_cast<float>(-(r < batch.cu_seqlens[d + 1] ? loss.d_chosen : loss.d_rejected));
    }
    graph->backward(static_cast<float>(1 / count), row_weights);
  }
  record.accuracy = right / count;
  record.margin = margin / count;
  return {};
}

Status Trainer::State::score_pairs(const data::PairStream& from, std::vector<double>& out) {
  out.clear();
  data::PackedBatch batch;
  for (std::int64_t i = 0; i < from.pairs(); i += config.batch_sequences) {
    batch.clear();
    for (std::int64_t j = i; j < std::min(from.pairs(), i + config.batch_sequences); ++j) from.append(j, batch);
    QW_TRY(graph->forward(weights, {batch.tokens, batch.positions, batch.cu_seqlens, batch.labels}));
    std::vector<float> scores(batch.tokens.size());
    graph->token_logprobs(scores);
    for (const AnswerScore& answer : answers(batch, scores)) {
      const auto [high, low] = halves(answer.logprob);
      out.push_back(whole(high, low));
    }
  }
  return {};
}

Status Trainer::State::find_references() {
  if (references.known || !needs_reference(config.preference->method)) return {};
  const auto path = config.output / "references.safetensors";
  const std::int64_t trained = pairs->pairs(), held = heldout_pairs ? heldout_pairs->pairs() : 0;
  std::vector<float> numbers_of(static_cast<std::size_t>(4 * (trained + held)));
  const tensor::Shape shape{trained + held, 4};
  if (step == 0) {
    QW_TRY(score_pairs(*pairs, references.train));
    if (heldout_pairs) QW_TRY(score_pairs(*heldout_pairs, references.heldout));
    std::size_t at = 0;
    for (const auto* list : {&references.train, &references.heldout})
      for (const double sum : *list)
        for (const float half : halves(sum)) numbers_of[at++] = half;
    std::error_code code;
    std::filesystem::create_directories(config.output, code);
    QW_TRY(write_tensors(path, {{"logprobs", shape, numbers_of.data()}},
                         {{"format", kReferenceFormat}, {"ledger_sha256", dataset.ledger_sha256}}));
  } else {
    QW_ASSIGN(const auto file, formats::Safetensors::open(path));
    const json::Value *format = file.metadata().find("format"), *ledger = file.metadata().find("ledger_sha256");
    if (format == nullptr || *format != json::Value(kReferenceFormat) || ledger == nullptr ||
        *ledger != json::Value(dataset.ledger_sha256))
      return fail(ErrorKind::kUsage, path.string() + ": is not of these pairs");
    QW_TRY(read_tensor(file, "logprobs", shape, numbers_of.data()));
    for (std::size_t at = 0; at < numbers_of.size(); at += 2)
      (at < static_cast<std::size_t>(4 * trained) ? references.train : references.heldout)
          .push_back(whole(numbers_of[at], numbers_of[at + 1]));
  }
  references.known = true;
  return {};
}

Result<EvalRecord> Trainer::State::evaluate_pairs() {
  EvalRecord record;
  record.step = step;
  if (!heldout_pairs) return record;
  QW_TRY(find_references());
  struct Sums {
    double loss = 0, right = 0, pairs = 0;
    std::int64_t tokens = 0;
  };
  std::vector<Sums> of(dataset.heldout.size());
  data::PackedBatch batch;
  for (std::int64_t i = 0; i < heldout_pairs->pairs(); ++i) {
    batch.clear();
    heldout_pairs->append(i, batch);
    QW_TRY(graph->forward(served_weights(), {batch.tokens, batch.positions, batch.cu_seqlens, batch.labels}));
    std::vector<float> scores(batch.tokens.size());
    graph->token_logprobs(scores);
    std::vector<AnswerScore> both = answers(batch, scores);
    refer(references.heldout, {i}, both);
    const PairLoss loss = pair_loss(*config.preference, both[0], both[1]);
    Sums& sums = of[heldout_pairs->source_of(i)];
    sums.loss += loss.loss;
    sums.right += loss.margin > 0 ? 1 : 0;
    sums.pairs += 1;
    sums.tokens += both[0].tokens + both[1].tokens;
  }
  Sums all;
  for (std::size_t i = 0; i < of.size(); ++i) {
    const double n = std::max(1.0, of[i].pairs);
    record.sources.push_back({dataset.heldout[i].name, of[i].tokens, 0, of[i].loss / n, 0, of[i].right / n});
    all.loss += of[i].loss;
    all.right += of[i].right;
    all.pairs += of[i].pairs;
  }
  record.eval_loss = all.loss / all.pairs;
  record.accuracy = all.right / all.pairs;
  if (!std::isfinite(record.eval_loss))
    return fail(ErrorKind::kFailed, "step " + std::to_string(step) + ": the evaluation loss is not finite");
  return record;
}

}  // namespace qw::train
