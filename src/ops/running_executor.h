// Performs a model's forward pass at once on packed weights and a paged cache.
//
//   RecordingExecutor recorder(shapes);  model.forward(recorder);
//   QW_ASSIGN(auto ex, RunningExecutor::create(recorder.finish(), weights, options, kernels, pool));
//   each step:  QW_TRY(ex->begin(batch));  model.forward(*ex);  use ex->logits(i)
//
// Batch invariance: what a row gives does not depend on the other rows, on how a prompt is cut into steps, or on the
// thread count: same bytes. A step allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "ops/executor.h"
#include "ops/low_rank.h"
#include "ops/pack_cache.h"
#include "ops/program.h"
#include "tensor/tensor.h"

namespace qw::ops {

// An adapter packed for an executor; immutable, shared by whoever holds it.
class PackedAdapter;
using PreparedAdapter = std::shared_ptr<const PackedAdapter>;
std::int64_t adapter_bytes(const PreparedAdapter& adapter);

// The cache as the executor sees it; the memory belongs to somebody else (kvcache::BlockPool; models/cache_view.h
// makes one of these from a pool). Layouts: kernels::AttentionDecodeArgs.
struct CacheView {
  kernels::CacheType type = kernels::CacheType::kF32;
  std::int32_t block_tokens = 0;
  std::vector<std::byte*> keys, values;  // by layer: of its block 0
  std::int32_t block_step = 1;           // so many blocks of keys (or values) lie from one block of a layer to its next
  std::vector<float*> index = {};        // by layer, of models with an index: blocks of index_block_floats (token_index.h)
};

// The states of sequences in layers that carry one; the memory belongs to somebody else (kvcache::StatePool).
struct StateView {
  float* data = nullptr;               // [slots, slot_floats]
  std::int64_t slot_floats = 0;
  std::span<std::int64_t> tokens = {};  // [slots], how many tokens the state has seen; steps keep it
};

// N rows. Rows of one sequence stand in ascending position; positions before a sequence's first row must be in the
// cache already. The row at position p writes and may read slot p: its table must have room for p + 1 tokens.
struct StepBatch {
  std::span<const std::int32_t> tokens;                   // [N]
  std::span<const std::int32_t> positions;                // [N]
  std::span<const std::int32_t> sequences;                // [N], index into tables
  std::span<const std::span<const std::int32_t>> tables;  // block numbers of each sequence
  std::span<const std::int32_t> logit_rows;               // rows whose logits are wanted, in any order
  const CacheView* cache = nullptr;
  std::span<const std::int32_t> prompts{};                // tokens of each sequence's prompt; models with dynamic NTK need it
  std::span<const std::int32_t> adapters = {};            // [N], of each row: index of its adapter or -1; empty: none
  // Models with states: the slot of each sequence. A sequence's rows stand together, at consecutive positions which
  // begin where its state ends, or at 0, which begins anew.
  std::span<const std::int32_t> slots = {};
  const StateView* states = nullptr;
  std::span<const float> given = {};  // [N, width] of programs that take rows from outside (Executor::given)
  // Only logit_rows are asked after the pass (logits, kept, final_hidden): the others end where no later row looks at them
  // any more, behind the last attention or state of a sequence. Steps that are observed take every row to the end.
  bool only_logit_rows = false;
};

struct RunningOptions {
  std::int64_t max_rows = 0;        // of a step
  std::int64_t max_logit_rows = 0;  // of a step
  const PackCache* pack_cache = nullptr;  // where packed weights are kept between starts, if anywhere; needed by create alone
};

// Sees the inputs of every product as they are computed, for calibration. Called on the stepping thread.
class ProductObserver {
 public:
  virtual ~ProductObserver() = default;
  // x [rows, in] is about to be multiplied by `weight`. Valid during the call.
  virtual void on_product(Weight weight, const float* x, std::int64_t rows, std::int64_t in) = 0;
};

class RunningExecutor final : public Executor {
 public:
  // `weights` by parameter id: 2-D in F32, F16, BF16, Q8_0 or Q4_0 are packed in their own type; 1-D become F32. The
  // views are read here only and may go afterwards. Errors: kBadInput for a type or shape the program cannot use.
  // What `beside` uses is packed too (make_beside). `adapters` are copied; rows name them by index. kUsage: one that changes what no product or look-up of the program uses.
  static Result<std::unique_ptr<RunningExecutor>> create(Program program, std::span<const tensor::ConstView> weights,
                                                         const RunningOptions& options, const kernels::Kernels& kernels,
                                                         base::ThreadPool& pool,
                                                         std::span<const LowRankAdapter> adapters = {},
                                                         const Program* beside = nullptr);
  // Runs `program`, the one that was given as `beside`, on the weights of this one, which both hold; without adapters.
  // For layers that draft: a small program of the same model.
  Result<std::unique_ptr<RunningExecutor>> make_beside(Program program, const RunningOptions& options) const;
  ~RunningExecutor() override;

  // Takes the batch of the next forward; its spans must stay until the forward returned. Errors: kBadInput for a token
  // id out of range, kUsage for too many rows, a missing block or a bad index. After an error nothing has changed.
  Status begin(const StepBatch& batch);

  // After a forward: what the model gives for batch.logit_rows[i]: logits [V], or the row of a head without weight; the
  // caller may change it. Valid until the next begin
  // or compute_logits.
  std::span<float> logits(std::int64_t i);
  // After a forward: logits anew, of other rows of the same batch: logits(i) is that of rows[i] from now on, the same
  // bytes as if the batch had named them. `rows`, and the batch, must stay until the next begin. For more rows than there
  // is room for at once. Errors as of begin, which change nothing; kUsage for a row that was not taken to the end.
  Status compute_logits(std::span<const std::int32_t> rows);
  // After a forward: what the program keeps (Executor::keep) of batch row r.
  std::span<const float> kept(std::int64_t r) const;
  // After a forward: the hidden row (input of the head) of batch row r, [D].
  std::span<const float> final_hidden(std::int64_t r) const;

  // Adapters come and go between steps. Packing takes long and may be done by any thread beside steps; kUsage as create.
  Result<PreparedAdapter> prepare_adapter(const LowRankAdapter& adapter) const;
  // Puts one made by this executor into a slot (null: empties it), between steps. kResource: no memory to compute with it.
  Status set_adapter(std::int32_t slot, PreparedAdapter adapter);
  std::int64_t adapter_bytes(std::int32_t slot) const;

  // nullptr: nobody. Must outlive its use.
  void observe(ProductObserver* observer);

  // Prompts of one form give the same keys and values for the same tokens: 0 but under dynamic NTK beyond the trained context.
  std::int64_t prompt_form(std::int64_t prompt_tokens) const;
  std::int64_t outputs() const;        // numbers of one such row
  std::int64_t state_floats() const;   // of one sequence; 0: no layer carries a state
  std::int32_t adapters() const;       // slots; batch.adapters names those that hold one
  std::int64_t weight_bytes() const;  // packed, adapters and what is held with others included
  std::int64_t arena_bytes() const;   // values and workspaces

  Value embed(Weight table) override;
  Value given(std::int32_t width) override;
  void keep(Value x) override;
  Value rms_norm(Value x, Weight w, float eps) override;
  Value head_rms_norm(Value x, Weight w, std::int32_t head_dim, float eps) override;
  Value linear(Value x, Weight w, Weight bias = {}) override;
  void products(Value x, std::span<const Product> of, std::span<Value> y) override;
  using Executor::products;
  Value rope(Value x, const RopeSpec& spec) override;
  Value attention(Value q, Value k, Value v, const AttentionSpec& spec) override;
  Value chunked_attention(Value q, Value q_before, Value q_far, Value k, Value v, const AttentionSpec& spec) override;
  Value indexed_attention(Value q, Value k, Value v, Value index_q, Value index_k, const AttentionSpec& spec, const IndexSpec& index) override;
  Value swiglu(Value gate, Value up) override;
  Value add(Value a, Value b) override;
  Value experts(Value x, Value logits, const ExpertsSpec& spec) override;
  Value columns(Value x, std::int32_t begin, std::int32_t width) override;
  Value head_columns(Value x, std::int32_t begin, std::int32_t width, std::int32_t head_dim) override;
  Value gate_rows(Value x, Value gate) override;
  Value scale(Value x, float factor) override;
  Value silu(Value x) override;
  Value match_rows(Value a, Value b, float scale) override;
  Value ngrams(const NgramSpec& spec) override;
  Value relu(Value x) override;
  Value concat(Value a, Value b) override;
  Value short_conv(Value x, Weight w, const ShortConvSpec& spec) override;
  Value delta_rule(Value x, Value forget, Value write, Weight a_log, Weight dt_bias, const DeltaRuleSpec& spec) override;
  void head(Value x, Weight w) override;

 private:
  struct State;
  explicit RunningExecutor(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace qw::ops
