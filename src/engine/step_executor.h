// What the engine needs from a model: one pass over a batch of rows, giving logits. ModelExecutor (loaded_model.h) is
// the real one; tests use small deterministic ones.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "ops/running_executor.h"

namespace qw::engine {

class StepExecutor {
 public:
  virtual ~StepExecutor() = default;
  // Runs the batch; `batch.cache` is null, the executor knows its cache. What a row gives must depend on its own
  // sequence only (see ops::RunningExecutor: batch invariance), or requests would not equal themselves run alone.
  virtual Status run(const ops::StepBatch& batch) = 0;
  // Logits (or what another head gives) of batch.logit_rows[i] of the last run; the caller may change them. Different rows may be used by different
  // threads at once.
  virtual std::span<float> logits(std::int64_t i) = 0;
  // Logits anew, of other rows of the last run: logits(i) is then that of rows[i], max_logit_rows() of them at most.
  virtual Status compute_logits(std::span<const std::int32_t> rows) = 0;
  virtual std::int64_t vocab() const = 0;              // ids of tokens are below
  virtual bool generates() const { return true; }      // false: rows are not logits over the vocabulary
  virtual std::int32_t adapters() const { return 0; }  // slots below hold them; batch.adapters names slots that do
  virtual std::int64_t adapter_bytes(std::int32_t) const { return 0; }
  // Puts an adapter into a slot, or empties it (null), between steps.
  virtual Status set_adapter(std::int32_t, ops::PreparedAdapter) {
    return fail(ErrorKind::kUsage, "this model takes no adapters");
  }
  // Layers of the model that draft (models::Model::draft). `kept` is what they take of row r of the last run (of the last
  // draft, for drafts further on); a draft fills its own layers of the same cache, at the same blocks.
  virtual bool drafts() const { return false; }
  virtual std::span<const float> kept(std::int64_t) const { return {}; }
  virtual Status run_draft(const ops::StepBatch&) { return fail(ErrorKind::kUsage, "this model has no layers that draft"); }
  virtual std::span<float> draft_logits(std::int64_t) { return {}; }
  virtual std::span<const float> draft_kept(std::int64_t) const { return {}; }
  // Prompts of different forms give different keys and values for the same tokens (dynamic NTK: the length decides).
  virtual std::int64_t prompt_form(std::int64_t /*prompt_tokens*/) const { return 0; }
  virtual std::int64_t max_rows() const = 0;        // of one run
  virtual std::int64_t max_logit_rows() const = 0;  // of one run
};

}  // namespace qw::engine
