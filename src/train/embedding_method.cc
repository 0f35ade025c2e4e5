// Learning embeddings: a text's is the row of its last token. All texts of a step stand in one loss, so a step of
// several batches first runs them all, and then each again for its gradients: accumulation is equal to the big batch.
// Several processes share out the batches of both passes and know all rows between them.
#include <algorithm>
#include <map>

#include "train/internal/example_method.h"
#include "train/retrieval.h"

namespace qw::train {
namespace {

class EmbeddingMethod final : public ExampleMethod {
 public:
  explicit EmbeddingMethod(const MethodContext& context)
      : ExampleMethod(context, data::Holds::kRetrieval, data::Reading::kWhole),
        width_(static_cast<std::size_t>(c_.graph.final_width())) {}

  Status learn(StepRecord& record) override;
  Result<EvalRecord> evaluate() override;
  json::Object identity() const override { return {{"embedding", to_json(*c_.config.embedding)}}; }

 private:
  Status forward(const ops::ParameterBuffer& by, const data::PackedBatch& batch) const {
    return c_.graph.forward(by, {batch.tokens, batch.positions, batch.cu_seqlens, batch.labels});
  }
  // Numbers equal texts alike.
  class Texts {
   public:
    std::uint64_t number(std::span<const std::int32_t> tokens) {
      return known_.emplace(std::vector<std::int32_t>(tokens.begin(), tokens.end()), known_.size()).first->second;
    }

   private:
    std::map<std::vector<std::int32_t>, std::uint64_t> known_;
  };
  // Adds the rows of a batch, if this process ran it, else zeros, and where its examples begin.
  void add(const data::ExampleStream& of, std::span<const std::int64_t> numbers, const data::PackedBatch& batch, bool ran,
           Texts& known, EmbeddedTexts& to) const;
  // Rows that others ran.
  Status complete(EmbeddedTexts& texts) const;
  Result<EmbeddedTexts> heldout_texts(std::uint32_t source, std::int64_t& tokens) const;

  std::size_t width_;
};

void EmbeddingMethod::add(const data::ExampleStream& of, std::span<const std::int64_t> numbers,
                          const data::PackedBatch& batch, bool ran, Texts& known, EmbeddedTexts& to) const {
  if (to.starts.empty()) to.starts.push_back(0);
  to.width = width_;
  for (const std::int64_t number : numbers)
    to.starts.push_back(to.starts.back() + static_cast<std::size_t>(of.documents(number)));
  for (std::size_t d = 1; d < batch.cu_seqlens.size(); ++d) {
    const auto begin = static_cast<std::size_t>(batch.cu_seqlens[d - 1]),
               end = static_cast<std::size_t>(batch.cu_seqlens[d]);
    to.same.push_back(known.number(std::span(batch.tokens).subspan(begin, end - begin)));
    if (!ran) {
      to.rows.resize(to.rows.size() + width_);
      continue;
    }
    const float* row = c_.graph.final_hidden() + (end - 1) * width_;
    to.rows.insert(to.rows.end(), row, row + width_);
  }
}

// Each row is zero but with one process, so that sums are the row itself.
Status EmbeddingMethod::complete(EmbeddedTexts& texts) const {
  if (c_.share.size() == 1) return {};
  std::vector<double> rows(texts.rows.begin(), texts.rows.end());
  QW_TRY(c_.share.add_up(rows));
  std::transform(rows.begin(), rows.end(), texts.rows.begin(), [](double x) { return static_cast<float>(x); });
  return {};
}

Status EmbeddingMethod::learn(StepRecord& record) {
  EmbeddedTexts texts;
  Texts known;
  for (std::size_t b = 0; b < batches_.size(); ++b) {
    if (c_.share.mine(b)) QW_TRY(forward(c_.weights, batches_[b]));
    add(*examples_, numbers_[b], batches_[b], c_.share.mine(b), known, texts);
  }
  QW_TRY(complete(texts));
  const RetrievalLoss loss = retrieval_loss(*c_.config.embedding, texts, true, c_.pool);
  record.loss = loss.loss;
  record.accuracy = loss.found;
  std::vector<std::size_t> first{0};  // text of each batch
  for (const data::PackedBatch& batch : batches_) first.push_back(first.back() + batch.cu_seqlens.size() - 1);
  return c_.share.each(batches_.size(), [&](std::size_t b) -> Status {
    const data::PackedBatch& batch = batches_[b];
    if (batches_.size() > 1) QW_TRY(forward(c_.weights, batch));
    std::vector<float> d_rows(batch.tokens.size() * width_);
    std::size_t text = first[b];
    for (std::size_t d = 1; d < batch.cu_seqlens.size(); ++d, ++text)
      std::copy_n(
          loss.d_rows.begin() + static_cast<std::ptrdiff_t>(text * width_), width_,
          d_rows.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(batch.cu_seqlens[d] - 1) * width_));
    c_.graph.backward_rows(d_rows);
    return {};
  });
}

// The first examples of a source, as many as eval.max_tokens allows.
Result<EmbeddedTexts> EmbeddingMethod::heldout_texts(std::uint32_t source, std::int64_t& tokens) const {
  EmbeddedTexts texts;
  Texts known;
  data::PackedBatch batch;
  const std::int64_t most = c_.config.eval.max_tokens;
  std::size_t taken = 0;
  for (std::int64_t i = 0; i < heldout_->examples(); ++i) {
    if (heldout_->source_of(i) != source || (most > 0 && tokens >= most)) continue;
    batch.clear();
    heldout_->append(i, batch);
    const bool mine = c_.share.mine(taken++);
    if (mine) QW_TRY(forward(c_.served, batch));
    add(*heldout_, std::span(&i, 1), batch, mine, known, texts);
    tokens += std::ssize(batch.tokens);
  }
  QW_TRY(complete(texts));
  return texts;
}

Result<EvalRecord> EmbeddingMethod::evaluate() {
  EvalRecord record;
  record.step = c_.step;
  if (!heldout_) return record;
  double examples = 0, loss = 0, found = 0, reciprocal = 0;
  for (std::uint32_t s = 0; s < c_.dataset.heldout.size(); ++s) {
    SourceEval& source = record.sources.emplace_back();
    source.name = c_.dataset.heldout[s].name;
    QW_ASSIGN(const EmbeddedTexts texts, heldout_texts(s, source.tokens));
    if (texts.starts.empty()) continue;
    const RetrievalLoss of = retrieval_loss(*c_.config.embedding, texts, false, c_.pool);
    const auto n = static_cast<double>(texts.examples());
    source.loss = of.loss;
    source.accuracy = of.found;
    source.mrr = of.reciprocal;
    examples += n;
    loss += n * of.loss;
    found += n * of.found;
    reciprocal += n * of.reciprocal;
  }
  record.eval_loss = loss / std::max(1.0, examples);
  record.accuracy = found / std::max(1.0, examples);
  record.mrr = reciprocal / std::max(1.0, examples);
  QW_TRY(check_finite(record));
  return record;
}

}  // namespace

std::unique_ptr<Method> make_embedding_method(const MethodContext& context) {
  return std::make_unique<EmbeddingMethod>(context);
}

}  // namespace qw::train
