// A model ready to serve: packed weights, threads, a paged cache and an engine over them, owned in one place.
//
//   QW_ASSIGN(auto loaded, LoadedModel::create(std::move(model), weights, options));
//   loaded->engine().start();
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/cpu.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "engine/engine.h"
#include "engine/model_drafter.h"
#include "engine/step_executor.h"
#include "kvcache/block_pool.h"
#include "kvcache/page_ahead.h"
#include "kvcache/prefix_cache.h"
#include "kvcache/state_pool.h"
#include "models/model.h"
#include "ops/running_executor.h"
#include "tensor/tensor.h"

namespace qw::engine {

struct LoadOptions {
  int threads = 0;                           // 0: one per processor. Results do not depend on it
  std::optional<base::Isa> isa;              // absent: QW_ISA, or the best of this processor
  std::optional<tensor::DType> cache_dtype;  // kF32, kF16, kBF16, kQ8_0 or kQ4_0; absent: kF32 for F32 weights, else kernels::fast_halves
  std::int64_t context = 0;                  // longest sequence; 0: the model's own
  std::int64_t cache_tokens = 0;             // of all sequences together; 0: one longest sequence, at most 32768
  std::int32_t block_tokens = 32;            // tokens per cache block
  std::int64_t cache_bytes_ahead = 0;        // of the cache's memory that a thread has the system give before it is needed
  bool draft_layers = false;                 // the model's layers that draft, if it has some, are loaded and can be run
  // Prompts that begin like an earlier text are computed from where they part; in the cache's memory, beside the states of
  // `state_snapshots` texts (models with such layers; -1: as many as may run, at most 8).
  bool prefix_cache = true;
  std::int32_t state_snapshots = -1;
  const ops::PackCache* pack_cache = nullptr;  // where packed weights are kept between starts, if anywhere; must outlive the load
  std::int64_t logit_rows = 0;               // most logit rows of a pass, for for_each_logits; at least max_sequences; of a model
                                             // with another head than the language model's: at least max_rows
  EngineConfig engine;                       // context, states, prefixes and sampling_pool are filled in
  // Gives engine.mask, on the calling thread, once weights are packed: whoever makes a tokenizer meanwhile on another
  // thread need not be waited for before. Absent: engine.mask is there.
  std::function<Result<sampling::VocabularyMask>()> late_mask;
};

// Bytes, before anything is loaded.
struct MemoryNeed {
  std::int64_t weight_bytes = 0;
  std::int64_t cache_bytes = 0;              // keys and values, and the states of layers that carry one
  std::int64_t workspace_bytes = 0;          // an upper bound
  std::int64_t total() const { return weight_bytes + cache_bytes + workspace_bytes; }
};
// `weights`: the format of each parameter, by id; or the one format of all matrices.
MemoryNeed estimate_memory(const models::Model& model, std::span<const tensor::DType> weights,
                           const LoadOptions& options);
MemoryNeed estimate_memory(const models::Model& model, tensor::DType weights, const LoadOptions& options);

// StepExecutor over a real model.
class ModelExecutor final : public StepExecutor {
 public:
  // All must outlive it. `states`: null for a model without them. `draft`: of the program of layers that draft, or null.
  ModelExecutor(const models::Model& model, ops::RunningExecutor& executor, const kvcache::BlockPool& pool,
                const ops::RunningOptions& options, kvcache::StatePool* states = nullptr,
                ops::RunningExecutor* draft = nullptr);
  Status run(const ops::StepBatch& batch) override;
  std::span<float> logits(std::int64_t i) override { return executor_.logits(i); }
  Status compute_logits(std::span<const std::int32_t> rows) override { return executor_.compute_logits(rows); }
  std::int64_t vocab() const override { return model_.traits().vocab; }
  bool generates() const override { return model_.traits().head.kind == models::HeadKind::kLanguage; }
  std::int32_t adapters() const override { return executor_.adapters(); }
  bool drafts() const override { return draft_ != nullptr; }
  std::span<const float> kept(std::int64_t r) const override { return executor_.kept(r); }
  Status run_draft(const ops::StepBatch& batch) override;
  std::span<float> draft_logits(std::int64_t i) override { return draft_->logits(i); }
  std::span<const float> draft_kept(std::int64_t r) const override { return draft_->kept(r); }
  std::int64_t adapter_bytes(std::int32_t slot) const override { return executor_.adapter_bytes(slot); }
  Status set_adapter(std::int32_t slot, ops::PreparedAdapter adapter) override {
    return executor_.set_adapter(slot, std::move(adapter));
  }
  std::int64_t prompt_form(std::int64_t prompt_tokens) const override { return executor_.prompt_form(prompt_tokens); }
  std::int64_t max_rows() const override { return options_.max_rows; }
  std::int64_t max_logit_rows() const override { return options_.max_logit_rows; }

 private:
  const models::Model& model_;
  ops::RunningExecutor& executor_;
  ops::RunningExecutor* draft_;
  ops::CacheView cache_;
  ops::StateView states_;
  ops::RunningOptions options_;
};

class LoadedModel {
 public:
  // `weights` by parameter id, as model->parameters() lists them; they are packed here and may go afterwards. Errors:
  // kUsage (options), kBadInput (a weight of the wrong shape or type), kResource (no memory for the cache). Requests
  // name `adapters` by index; they are copied.
  static Result<std::unique_ptr<LoadedModel>> create(std::unique_ptr<models::Model> model,
                                                     std::span<const tensor::ConstView> weights, LoadOptions options,
                                                     std::span<const ops::LowRankAdapter> adapters = {});
  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;
  ~LoadedModel();

  const models::Model& model() const { return *model_; }
  Engine& engine() { return *engine_; }
  // What was really taken.
  MemoryNeed memory() const;
  base::Isa isa() const { return isa_; }
  tensor::DType cache_dtype() const { return pool_.shape().dtype; }  // of keys and values
  int threads() const { return threads_.size(); }
  std::int64_t context() const { return context_; }

  // Packs an adapter on the calling thread, beside the engine's steps, and adds it: the id that requests name.
  // Engine::remove_adapter takes it out again. kUsage: it does not fit the model; kResource: no memory.
  Result<std::int32_t> load_adapter(const ops::LowRankAdapter& adapter);

  // This model as the drafter of another whose requests draw among `target_vocab` rows of logits under `mask`. This object
  // must outlive it, and its engine must not be used. kUsage: another vocabulary or head, layers with states.
  Result<std::unique_ptr<ModelDrafter>> make_drafter(std::int64_t target_vocab, const sampling::VocabularyMask& mask);

  // Shows the inputs of all products from now on (calibration); not after engine().start(). nullptr: nobody.
  void observe(ops::ProductObserver* observer) { executor_->observe(observer); }

  // Calls visit(t, logits after token t) for t = 0..ids.size()-1, in order; the row is valid during the call. Uses the
  // cache beside the engine's requests, so: not after engine().start(), and on the thread that steps the engine.
  // Errors: kUsage (no ids, more than the context), kBadInput (an id outside the vocabulary), kResource (cache full).
  // `adapter`: which of the adapters is in use; -1: none.
  Status for_each_logits(std::span<const TokenId> ids,
                         const std::function<void(std::int64_t t, std::span<const float> logits)>& visit,
                         std::int32_t adapter = -1);

 private:
  LoadedModel(std::unique_ptr<models::Model> model, kvcache::BlockPool pool, std::optional<kvcache::StatePool> states,
              const LoadOptions& options, base::Isa isa);
  Status build(std::span<const tensor::ConstView> weights, const LoadOptions& options, const ops::RunningOptions& sizes,
               bool drafts, std::span<const ops::LowRankAdapter> adapters);

  std::unique_ptr<models::Model> model_;
  base::Isa isa_;
  base::ThreadPool threads_;
  kvcache::BlockPool pool_;
  std::optional<kvcache::PageAhead> pages_;
  std::optional<kvcache::StatePool> states_;  // absent: no layer carries a state
  std::optional<kvcache::PrefixCache> prefixes_;
  std::int64_t context_;
  std::unique_ptr<ops::RunningExecutor> executor_, draft_;  // the second: of the layers that draft; null: none
  std::unique_ptr<ModelExecutor> step_executor_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace qw::engine
