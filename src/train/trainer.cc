#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "base/cpu.h"
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

// Weights and gradients, and two moments of 4 bytes or, with 8 bits, of little more than one.
double bytes_a_parameter(OptimizerKind kind) { return kind == OptimizerKind::kAdamw8bit ? 10.1 : 16; }

Status check_memory(const std::vector<tensor::Shape>& trained, OptimizerKind kind) {
  double parameters = 0;
  for (const auto& shape : trained) parameters += static_cast<double>(shape.elements());
  const double need = bytes_a_parameter(kind) * parameters, have = static_cast<double>(base::available_memory_bytes());
  if (need > have)
    return fail(ErrorKind::kResource, "training this model needs " + shortened(need / 1e9) +
                                          " GB for weights, gradients and moments, there are " + shortened(have / 1e9));
  return {};
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
                                                 const kernels::Kernels& kernels, base::ThreadPool& pool) {
  QW_ASSIGN(auto spec, tokenizer::load_tokenizer_folder(dataset.tokenizer_folder));
  if (data::tokenizer_hash(spec) != dataset.tokenizer_hash)
    return fail(ErrorKind::kUsage, dataset.tokenizer_folder.string() + ": not the tokenizer that the shards were made with");
  QW_ASSIGN(auto tokenizer, tokenizer::Tokenizer::create(std::move(spec)));
  auto state = std::make_unique<State>(std::move(config), dataset, kernels, pool, std::move(tokenizer));
  State& s = *state;
  if (s.config.lora) {
    QW_ASSIGN(s.lora, Lora::create(s.config));
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
  const auto shapes = shapes_of(model);
  QW_TRY(check_memory(s.lora != nullptr ? s.lora->shapes() : shapes, s.config.optimizer.kind));
  ops::RecordingExecutor recorder(shapes);
  model.forward(recorder);
  ops::TrainingOptions options;
  options.max_tokens = s.config.sequence_length * s.config.batch_sequences;
  options.precision = s.gemm_precision();
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
  s.graph = std::make_unique<ops::TrainingGraph>(recorder.finish(), shapes, options, kernels, pool);
  s.weights = ops::ParameterBuffer(s.graph->parameter_shapes());
  if (s.lora != nullptr) {
    s.lora->initialise(s.weights, kernels, pool);
  } else if (s.config.init_from.empty()) {
    initialise(model, s.config.seed, s.weights);
  } else {
    QW_TRY(load_weights(s.config, model, s.weights));
    QW_TRY(inherit_generation(s.config));
  }
  if (s.has_average()) {
    s.average = ops::ParameterBuffer(s.weights.shapes());
    std::copy(s.weights.all().begin(), s.weights.all().end(), s.average.all().begin());
  }
  s.optimizer = std::make_unique<Optimizer>(s.weights.shapes(), std::move(rules), s.config.optimizer,
                                            s.gemm_precision(), kernels, pool, std::move(lr_ratios));
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
  return update_on(method.batches(), [&method](StepRecord& record) { return method.learn(record); }, drawn_in);
}

Result<StepRecord> Trainer::step_on(std::span<const data::PackedBatch> batches) {
  return update_on(batches, [&](StepRecord& record) { return learn_texts(state_->context(), batches, record); });
}

Result<EvalRecord> Trainer::evaluate() { return state_->method->evaluate(); }

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
  s.graph->gradients().zero();
  StepRecord record;
  QW_TRY(learn(record));
  if (s.lora != nullptr) s.lora->mask(s.graph->gradients());
  record.grad_norm = gradient_norm(s.graph->gradients(), s.optimizer->rules(), s.kernels, s.pool);
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
  record.mfu = flops / seconds / s.peak_flops;
  record.seconds_left = s.seconds_a_step * static_cast<double>(std::max<std::int64_t>(0, s.config.steps - s.step));
  return record;
}

Status Trainer::run(const Callbacks& callbacks) {
  State& s = *state_;
  const auto checkpoints = s.config.output / "checkpoints";
  const auto due = [&](std::int64_t every) { return s.step == s.config.steps || (every > 0 && s.step % every == 0); };
  const auto patient = [&s] { return s.config.eval.patience == 0 || s.since_best < s.config.eval.patience; };
  while (s.step < s.config.steps && patient()) {
    const bool stop = callbacks.stop && callbacks.stop();
    if (stop) {
      QW_TRY(save_numbered(callbacks));
      return fail(ErrorKind::kInterrupted, "stopped after step " + std::to_string(s.step) + "; --resume goes on from there");
    }
    QW_ASSIGN(const auto record, step());
    if (record.broken) {
      QW_TRY(roll_back(record, callbacks));
      continue;
    }
    if (callbacks.on_step) callbacks.on_step(record);
    if (due(s.config.eval.every) && !s.dataset.heldout.empty()) {
      QW_ASSIGN(auto eval, evaluate());
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
  return s.lora != nullptr ? export_adapter(s.config.output / "adapter") : export_model(s.config.output / "model");
}

std::int64_t Trainer::steps_done() const { return state_->step; }
const models::Model& Trainer::model() const { return state_->model(); }
ops::ParameterBuffer& Trainer::weights() { return state_->weights; }
std::int64_t Trainer::sequences_in_epoch() const { return state_->method->size().sequences; }
std::int64_t Trainer::rows_in_epoch() const { return state_->method->size().rows; }
std::int64_t Trainer::examples_left_out() const { return state_->method->size().left_out; }
double Trainer::peak_flops() const { return state_->peak_flops; }

std::int64_t Trainer::parameter_count() const {
  std::int64_t n = state_->lora != nullptr ? trained_parameter_count() : 0;
  for (const auto& parameter : state_->model().parameters()) n += parameter.shape.elements();
  return n;
}

std::int64_t Trainer::trained_parameter_count() const {
  std::int64_t n = 0;
  for (std::size_t i = 0; i < state_->weights.size(); ++i)
    if (state_->optimizer->rules()[i] != UpdateRule::kFrozen) n += state_->weights.elements(i);
  return n;
}

Status Trainer::export_adapter(const std::filesystem::path& folder) {
  return state_->lora->write(state_->served_weights(), folder);
}

namespace {

void set_rollouts(const RolloutRecord& r, json::Object& o) {
  if (r.answers > 0) {
    o.set("reward", r.reward);
    o.set("reward_deviation", r.reward_deviation);
    json::Object each;
    for (const auto& [name, mean] : r.rewards) each.set(name, mean);
    o.set("rewards", std::move(each));
    o.set("answers", r.answers);
    o.set("answer_tokens", r.tokens);
    o.set("cut_share", r.cut_share);
    o.set("equal_share", r.equal_share);
    o.set("redrawn_share", r.redrawn_share);
    o.set("sampler_gap", r.sampler_gap);
    o.set("draw_seconds", r.draw_seconds);
  }
  o.set("clipped_share", r.clipped_share);
  if (r.kl) o.set("kl", *r.kl);
}

}  // namespace

json::Object to_json(const StepRecord& r) {
  json::Object o;
  o.set("step", r.step);
  o.set("loss", r.loss);
  o.set("lr", r.lr);
  o.set("grad_norm", r.grad_norm);
  o.set("tokens", r.tokens);
  o.set("tps", r.tps);
  o.set("mfu", r.mfu);
  o.set("seconds_left", r.seconds_left);
  if (r.accuracy) o.set("accuracy", *r.accuracy);
  if (r.margin) o.set("margin", *r.margin);
  if (r.drift) o.set("drift", *r.drift);
  if (r.rollouts) set_rollouts(*r.rollouts, o);
  if (r.skipped) o.set("skipped", true);
  return o;
}

json::Object to_json(const RollbackRecord& r) {
  json::Object o;
  o.set("rollback_to", r.to);
  o.set("broken_step", r.step);
  if (std::isfinite(r.loss)) o.set("broken_loss", r.loss);
  if (std::isfinite(r.grad_norm)) o.set("broken_grad_norm", r.grad_norm);
  return o;
}

namespace {

// Of texts: bits per byte; of all else, what the method tells.
template <class Record>
void set_measures(const Record& r, json::Object& o) {
  if (r.accuracy) o.set("accuracy", *r.accuracy);
  if (r.mrr) o.set("mrr", *r.mrr);
  if (r.margin) o.set("margin", *r.margin);
  if (r.reward) o.set("reward", *r.reward);
  if (!r.accuracy && !r.margin && !r.reward) o.set("bits_per_byte", r.bits_per_byte);
}

}  // namespace

json::Object to_json(const EvalRecord& r) {
  json::Object o;
  o.set("step", r.step);
  o.set("eval_loss", r.eval_loss);
  set_measures(r, o);
  o.set("best", r.best);
  json::Array sources;
  for (const auto& source : r.sources) {
    json::Object entry;
    entry.set("name", source.name);
    entry.set("eval_loss", source.loss);
    set_measures(source, entry);
    entry.set("tokens", source.tokens);
    if (!source.accuracy && !source.margin && !source.reward) entry.set("bytes", source.bytes);
    sources.emplace_back(std::move(entry));
  }
  o.set("sources", std::move(sources));
  return o;
}

}  // namespace qw::train
