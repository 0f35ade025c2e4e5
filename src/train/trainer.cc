#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/cpu.h"
#include "base/sha256.h"
#include "ops/gemm.h"
#include "train/internal/start.h"
#include "train/internal/state.h"

namespace qw::train {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLossMemory = 0.95;  // of the running mean that a rise is measured against: twenty steps
constexpr double kSmoothing = 0.9;  // of seconds per step: the estimate follows the last ten steps or so

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::vector<tensor::Shape> shapes_of(const models::Model& model) {
  std::vector<tensor::Shape> shapes;
  for (const auto& parameter : model.parameters()) shapes.push_back(parameter.shape);
  return shapes;
}

std::string shortened(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", value);
  return text;
}

// Weights and gradients, and two moments of 4 bytes or, with 8 bits, of little more than one; what is shared out among
// processes counts for this one's share.
double bytes_a_parameter(const TrainConfig& config, double processes) {
  const double moments = config.optimizer.kind == OptimizerKind::kAdamw8bit ? 2.1 : 8;
  return 4 + (config.parallel.zero > 1 ? 4 / processes : 4) + (config.parallel.zero > 0 ? moments / processes : moments);
}

// `trained`: what a process holds of them.
Status check_memory(const std::vector<tensor::Shape>& trained, const TrainConfig& config, const Communicator* ranks) {
  double parameters = 0;
  for (const auto& shape : trained) parameters += static_cast<double>(shape.elements());
  const double here = ranks != nullptr ? ranks->on_host() : 1;
  const double sharing = ranks != nullptr ? static_cast<double>(ranks->size() / config.parallel.tensor) : 1;
  const double need = here * bytes_a_parameter(config, sharing) * parameters;
  const double have = static_cast<double>(base::available_memory_bytes());
  if (need > have)
    return fail(ErrorKind::kResource, "training this model needs " + shortened(need / 1e9) +
                                          " GB for weights, gradients and moments, there are " + shortened(have / 1e9));
  return {};
}

// What is divided among processes is micro-batches.
Status check_ranks(const TrainConfig& c, const Communicator& ranks) {
  const std::int64_t n = ranks.size() / c.parallel.tensor;
  const std::int64_t parts = c.parallel.parts > 0 ? c.parallel.parts : c.accumulation;
  if (parts < n)
    return fail(ErrorKind::kUsage, std::string(c.parallel.parts > 0 ? "parallel.parts" : "accumulation") + " = " +
                                       std::to_string(parts) + " is less than the " + std::to_string(n) +
                                       (c.parallel.tensor > 1 ? " groups of processes" : " processes") +
                                       ": some would have nothing to do");
  return {};
}

// Before the first step: that all processes are about to train the same model in the same way.
Status check_all_same(Communicator& ranks, const TrainConfig& config, const data::Dataset& dataset,
                      const kernels::Kernels& kernels, const ops::ParameterBuffer& weights, const TensorGroup* group) {
  if (ranks.size() == 1) return {};
  json::Object recipe = config.source;  // but for what may differ from host to host
  for (const char* own : {"threads", "output", "data", "shards"}) recipe.erase(own);
  QW_TRY(check_same(ranks, "recipe", base::sha256_hex(json::dump(json::Value(std::move(recipe))))));
  QW_TRY(check_same(ranks, "set of data (ledger)", dataset.ledger_sha256));
  QW_TRY(check_same(ranks, "instruction set (QW_ISA)", kernels.name));
  base::Sha256 hash;
  for (std::size_t p = 0; p < weights.size(); ++p)  // the beginning of each: enough to tell any two starts apart
    if (group == nullptr || !group->cuts(p))
      hash.update(std::as_bytes(weights.tensor(p).first(std::min<std::size_t>(1024, weights.tensor(p).size()))));
  return check_same(ranks, "start (init_from)", hash.hex());
}

}  // namespace

double training_flops(const models::Model& model, bool frozen, const data::PackedBatch& batch) {
  double matrix = 0;
  const auto& parameters = model.parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const bool lookup_only = static_cast<std::int32_t>(i) == model.embedding().id && model.embedding().id != model.head().id;
    if (parameters[i].shape.rank() != 2 || lookup_only) continue;
    // Of the experts, a token meets those it chooses.
    const double met = parameters[i].gguf_parts > 1 ? static_cast<double>(model.traits().experts_per_token) / parameters[i].gguf_parts : 1.0;
    matrix += met * static_cast<double>(parameters[i].shape.elements());
  }
  const auto& t = model.traits();
  double attention = 0;
  for (std::size_t i = 0; i + 1 < batch.cu_seqlens.size(); ++i) {
    const double n = batch.cu_seqlens[i + 1] - batch.cu_seqlens[i];
    attention += n * n;  // two products over the causal half, 2 operations a multiply-add
  }
  attention *= 2.0 * t.layers * t.heads * t.head_dim;
  return (frozen ? 2 : 3) * 2 * matrix * static_cast<double>(batch.tokens.size()) + 3 * attention;
}

double measure_peak_flops(kernels::GemmPrecision precision, const kernels::Kernels& kernels, base::ThreadPool& pool) {
  // 768 cubed is 0.9 GFLOP: large enough to reach the plateau, some ms a try. The best of a quarter of a second: other
  // work on the machine can only make a try slower.
  constexpr std::int64_t n = 768;
  constexpr double kSeconds = 0.25;
  const ops::Machine machine{kernels, pool};
  ops::GemmWorkspace workspace(machine, precision);
  workspace.plan(n, n, n);
  workspace.allocate();
  tensor::Buffer a(n * n * sizeof(float)), b(n * n * sizeof(float)), c(n * n * sizeof(float));
  for (auto* factor : {&a, &b})  // multiplying zeros would draw less power, and so run faster, than real work
    for (std::int64_t i = 0; i < n * n; ++i) reinterpret_cast<float*>(factor->data())[i] = static_cast<float>(i % 251 - 125) / 64.0f;
  kernels::GemmArgs args{};
  args.precision = precision;
  args.m = args.n = args.k = n;
  args.a = reinterpret_cast<const float*>(a.data()), args.lda = n;
  args.b = reinterpret_cast<const float*>(b.data()), args.ldb = n;
  args.c = reinterpret_cast<float*>(c.data()), args.ldc = n;
  double best = 0;
  for (const auto begin = Clock::now(); seconds_since(begin) < kSeconds;) {
    const auto start = Clock::now();
    ops::gemm(machine, workspace, args);
    best = std::max(best, 2.0 * n * n * n / std::max(1e-9, seconds_since(start)));
  }
  return best;
}

std::vector<UpdateRule> update_rules(const models::Model& model, OptimizerKind kind) {
  std::vector<UpdateRule> rules;
  const auto& parameters = model.parameters();
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    const auto id = static_cast<std::int32_t>(p);
    const bool matrix = parameters[p].shape.rank() == 2 && !parameters[p].is_norm && !parameters[p].is_bias;
    const bool outer = id == model.embedding().id || id == model.head().id;
    if (parameters[p].selects || parameters[p].draft) rules.push_back(UpdateRule::kFrozen);  // no gradient: nothing to decay either
    else if (!matrix) rules.push_back(plain_rule(kind, false));
    else if (kind == OptimizerKind::kMuon && !outer) rules.push_back(UpdateRule::kMuon);
    else rules.push_back(plain_rule(kind, true));
  }
  return rules;
}

Trainer::Trainer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Trainer::~Trainer() = default;

Result<std::unique_ptr<Trainer>> Trainer::create(TrainConfig config, const data::Dataset& dataset,
                                                 const kernels::Kernels& kernels, base::ThreadPool& pool,
                                                 Communicator* ranks) {
  std::unique_ptr<TensorGroup> group;
  if (config.parallel.tensor > 1) {
    QW_ASSIGN(group, TensorGroup::create(ranks, static_cast<int>(config.parallel.tensor), pool));
  }
  if (ranks != nullptr) QW_TRY(check_ranks(config, *ranks));
  QW_ASSIGN(auto spec, tokenizer::load_tokenizer_folder(dataset.tokenizer_folder));
  if (data::tokenizer_hash(spec) != dataset.tokenizer_hash)
    return fail(ErrorKind::kUsage, dataset.tokenizer_folder.string() + ": not the tokenizer that the shards were made with");
  QW_ASSIGN(auto tokenizer, tokenizer::Tokenizer::create(std::move(spec)));
  auto state = std::make_unique<State>(std::move(config), dataset, kernels, pool, std::move(tokenizer), ranks);
  State& s = *state;
  s.group = std::move(group);
  if (s.config.lora) {
    QW_ASSIGN(s.lora, Lora::create(s.config, pool));
  } else {
    QW_ASSIGN(s.whole_model, make_model(s.config, dataset));
  }
  const models::Model& model = s.model();
  if (!judges(s.config) && !s.config.embedding && model.traits().head.kind != models::HeadKind::kLanguage)
    return fail(ErrorKind::kUsage, std::string("train: a model with the head \"") + models::head_name(model.traits().head.kind) +
                                       "\" is trained by [reward], [classes] or [embedding] only");
  if (model.traits().vocab < dataset.vocab)
    return fail(ErrorKind::kUsage, "model.vocab_size is " + std::to_string(model.traits().vocab) +
                                       ", the tokenizer has " + std::to_string(dataset.vocab) + " ids");
  QW_TRY(check_length(s.config, model));
  auto shapes = shapes_of(model);
  ops::RecordingExecutor recorder(shapes);
  model.forward(recorder);
  ops::Program program = recorder.finish();
  ops::TrainingOptions options;
  if (s.group != nullptr) {
    QW_TRY(s.group->cut(model, program));
    shapes = s.group->shapes();
    options.sum_group = [&group = *s.group](std::span<float> numbers) { group.sum(numbers); };
  }
  QW_TRY(check_memory(s.lora != nullptr ? s.lora->shapes() : shapes, s.config, ranks));
  options.max_tokens = s.config.sequence_length * s.config.batch_sequences;
  options.precision = s.gemm_precision();
  options.recompute = s.config.recompute;
  options.half_kept = s.config.half_activations;
  std::vector<UpdateRule> rules = update_rules(model, s.config.optimizer.kind);
  std::vector<float> lr_ratios;
  if (s.lora != nullptr) {
    options.adapters = s.lora->adapters();
    options.frozen.assign(shapes.size(), true);
    options.stored = s.lora->base();
    rules.assign(shapes.size(), UpdateRule::kFrozen);
    rules.insert(rules.end(), s.lora->rules().begin(), s.lora->rules().end());
    lr_ratios.assign(shapes.size(), 1.0f);
    lr_ratios.insert(lr_ratios.end(), s.lora->lr_ratios().begin(), s.lora->lr_ratios().end());
  }
  s.graph = std::make_unique<ops::TrainingGraph>(std::move(program), shapes, options, kernels, pool);
  s.weights = ops::ParameterBuffer(s.graph->parameter_shapes());
  if (s.lora != nullptr) {
    s.lora->initialise(s.weights, kernels, pool);
  } else if (s.config.init_from.empty()) {
    initialise(model, s.config.seed, s.group.get(), s.weights);
  } else {
    QW_TRY(load_weights(s.config, model, s.group.get(), s.weights));
    QW_TRY(inherit_generation(s.config));
  }
  if (s.has_average()) {
    s.average = ops::ParameterBuffer(s.weights.shapes());
    std::copy(s.weights.all().begin(), s.weights.all().end(), s.average.all().begin());
  }
  if (ranks != nullptr) QW_TRY(check_all_same(*ranks, s.config, dataset, kernels, s.weights, s.group.get()));
  s.share = std::make_unique<GradientSum>(*s.graph, rules, s.config.parallel,
                                          s.group != nullptr ? &s.group->column() : ranks, ranks, pool);
  s.optimizer = std::make_unique<Optimizer>(s.weights.shapes(), std::move(rules), s.config.optimizer, s.gemm_precision(),
                                            kernels, pool, std::move(lr_ratios), s.share->owned());
  s.method = make_method(s.context());
  QW_TRY(s.method->open({}));
  s.peak_flops = measure_peak_flops(s.gemm_precision(), kernels, pool);
  return std::unique_ptr<Trainer>(new Trainer(std::move(state)));
}

Result<StepRecord> Trainer::step() {
  Method& method = *state_->method;
  const auto start = Clock::now();
  QW_TRY(method.draw());
  const double drawn_in = seconds_since(start);
  auto record = update_on(method.batches(), [&method](StepRecord& told) { return method.learn(told); }, drawn_in);
  if (!record) return record;
  QW_ASSIGN(const double flops, state_->take_flops());
  if (!record->broken) state_->learning_flops += flops;
  return record;
}

Result<StepRecord> Trainer::step_on(std::span<const data::PackedBatch> batches) {
  return update_on(batches, [&](StepRecord& record) { return learn_texts(state_->context(), batches, record); });
}

Result<EvalRecord> Trainer::evaluate() {
  auto record = state_->method->evaluate();
  if (!record) return record;
  if (state_->group != nullptr) QW_TRY(state_->group->status());
  QW_ASSIGN(state_->last_evaluation_flops, state_->take_flops());
  return record;
}

// Every slice counts once, what is not cut as well.
Result<double> Trainer::State::gradient_norm() {
  const ops::ParameterBuffer& gradients = graph->gradients();
  auto squares = squares_of(gradients, optimizer->rules(), share->owned(), kernels, pool);
  if (!share->owned().empty()) QW_TRY(share->add_up(squares));
  if (group == nullptr) return norm_of(gradients, optimizer->rules(), squares);
  std::vector<double> of = squares_by_parameter(gradients, optimizer->rules(), squares);
  QW_TRY(group->add_up_cut(of));
  return std::sqrt(std::accumulate(of.begin(), of.end(), 0.0));
}

Result<StepRecord> Trainer::update_on(std::span<const data::PackedBatch> batches,
                                      const std::function<Status(StepRecord&)>& learn, double drawn_in) {
  State& s = *state_;
  const auto start = Clock::now();
  std::int64_t rows = 0;
  double flops = 0;
  for (const auto& batch : batches) {
    rows += static_cast<std::int64_t>(batch.tokens.size());
    flops += training_flops(s.model(), s.lora != nullptr, batch);
  }
  s.share->begin();
  if (s.group != nullptr) s.group->take_seconds();
  StepRecord record;
  QW_TRY(learn(record));
  if (s.group != nullptr) QW_TRY(s.group->sum_partial(s.graph->gradients()));
  if (s.lora != nullptr) s.lora->mask(s.graph->gradients());
  QW_ASSIGN(record.grad_norm, s.gradient_norm());
  const double factor = schedule_factor(s.config.schedule, s.step, s.config.steps);
  record.lr = s.config.optimizer.lr * factor;
  const bool finite = std::isfinite(record.loss) && std::isfinite(record.grad_norm);
  if (s.config.rollback.most > 0) {
    const double rise = s.config.rollback.rise;
    record.broken = !finite || (rise > 0 && s.mean_loss && record.loss > *s.mean_loss + rise);
    if (record.broken) {
      record.step = s.step + 1;
      return record;
    }
    s.mean_loss = s.mean_loss ? kLossMemory * *s.mean_loss + (1 - kLossMemory) * record.loss : record.loss;
  }
  if (!finite && !s.config.skip_non_finite)
    return fail(ErrorKind::kFailed, "step " + std::to_string(s.step + 1) + ": loss " + shortened(record.loss) +
                                        ", gradient norm " + shortened(record.grad_norm) +
                                        " is not finite; lower optimizer.lr, or resume from a checkpoint");
  record.skipped = !finite;
  ++s.step;
  if (finite) {
    const double clip = s.config.optimizer.clip;
    const double scale = clip > 0 ? std::min(1.0, clip / (record.grad_norm + 1e-6)) : 1.0;
    s.optimizer->step(s.weights, s.graph->gradients(), s.step, factor, scale);
    QW_TRY(s.share->gather(s.weights));
    if (s.has_average()) {
      const auto keep = static_cast<float>(s.config.ema);
      float* average = s.average.all().data();
      const float* weights = s.weights.all().data();
      s.pool.parallel_for(static_cast<std::int64_t>(s.weights.all().size()), 1 << 14, [&](auto begin, auto end) {
        for (auto i = begin; i < end; ++i) average[i] = keep * average[i] + (1 - keep) * weights[i];
      });
    }
  }
  s.tokens += rows;
  const double seconds = std::max(1e-9, seconds_since(start));
  const double whole = seconds + drawn_in;
  s.seconds_a_step = s.seconds_a_step == 0 ? whole : kSmoothing * s.seconds_a_step + (1 - kSmoothing) * whole;
  record.step = s.step;
  record.tokens = s.tokens;
  record.tps = static_cast<double>(rows) / seconds;
  record.mfu = flops / seconds / (s.peak_flops * s.processes());
  if (!s.alone()) record.waited = s.share->waited() + (s.group != nullptr ? s.group->take_seconds() : 0);
  record.seconds_left = s.seconds_a_step * static_cast<double>(std::max<std::int64_t>(0, s.config.steps - s.step));
  return record;
}

Status Trainer::begin_record() {
  State& s = *state_;
  json::Object model{{"parameters", parameter_count()}, {"trained_parameters", trained_parameter_count()}};
  const json::Object described = s.model().hf_config();
  for (const char* key : {"model_type", "num_hidden_layers", "hidden_size", "vocab_size"})
    if (const json::Value* found = described.find(key); found != nullptr) model.set(key, *found);
  model.set("precision", s.config.precision == Precision::kBf16 ? "bf16" : "f32");
  if (s.lora != nullptr) model.set("adapter_rank", s.config.lora->rank);
  QW_ASSIGN(s.record, ComputeRecord::begin(s.config, s.dataset, std::move(model),
                                           {std::string(s.kernels.name), s.pool.size(), s.peak_flops,
                                            s.ranks == nullptr ? 1 : s.ranks->size(),
                                            s.ranks == nullptr ? 1 : s.ranks->on_host()},
                                           s.step));
  return {};
}

Status Trainer::run(const Callbacks& callbacks) {
  State& s = *state_;
  if (s.leads()) QW_TRY(begin_record());
  if (Status trained = run_steps(callbacks); !trained) {
    if (s.record == nullptr) return trained;
    const bool stopped = trained.error().kind == ErrorKind::kInterrupted;
    if (const Status kept = s.record->write(s.compute(), stopped ? "interrupted" : "failed"); !kept)
      trained.error().message += "; and " + kept.error().message;
    return trained;
  }
  if (!s.leads() && s.group == nullptr) return {};
  const auto folder = s.config.output / (s.lora != nullptr ? "adapter" : "model");
  QW_TRY(s.lora != nullptr ? export_adapter(folder) : export_model(folder));
  return s.leads() ? s.record->finish(s.compute(), folder) : Status{};
}

Status Trainer::run_steps(const Callbacks& callbacks) {
  State& s = *state_;
  const auto checkpoints = s.config.output / "checkpoints";
  const auto due = [&](std::int64_t every) { return s.step == s.config.steps || (every > 0 && s.step % every == 0); };
  const auto patient = [&s] { return s.config.eval.patience == 0 || s.since_best < s.config.eval.patience; };
  while (s.step < s.config.steps && patient()) {
    double stop = callbacks.stop && callbacks.stop() ? 1 : 0;  // of one: of all
    QW_TRY(s.add_up(std::span(&stop, 1)));
    if (stop > 0) {
      QW_TRY(save_numbered(callbacks));
      return fail(ErrorKind::kInterrupted, "stopped after step " + std::to_string(s.step) + "; --resume goes on from there");
    }
    QW_ASSIGN(const auto record, step());
    if (record.broken) {
      QW_TRY(roll_back(record, callbacks));
      continue;
    }
    if (callbacks.on_step) callbacks.on_step(record);
    if (s.record != nullptr) QW_TRY(s.record->tell(s.compute()));
    if (due(s.config.eval.every) && !s.dataset.heldout.empty()) {
      QW_ASSIGN(auto eval, evaluate());
      s.evaluation_flops += s.last_evaluation_flops;  // who evaluates besides is no part of the run
      eval.best = eval.eval_loss < s.best_loss;
      if (eval.best) s.best_loss = eval.eval_loss;
      s.since_best = eval.best ? 0 : s.since_best + 1;
      if (callbacks.on_eval) callbacks.on_eval(eval);
      if (eval.best) QW_TRY(save_checkpoint(checkpoints / "best.safetensors"));
    }
    if (due(s.config.checkpoint.every) || !patient()) QW_TRY(save_numbered(callbacks));
  }
  // What was best is what comes out; the checkpoints of the end stay.
  if (!patient()) QW_TRY(load_checkpoint(checkpoints / "best.safetensors"));
  return {};
}

std::int64_t Trainer::steps_done() const { return state_->step; }
const models::Model& Trainer::model() const { return state_->model(); }
ops::ParameterBuffer& Trainer::weights() { return state_->weights; }
std::int64_t Trainer::sequences_in_epoch() const { return state_->method->size().sequences; }
std::int64_t Trainer::rows_in_epoch() const { return state_->method->size().rows; }
std::int64_t Trainer::examples_left_out() const { return state_->method->size().left_out; }
double Trainer::peak_flops() const { return state_->peak_flops; }

std::int64_t Trainer::graph_bytes() const { return state_->graph->arena_bytes(); }
std::int64_t Trainer::moment_bytes() const { return state_->optimizer->moment_bytes(); }

std::int64_t Trainer::parameter_count() const {
  std::int64_t n = state_->lora != nullptr ? trained_parameter_count() : 0;
  for (const auto& parameter : state_->model().parameters()) n += parameter.shape.elements();
  return n;
}

std::int64_t Trainer::trained_parameter_count() const {
  std::int64_t n = 0;
  for (std::size_t i = 0; i < state_->weights.size(); ++i)
    if (state_->optimizer->rules()[i] != UpdateRule::kFrozen) n += state_->whole_shape(i).elements();
  return n;
}

Status Trainer::export_adapter(const std::filesystem::path& folder) {
  return state_->lora->write(state_->served_weights(), folder);
}

}  // namespace qw::train
