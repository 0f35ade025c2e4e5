// Evaluation on held-out shards: nats over all labels, and bits over the bytes of text that were predicted.
#include <cmath>
#include <numbers>

#include "train/internal/state.h"

namespace qw::train {
namespace {

struct Sums {
  double nll = 0, text_nll = 0;  // over all labels; over labels that stand for text
  std::int64_t tokens = 0, bytes = 0;
};

void count(const data::PackedBatch& batch, std::span<const float> logprobs, const tokenizer::Tokenizer& tokenizer,
           Sums& sums) {
  for (std::size_t r = 0; r < batch.labels.size(); ++r) {
    const std::int32_t label = batch.labels[r];
    if (label < 0) continue;
    const double nll = -static_cast<double>(logprobs[r]);
    sums.nll += nll;
    ++sums.tokens;
    if (tokenizer.is_special(label)) continue;
    sums.text_nll += nll;
    sums.bytes += static_cast<std::int64_t>(tokenizer.token_bytes(label).size());
  }
}

double mean(double sum, std::int64_t n) { return n > 0 ? sum / static_cast<double>(n) : 0; }
double bits(double nats, std::int64_t bytes) { return mean(nats / std::numbers::ln2, bytes); }

}  // namespace

Result<EvalRecord> Trainer::evaluate() {
  State& s = *state_;
  if (s.pairs) return s.evaluate_pairs();
  EvalRecord record;
  record.step = s.step;
  Sums all;
  const std::int64_t room = s.config.sequence_length * s.config.batch_sequences;
  std::vector<float> logprobs(static_cast<std::size_t>(room));
  data::PackedBatch batch;
  for (const auto& source : s.dataset.heldout) {
    Sums sums;
    const auto flush = [&]() -> Status {
      if (batch.tokens.empty()) return {};
      QW_TRY(s.graph->forward(s.served_weights(), {batch.tokens, batch.positions, batch.cu_seqlens, batch.labels}));
      const std::span<float> out(logprobs.data(), batch.tokens.size());
      s.graph->token_logprobs(out);
      count(batch, out, s.tokenizer, sums);
      batch.clear();
      return {};
    };
    batch.clear();
    std::vector<data::Piece> pieces;
    std::int64_t taken = 0;
    for (std::uint64_t d = 0; d < source.shard.documents(); ++d) {
      if (s.config.eval.max_tokens > 0 && taken >= s.config.eval.max_tokens) break;
      pieces.clear();
      data::cut_document(source.shard, 0, d, s.config.sequence_length, pieces);
      for (const auto& piece : pieces) {
        if (static_cast<std::int64_t>(batch.tokens.size()) + piece.length > room) QW_TRY(flush());
        data::append_piece(source.shard, piece, batch);
        taken += piece.length;
      }
    }
    QW_TRY(flush());
    record.sources.push_back({source.name, sums.tokens, sums.bytes, mean(sums.nll, sums.tokens), bits(sums.text_nll, sums.bytes), {}});
    all.nll += sums.nll;
    all.text_nll += sums.text_nll;
    all.tokens += sums.tokens;
    all.bytes += sums.bytes;
  }
  record.eval_loss = mean(all.nll, all.tokens);
  record.bits_per_byte = bits(all.text_nll, all.bytes);
  if (!std::isfinite(record.eval_loss))
    return fail(ErrorKind::kFailed, "step " + std::to_string(s.step) + ": the evaluation loss is not finite");
  return record;
}

}  // namespace qw::train
