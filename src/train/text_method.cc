// Learning what texts say: next-token likelihood. Evaluation: nats over all labels, and bits over the bytes of text
// that were predicted.
#include <numbers>
#include <numeric>
#include <optional>

#include "train/internal/method.h"

namespace qw::train {
namespace {

struct Sums {
  double nll = 0, text_nll = 0;  // over all labels; over labels that stand for text
  std::int64_t tokens = 0, bytes = 0;
  void add(const Sums& other) {
    nll += other.nll;
    text_nll += other.text_nll;
    tokens += other.tokens;
    bytes += other.bytes;
  }
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

class TextMethod final : public Method {
 public:
  explicit TextMethod(const MethodContext& context) : c_(context) {
    batches_.resize(static_cast<std::size_t>(c_.config.accumulation));
  }

  Status open(const data::Cursor& at) override {
    QW_ASSIGN(auto opened, data::BatchStream::create(c_.dataset.train, c_.config.sequence_length, c_.config.seed, at));
    stream_.emplace(std::move(opened));
    return {};
  }
  data::Cursor cursor() const override { return stream_->cursor(); }
  Status draw() override {
    for (auto& batch : batches_) stream_->next(c_.config.batch_sequences, batch);
    return {};
  }
  std::span<const data::PackedBatch> batches() const override { return batches_; }
  Status learn(StepRecord& record) override { return learn_texts(c_, batches_, record); }
  Result<EvalRecord> evaluate() override;
  MethodSize size() const override { return {stream_->sequences_in_epoch(), stream_->rows_in_epoch(), 0}; }

 private:
  Status sum_up(const data::DatasetSource& source, Sums& sums) const;
  MethodContext c_;
  std::optional<data::BatchStream> stream_;
  std::vector<data::PackedBatch> batches_;
};

Status TextMethod::sum_up(const data::DatasetSource& source, Sums& sums) const {
  const std::int64_t room = c_.config.sequence_length * c_.config.batch_sequences, most = c_.config.eval.max_tokens;
  data::PackedBatch batch;
  std::vector<double> of;  // four sums of each batch, 0 where another process has it
  const auto flush = [&]() -> Status {
    if (batch.tokens.empty()) return {};
    Sums of_batch;
    if (c_.share.mine(of.size() / 4)) {
      QW_ASSIGN(const std::vector<float> logprobs, c_.logprobs(c_.served, batch));
      count(batch, logprobs, c_.tokenizer, of_batch);
    }
    of.insert(of.end(), {of_batch.nll, of_batch.text_nll, static_cast<double>(of_batch.tokens), static_cast<double>(of_batch.bytes)});
    batch.clear();
    return {};
  };
  std::vector<data::Piece> pieces;
  std::int64_t taken = 0;
  for (std::uint64_t d = 0; d < source.shard.documents(); ++d) {
    if (most > 0 && taken >= most) break;
    pieces.clear();
    data::cut_document(source.shard, 0, d, c_.config.sequence_length, pieces);
    for (const auto& piece : pieces) {
      if (static_cast<std::int64_t>(batch.tokens.size()) + piece.length > room) QW_TRY(flush());
      data::append_piece(source.shard, piece, batch);
      taken += piece.length;
    }
  }
  QW_TRY(flush());
  QW_TRY(c_.share.add_up(of));
  for (std::size_t i = 0; i < of.size(); i += 4)
    sums.add({of[i], of[i + 1], static_cast<std::int64_t>(of[i + 2]), static_cast<std::int64_t>(of[i + 3])});
  return {};
}

Result<EvalRecord> TextMethod::evaluate() {
  EvalRecord record;
  record.step = c_.step;
  Sums all;
  for (const auto& source : c_.dataset.heldout) {
    Sums sums;
    QW_TRY(sum_up(source, sums));
    SourceEval& told = record.sources.emplace_back();
    told.name = source.name;
    told.tokens = sums.tokens;
    told.bytes = sums.bytes;
    told.loss = mean(sums.nll, sums.tokens);
    told.bits_per_byte = bits(sums.text_nll, sums.bytes);
    all.add(sums);
  }
  record.eval_loss = mean(all.nll, all.tokens);
  record.bits_per_byte = bits(all.text_nll, all.bytes);
  QW_TRY(check_finite(record));
  return record;
}

}  // namespace

// Not a mean of means over the batches.
Status learn_texts(const MethodContext& context, std::span<const data::PackedBatch> batches, StepRecord& record) {
  std::int64_t kept = 0;
  for (const auto& batch : batches) kept += batch.kept;
  if (kept == 0)
    return fail(ErrorKind::kBadInput, "step " + std::to_string(context.step + 1) + ": no label counts in this batch");
  std::vector<double> nll(batches.size());  // of each, so that the sum is the same whoever learnt from it
  const Status learnt = context.share.each(batches.size(), [&](std::size_t b) -> Status {
    const data::PackedBatch& batch = batches[b];
    QW_TRY(context.graph.forward(context.weights, {batch.tokens, batch.positions, batch.cu_seqlens, batch.labels}));
    nll[b] = context.graph.backward(1.0f / static_cast<float>(kept));
    return {};
  });
  QW_TRY(learnt);
  QW_TRY(context.share.add_up(nll));
  record.loss = std::accumulate(nll.begin(), nll.end(), 0.0) / static_cast<double>(kept);
  return {};
}

std::unique_ptr<Method> make_text_method(const MethodContext& context) { return std::make_unique<TextMethod>(context); }

}  // namespace qw::train
