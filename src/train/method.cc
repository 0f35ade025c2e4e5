#include "train/internal/method.h"

#include <cmath>

namespace qw::train {

std::unique_ptr<Method> make_method(const MethodContext& context) {
  if (context.config.preference) return make_preference_method(context);
  if (context.config.kto) return make_kto_method(context);
  if (context.config.distill) return make_distill_method(context);
  if (context.config.grpo) return make_grpo_method(context);
  if (context.config.embedding) return make_embedding_method(context);
  if (context.config.ranking) return make_ranking_method(context);
  if (judges(context.config)) return make_score_method(context);
  return make_text_method(context);
}

Result<std::vector<float>> MethodContext::logprobs(const ops::ParameterBuffer& by,
                                                   const data::PackedBatch& batch) const {
  QW_TRY(graph.forward(by, {batch.tokens, batch.positions, batch.cu_seqlens, batch.labels}));
  std::vector<float> out(batch.tokens.size());
  graph.token_logprobs(out);
  return out;
}

std::vector<AnswerScore> answer_scores(const data::PackedBatch& batch, std::span<const float> logprobs) {
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

Status check_finite(const EvalRecord& record) {
  if (std::isfinite(record.eval_loss)) return {};
  return fail(ErrorKind::kFailed, "step " + std::to_string(record.step) + ": the evaluation loss is not finite");
}

}  // namespace qw::train
