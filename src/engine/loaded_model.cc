#include "engine/loaded_model.h"

#include <algorithm>
#include <limits>
#include <random>
#include <utility>

#include "kernels/fast_halves.h"
#include "kernels/kernels.h"
#include "models/cache_view.h"
#include "ops/token_index.h"
#include "ops/weight_type.h"

namespace qw::engine {
namespace {

// A model made for a million tokens must not take a cache for a million unless somebody asks for it.
constexpr std::int64_t kDefaultCacheTokens = 32768;

std::int64_t context_of(const models::Model& model, const LoadOptions& o) {
  return o.context > 0 ? o.context : model.traits().context;
}

std::int64_t cache_blocks(const models::Model& model, const LoadOptions& o) {
  const std::int64_t tokens = o.cache_tokens > 0 ? o.cache_tokens : std::min(context_of(model, o), kDefaultCacheTokens);
  return (tokens + o.block_tokens - 1) / o.block_tokens;
}

bool drafts(const models::Model& model, const LoadOptions& o) {
  return o.draft_layers && model.traits().draft_layers > 0;
}

Result<base::Isa> isa_of(const LoadOptions& o) {
  if (!o.isa) {
    QW_ASSIGN(const std::optional<base::Isa> forced, base::forced_isa());
    return forced.value_or(base::best_isa());
  }
  if (*o.isa > base::best_isa())
    return fail(ErrorKind::kUsage, "this processor cannot run " + std::string(base::isa_name(*o.isa)));
  return *o.isa;
}

kvcache::CacheShape cache_shape(const models::Model& model, tensor::DType weights, const LoadOptions& o) {
  const models::ModelTraits& t = model.traits();
  // Tiles multiply bfloat16 (what has more bits costs them three products in place of one), and some vectors twice as many as floats.
  const bool pairs = kernels::fast_halves(isa_of(o).value_or(base::best_isa())) == kernels::CacheType::kBF16;
  const tensor::DType halves = pairs ? tensor::DType::kBF16 : tensor::DType::kF16;
  const tensor::DType automatic = weights == tensor::DType::kF32 ? tensor::DType::kF32 : halves;
  return {t.layers + (drafts(model, o) ? t.draft_layers : 0), t.kv_heads, t.head_dim, o.block_tokens,
          o.cache_dtype.value_or(automatic), models::beside_floats(t, o.block_tokens)};
}

// Rows of drafts in one step, of all requests together: beyond, steps are no longer bound by reading the weights.
constexpr std::int64_t kDraftRows = 32;

// A sequence of a model with states that is drafted for needs one to return to; drafts of more sequences than this in
// one step would hardly pay, and states are large.
constexpr std::int64_t kDraftStates = 2;

// More snapshots of states than this are kept only where somebody asks for them: one takes 19 MB for the smallest
// models.
constexpr std::int32_t kDefaultSnapshots = 8;

std::int64_t snapshots_of(const LoadOptions& o) {
  if (!o.prefix_cache) return 0;
  return o.state_snapshots >= 0 ? o.state_snapshots : std::min<std::int64_t>(o.engine.max_sequences, kDefaultSnapshots);
}

// Multiplications of a token's attention for each token before it, against those of its products.
double attention_depth(const models::Model& model) {
  const models::ModelTraits& t = model.traits();
  double products = 0;
  for (const models::ParameterSpec& p : model.parameters()) {
    if (p.shape.rank() != 2) continue;
    const bool expert = p.hf_name.find(".experts.") != std::string::npos && t.experts > 0;
    products +=
        static_cast<double>(p.shape.elements()) * (expert ? static_cast<double>(t.experts_per_token) / t.experts : 1.0);
  }
  return products / (2.0 * t.layers * t.heads * t.head_dim);
}

// A state for every request that may run, those of drafts, the snapshots, and one for for_each_logits.
std::int64_t state_slots(const LoadOptions& o) {
  return o.engine.max_sequences + (o.engine.drafts.on() ? std::min(kDraftStates, o.engine.max_sequences) : 0) +
         snapshots_of(o) + 1;
}

// Rows of other heads are short: every row of a step may be asked for.
ops::RunningOptions sizes_of(const models::Model& model, const LoadOptions& o) {
  const bool generates = model.traits().head.kind == models::HeadKind::kLanguage;
  const std::int64_t drafts = o.engine.drafts.on() ? std::max(o.engine.drafts.most, kDraftRows) : 0;
  return {o.engine.max_rows,
          std::max({o.logit_rows, o.engine.max_sequences + drafts, generates ? std::int64_t{0} : o.engine.max_rows}), o.pack_cache};
}

Status check_options(const models::Model& model, const LoadOptions& o) {
  if (o.context < 0 || o.context > model.traits().context)
    return fail(ErrorKind::kUsage, "context of " + std::to_string(o.context) + " tokens: the model was made for " +
                                       std::to_string(model.traits().context));
  if (o.block_tokens <= 0 || o.cache_tokens < 0 || o.logit_rows < 0 || o.state_snapshots < -1)
    return fail(ErrorKind::kUsage, "cache sizes must be positive");
  if (cache_blocks(model, o) > std::numeric_limits<std::int32_t>::max())
    return fail(ErrorKind::kUsage, "a cache of " + std::to_string(o.cache_tokens) + " tokens is too large");
  return {};
}

}  // namespace

MemoryNeed estimate_memory(const models::Model& model, tensor::DType weights, const LoadOptions& o) {
  return estimate_memory(model, std::vector<tensor::DType>(model.parameters().size(), weights), o);
}

MemoryNeed estimate_memory(const models::Model& model, std::span<const tensor::DType> weights, const LoadOptions& o) {
  QW_CHECK(weights.size() == model.parameters().size());
  const kernels::Kernels& k = kernels::kernels_for(isa_of(o).value_or(base::best_isa()));
  MemoryNeed need;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const models::ParameterSpec& p = model.parameters()[i];
    if (p.draft && !drafts(model, o)) continue;
    const auto type = ops::weight_type(weights[i]);
    const bool packed = p.shape.rank() == 2 && type.has_value();
    need.weight_bytes += packed ? static_cast<std::int64_t>(k.packed_bytes(*type, p.shape[0], p.shape[1]))
                                : p.shape.elements() * std::int64_t{sizeof(float)};
  }
  need.cache_bytes = cache_blocks(model, o) * kvcache::block_bytes(cache_shape(
                                                  model, weights[static_cast<std::size_t>(model.embedding().id)], o));
  const models::ModelTraits& t = model.traits();
  need.cache_bytes += state_slots(o) * t.state_floats * std::int64_t{sizeof(float)};
  const ops::RunningOptions sizes = sizes_of(model, o);
  // Of a row: residual, norm and sums; q, k, v and attention out; gate, up and their product; the prepared activations
  // of the widest product (float at most); cosines and sines. Logits and the head's rows come on top.
  const std::int64_t heads = std::int64_t{t.heads + t.kv_heads} * t.head_dim;
  const std::int64_t widest = std::max<std::int64_t>({t.width, t.ffn_width, std::int64_t{t.heads} * t.head_dim});
  // Mixtures: probabilities, and for each chosen expert gate, up and output.
  const std::int64_t mixture =
      t.experts + std::int64_t{t.experts_per_token} * (2 * std::int64_t{t.expert_width} + t.width);
  const std::int64_t row_floats =
      mixture + t.recurrent_row_floats + 4 * std::int64_t{t.width} + 4 * heads + 3 * std::int64_t{t.ffn_width} + widest;
  const std::int64_t outputs = t.head.kind == models::HeadKind::kLanguage ? t.vocab : t.head.outputs;
  const std::int64_t logit_floats = outputs + 2 * std::int64_t{t.width};
  need.workspace_bytes = (drafts(model, o) ? 2 : 1) *
                         (sizes.max_rows * row_floats + sizes.max_logit_rows * logit_floats) *
                         std::int64_t{sizeof(float)};
  need.workspace_bytes += (drafts(model, o) ? 2 : 1) * ops::index_workspace_bytes(t.index, t.head_dim, sizes.max_rows,
                                                                                o.threads > 0 ? o.threads : base::hardware_threads());
  return need;
}

ModelExecutor::ModelExecutor(const models::Model& model, ops::RunningExecutor& executor, const kvcache::BlockPool& pool,
                             const ops::RunningOptions& options, kvcache::StatePool* states,
                             ops::RunningExecutor* draft)
    : model_(model), executor_(executor), draft_(draft), cache_(models::cache_view(pool)), options_(options) {
  if (states != nullptr) states_ = models::state_view(*states);
}

Status ModelExecutor::run(const ops::StepBatch& batch) {
  ops::StepBatch with_cache = batch;
  with_cache.cache = &cache_;
  with_cache.states = &states_;
  QW_TRY(executor_.begin(with_cache));
  model_.forward(executor_);
  return {};
}

Status ModelExecutor::run_draft(const ops::StepBatch& batch) {
  if (draft_ == nullptr) return StepExecutor::run_draft(batch);
  ops::StepBatch with_cache = batch;
  with_cache.cache = &cache_;
  QW_TRY(draft_->begin(with_cache));
  model_.draft(*draft_);
  return {};
}

Result<std::unique_ptr<LoadedModel>> LoadedModel::create(std::unique_ptr<models::Model> model,
                                                         std::span<const tensor::ConstView> weights,
                                                         LoadOptions options,
                                                         std::span<const ops::LowRankAdapter> adapters) {
  QW_TRY(check_options(*model, options));
  if (weights.size() != model->parameters().size())
    return fail(ErrorKind::kUsage, "the model has " + std::to_string(model->parameters().size()) + " parameters, " +
                                       std::to_string(weights.size()) + " weights were given");
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const models::ParameterSpec& p = model->parameters()[i];
    if (weights[i].shape != p.shape)
      return fail(ErrorKind::kBadInput,
                  p.hf_name + ": shape " + weights[i].shape.to_string() + ", should be " + p.shape.to_string());
  }
  QW_ASSIGN(const base::Isa isa, isa_of(options));
  const tensor::DType main_type = weights[static_cast<std::size_t>(model->embedding().id)].dtype;
  QW_ASSIGN(auto pool, kvcache::BlockPool::create(cache_shape(*model, main_type, options),
                                                  static_cast<std::int32_t>(cache_blocks(*model, options))));
  std::optional<kvcache::StatePool> states;
  if (const std::int64_t floats = model->traits().state_floats; floats > 0) {
    QW_ASSIGN(auto made, kvcache::StatePool::create(floats, static_cast<std::int32_t>(state_slots(options))));
    states.emplace(std::move(made));
  }
  std::unique_ptr<LoadedModel> loaded(
      new LoadedModel(std::move(model), std::move(pool), std::move(states), options, isa));
  const ops::RunningOptions sizes = sizes_of(*loaded->model_, options);
  const bool with_drafts = drafts(*loaded->model_, options);
  QW_TRY(loaded->build(weights, options, sizes, with_drafts, adapters));
  return loaded;
}

LoadedModel::LoadedModel(std::unique_ptr<models::Model> model, kvcache::BlockPool pool,
                         std::optional<kvcache::StatePool> states, const LoadOptions& options, base::Isa isa)
    : model_(std::move(model)),
      isa_(isa),
      threads_(options.threads),
      pool_(std::move(pool)),
      states_(std::move(states)),
      context_(context_of(*model_, options)) {}

LoadedModel::~LoadedModel() = default;

Status LoadedModel::build(std::span<const tensor::ConstView> weights, const LoadOptions& options,
                          const ops::RunningOptions& sizes, bool drafts,
                          std::span<const ops::LowRankAdapter> adapters) {
  std::vector<tensor::Shape> shapes;
  for (const models::ParameterSpec& p : model_->parameters()) shapes.push_back(p.shape);
  ops::RecordingExecutor recorder(std::move(shapes));
  model_->forward(recorder);
  ops::Program program = recorder.finish(), draft;
  if (drafts) {
    model_->draft(recorder);
    draft = recorder.finish();
  }
  QW_ASSIGN(executor_, ops::RunningExecutor::create(std::move(program), weights, sizes, kernels::kernels_for(isa_),
                                                    threads_, adapters, drafts ? &draft : nullptr));
  if (drafts) {
    QW_ASSIGN(draft_, executor_->make_beside(std::move(draft), sizes));
  }
  kvcache::StatePool* states = states_ ? &*states_ : nullptr;
  step_executor_ = std::make_unique<ModelExecutor>(*model_, *executor_, pool_, sizes, states, draft_.get());
  EngineConfig config = options.engine;
  if (options.late_mask) {
    QW_ASSIGN(config.mask, options.late_mask());
  }
  config.states = states;
  if (options.prefix_cache) {
    std::random_device device;  // whoever chooses tokens must not know where their names meet
    prefixes_.emplace(pool_, kvcache::PrefixCacheOptions{
                                 states, static_cast<std::int32_t>(states != nullptr ? snapshots_of(options) : 0),
                                 attention_depth(*model_), (std::uint64_t{device()} << 32) | device()});
    config.prefixes = &*prefixes_;
  }
  config.context = context_;
  config.sampling_pool = &threads_;
  QW_ASSIGN(engine_, Engine::create(*step_executor_, pool_, std::move(config)));
  if (options.cache_bytes_ahead > 0) pages_.emplace(pool_, options.cache_bytes_ahead);
  return {};
}

MemoryNeed LoadedModel::memory() const {
  return {executor_->weight_bytes(),
          pool_.total_blocks() * kvcache::block_bytes(pool_.shape()) + (states_ ? states_->bytes() : 0),
          executor_->arena_bytes() + (draft_ ? draft_->arena_bytes() : 0)};
}

Result<std::int32_t> LoadedModel::load_adapter(const ops::LowRankAdapter& adapter) {
  QW_ASSIGN(auto prepared, executor_->prepare_adapter(adapter));
  return engine_->add_adapter(std::move(prepared));
}

Result<std::unique_ptr<ModelDrafter>> LoadedModel::make_drafter(std::int64_t target_vocab,
                                                                const sampling::VocabularyMask& mask) {
  if (states_) return fail(ErrorKind::kUsage, "the draft model has recurrent layers, which cannot take tokens back");
  return ModelDrafter::create(*step_executor_, pool_, context_, target_vocab, mask);
}

Status LoadedModel::for_each_logits(std::span<const TokenId> ids,
                                    const std::function<void(std::int64_t t, std::span<const float> logits)>& visit,
                                    std::int32_t adapter) {
  QW_CHECK(!engine_->started());
  const auto n = static_cast<std::int64_t>(ids.size());
  if (!step_executor_->generates())
    return fail(ErrorKind::kUsage, "this model has no logits: its head is not a language model's");
  if (n == 0) return fail(ErrorKind::kUsage, "there are no tokens to score");
  if (n > context_)
    return fail(ErrorKind::kUsage, std::to_string(n) + " tokens exceed the context of " + std::to_string(context_));
  kvcache::BlockTable table = pool_.make_table(n);
  QW_TRY(pool_.reserve(table, n));
  kvcache::StateSlot state;
  if (states_) {
    QW_ASSIGN(state, states_->acquire());
  }
  const std::int32_t slots[] = {state.index()};
  const std::int64_t chunk = std::min(step_executor_->max_rows(), step_executor_->max_logit_rows());
  std::vector<std::int32_t> positions, sequences(static_cast<std::size_t>(chunk), 0), rows;
  const std::vector<std::int32_t> adapters(adapter < 0 ? 0 : static_cast<std::size_t>(chunk), adapter);
  const std::span<const std::int32_t> tables[] = {table.blocks()};
  const std::int32_t prompts[] = {static_cast<std::int32_t>(n)};  // all of it is read at once, as by a reference
  for (std::int64_t begin = 0; begin < n; begin += chunk) {
    const std::int64_t count = std::min(chunk, n - begin);
    positions.clear();
    rows.clear();
    for (std::int64_t i = 0; i < count; ++i) {
      positions.push_back(static_cast<std::int32_t>(begin + i));
      rows.push_back(static_cast<std::int32_t>(i));
    }
    const auto size = static_cast<std::size_t>(count);
    QW_TRY(step_executor_->run({ids.subspan(static_cast<std::size_t>(begin), size), positions,
                                std::span(sequences).first(size), tables, rows, nullptr, prompts,
                                std::span(adapters).first(adapter < 0 ? 0 : size), slots}));
    for (std::int64_t i = 0; i < count; ++i) visit(begin + i, step_executor_->logits(i));
  }
  return {};
}

}  // namespace qw::engine
