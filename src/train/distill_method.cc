// Learning what a teacher says of the same texts, row by row, a chunk of rows at a time.
#include <algorithm>
#include <numeric>

#include "train/distill.h"
#include "train/internal/method.h"
#include "train/internal/teacher.h"

namespace qw::train {
namespace {

class DistillMethod final : public Method {
 public:
  explicit DistillMethod(const MethodContext& context) : c_(context), texts_(make_text_method(context)) {}

  Status open(const data::Cursor& at) override;
  data::Cursor cursor() const override { return texts_->cursor(); }
  Status draw() override { return texts_->draw(); }
  std::span<const data::PackedBatch> batches() const override { return texts_->batches(); }
  Status learn(StepRecord& record) override;
  Result<EvalRecord> evaluate() override { return texts_->evaluate(); }
  MethodSize size() const override { return texts_->size(); }
  double take_other_flops() override { return teacher_ == nullptr ? 0 : teacher_->take_flops(); }
  json::Object identity() const override {
    json::Object told = to_json(config());
    told.set("teacher_sha256", teacher_->fingerprint());
    return {{"distill", std::move(told)}};
  }

 private:
  const DistillConfig& config() const { return *c_.config.distill; }
  // Losses of a chunk of rows, whose logits become gradients.
  double chunk(const data::PackedBatch& batch, std::span<const std::int32_t> rows, std::span<float> logits);

  MethodContext c_;
  std::unique_ptr<Method> texts_;
  std::unique_ptr<Teacher> teacher_;
  std::vector<float> teacher_logits_;  // of a chunk
};

Status DistillMethod::open(const data::Cursor& at) {
  if (teacher_ == nullptr) {
    const auto& config = c_.config;
    const auto precision =
        config.precision == Precision::kBf16 ? kernels::GemmPrecision::kBF16 : kernels::GemmPrecision::kF32;
    QW_ASSIGN(teacher_, Teacher::open(config.distill->teacher, config.sequence_length * config.batch_sequences,
                                      precision, c_.kernels, c_.pool));
    if (teacher_->vocab() < c_.dataset.vocab)
      return fail(ErrorKind::kUsage, config.distill->teacher + ": has " + std::to_string(teacher_->vocab()) +
                                         " tokens, the data's tokenizer has " + std::to_string(c_.dataset.vocab));
    // A folder names its tokenizer; that of a GGUF file is taken to be the data's.
    if (const auto spec = tokenizer::load_tokenizer_folder(config.distill->teacher);
        spec && data::tokenizer_hash(*spec) != c_.dataset.tokenizer_hash)
      return fail(ErrorKind::kUsage, config.distill->teacher + ": has another tokenizer than the data");
  }
  return texts_->open(at);
}

double DistillMethod::chunk(const data::PackedBatch& batch, std::span<const std::int32_t> rows,
                            std::span<float> logits) {
  const std::size_t own = logits.size() / rows.size(), theirs = static_cast<std::size_t>(teacher_->vocab());
  const std::size_t shared = std::min(own, theirs);  // tables may be padded to different lengths
  teacher_logits_.resize(rows.size() * theirs);
  teacher_->logits(rows, teacher_logits_.data());
  std::vector<double> losses(rows.size());
  c_.pool.parallel_for(static_cast<std::int64_t>(rows.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      const std::span<float> row = logits.subspan(i * own, own);
      losses[i] = distill_loss(config(), row.first(shared), std::span(teacher_logits_).subspan(i * theirs, shared),
                               batch.labels[static_cast<std::size_t>(rows[i])]);
      std::fill(row.begin() + static_cast<std::ptrdiff_t>(shared), row.end(), 0.0f);
    }
  });
  double sum = 0;
  for (const double loss : losses) sum += loss;
  return sum;
}

Status DistillMethod::learn(StepRecord& record) {
  std::int64_t kept = 0;
  for (const auto& batch : batches()) kept += batch.kept;
  if (kept == 0)
    return fail(ErrorKind::kBadInput, "step " + std::to_string(c_.step + 1) + ": no label counts in this batch");
  std::vector<double> sums(batches().size());
  const Status learnt = c_.share.each(sums.size(), [&](std::size_t b) -> Status {
    const data::PackedBatch& batch = batches()[b];
    const ops::TrainingBatch given{batch.tokens, batch.positions, batch.cu_seqlens, batch.labels};
    QW_TRY(teacher_->forward(given));
    QW_TRY(c_.graph.forward(c_.weights, given));
    sums[b] = c_.graph.backward_logits(
        1.0f / static_cast<float>(kept),
        [&](std::span<const std::int32_t> rows, std::span<float> logits) { return chunk(batch, rows, logits); });
    return {};
  });
  QW_TRY(learnt);
  QW_TRY(c_.share.add_up(sums));
  record.loss = std::accumulate(sums.begin(), sums.end(), 0.0) / static_cast<double>(kept);
  return {};
}

}  // namespace

std::unique_ptr<Method> make_distill_method(const MethodContext& context) {
  return std::make_unique<DistillMethod>(context);
}

}  // namespace qw::train
