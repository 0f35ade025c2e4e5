#include "train/internal/lora.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <set>

#include "base/file.h"
#include "base/mapped_pages.h"
#include "base/rng.h"
#include "models/load.h"
#include "ops/gemm.h"
#include "train/internal/start.h"
#include "train/internal/state.h"
#include "train/internal/svd.h"
#include "train/internal/tensor_file.h"

namespace qw::train {
namespace {

constexpr std::string_view kWeight = ".weight", kPeftPrefix = "base_model.model.";
// What is adapted unless a recipe names something else: the matrices inside the layers, by the names that the family
// has had since Qwen1.5.
const std::vector<std::string> kUsualTargets{"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                             "gate_proj", "up_proj", "down_proj"};

bool ends_path(std::string_view path, std::string_view end) {
  return path.ends_with(end) && (path.size() == end.size() || path[path.size() - end.size() - 1] == '.');
}

ops::Program program_of(const models::Model& model) {
  std::vector<tensor::Shape> shapes;
  for (const auto& p : model.parameters()) shapes.push_back(p.shape);
  ops::RecordingExecutor recorder(std::move(shapes));
  model.forward(recorder);
  return recorder.finish();
}

// Names of the modules whose matrices stand alone in a product, by parameter; "" for all others.
std::vector<std::string> products(const models::Model& model) {
  std::vector<std::string> paths(model.parameters().size());
  for (const ops::Op& op : program_of(model).ops) {
    if (op.kind != ops::OpKind::kLinear) continue;
    std::string path = model.parameters()[static_cast<std::size_t>(op.weight.id)].hf_name;
    if (path.ends_with(kWeight)) path.resize(path.size() - kWeight.size());
    paths[static_cast<std::size_t>(op.weight.id)] = std::move(path);
  }
  return paths;
}

// Of each parameter, whether it is a matrix of a product inside the layers, experts' too: neither token table nor head, nor
// what chooses experts, which is small and decides much.
std::vector<bool> inner_matrices(const models::Model& model) {
  std::vector<bool> chosen(model.parameters().size());
  const auto mark = [&](std::int32_t id, bool inner) { chosen[static_cast<std::size_t>(id)] = inner; };
  const ops::Program program = program_of(model);
  std::map<std::int32_t, std::int32_t> weight_of;  // by the value that a product gives
  for (const ops::Op& op : program.ops) {
    if (op.kind == ops::OpKind::kLinear) {
      mark(op.weight.id, true);
      weight_of[op.out.id] = op.weight.id;
    }
    for (std::int32_t e = 0; op.kind == ops::OpKind::kExperts && e < op.experts.experts; ++e)
      for (const ops::Weight first : {op.experts.gate, op.experts.up, op.experts.down}) mark(first.id + e, true);
  }
  for (const ops::Op& op : program.ops)
    if (op.kind == ops::OpKind::kExperts)
      if (const auto router = weight_of.find(op.in[1].id); router != weight_of.end()) mark(router->second, false);
  for (const ops::Weight outer : {model.embedding(), model.head()})
    if (outer.present()) mark(outer.id, false);
  return chosen;
}

// "q_proj, k_proj, ...": the last parts of the names, each once.
std::string listed(const std::vector<std::string>& paths) {
  std::set<std::string> seen;
  std::string out;
  for (const std::string& path : paths)
    if (std::string last = path.substr(path.rfind('.') + 1); !last.empty() && seen.insert(last).second)
      out += (out.empty() ? "" : ", ") + last;
  return out;
}

float scale_of(const LoraConfig& lora) {
  const auto rank = static_cast<double>(lora.rank);
  return static_cast<float>(lora.alpha / (lora.rslora ? std::sqrt(rank) : rank));
}

}  // namespace

json::Object to_json(const LoraConfig& c) {
  json::Object o;
  o.set("rank", c.rank);
  o.set("alpha", c.alpha);
  o.set("rslora", c.rslora);
  o.set("dora", c.dora);
  o.set("b_lr_ratio", c.b_lr_ratio);
  if (c.pissa) o.set("pissa", true);
  if (c.base == BaseType::kNf4) o.set("base", c.double_quantise ? "nf4, scales too" : "nf4");
  json::Array targets;
  for (const std::string& target : c.targets) targets.emplace_back(target);
  o.set("targets", std::move(targets));
  return o;
}

Result<std::unique_ptr<Lora>> Lora::create(const TrainConfig& config, base::ThreadPool& pool) {
  QW_ASSIGN(auto source, formats::ModelSource::open(config.init_from));
  std::unique_ptr<Lora> lora(new Lora(config, std::move(source)));
  QW_ASSIGN(lora->model_, models::model_from_source(lora->source_));
  QW_ASSIGN(lora->base_, models::load_weights(*lora->model_, lora->source_));
  QW_TRY(lora->choose_targets());
  if (config.lora->base == BaseType::kNf4) QW_TRY(lora->make_smaller(pool));
  lora->fingerprint_ = fingerprint_of(*lora->model_, lora->base_);
  return lora;
}

Status Lora::choose_targets() {
  const std::vector<std::string> paths = products(*model_);
  const bool usual = config_.lora->targets.empty();
  std::vector<bool> chosen(paths.size());
  for (const std::string& target : usual ? kUsualTargets : config_.lora->targets) {
    bool found = false;
    for (std::size_t i = 0; i < paths.size(); ++i) {
      if (!ends_path(paths[i], target)) continue;
      const models::ParameterSpec& p = model_->parameters()[i];
      if (!p.hf.same() && !usual)
        return fail(ErrorKind::kBadInput,
                    "lora.targets: " + paths[i] +
                        " is kept in another form than the folder's, so no adapter of it can be written");
      if (!p.hf.same()) continue;
      found = chosen[i] = true;
    }
    if (found)
      targets_.push_back(target);
    else if (!usual)
      return fail(ErrorKind::kBadInput,
                  "lora.targets: the model has no " + target.substr(0, 64) + "; it has " + listed(paths));
  }
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (!chosen[i]) continue;
    const tensor::Shape& shape = model_->parameters()[i].shape;
    if (config_.lora->pissa && config_.lora->rank > std::min(shape[0], shape[1]))
      return fail(ErrorKind::kBadInput, "lora.rank: " + paths[i] + " has no more than " +
                                            std::to_string(std::min(shape[0], shape[1])) + " components");
    add(static_cast<std::int32_t>(i), paths[i]);
  }
  if (adapters_.empty())
    return fail(ErrorKind::kBadInput, "lora.targets: name what is to be adapted; the model has " + listed(paths));
  return {};
}

// Each matrix from its file, whose pages are let go of when it is done.
Status Lora::make_smaller(base::ThreadPool& pool) {
  const bool bf16 = config_.precision == Precision::kBf16;
  const std::vector<bool> chosen = inner_matrices(*model_);
  for (std::size_t i = 0; i < base_.size(); ++i) {
    if (!chosen[i]) continue;
    tensor::ConstView& view = base_[i];
    auto made = Nf4::of(view, config_.lora->double_quantise, bf16 ? tensor::DType::kBF16 : tensor::DType::kF32, pool);
    if (!made) return in_context(config_.init_from + ": tensor \"" + model_->parameters()[i].hf_name + "\"", std::move(made).error());
    if (view.data != nullptr) base::let_go_of_pages({view.data, static_cast<std::size_t>(view.bytes())});
    view = smaller_.emplace_back(std::move(*made))->view();
  }
  return {};
}

std::int64_t Lora::base_bytes() const {
  std::int64_t bytes = 0;
  for (const tensor::ConstView& view : base_)
    if (view.data != nullptr) bytes += view.bytes();
  for (const auto& matrix : smaller_) bytes += matrix->bytes();
  return bytes;
}

void Lora::add(std::int32_t parameter, const std::string& path) {
  const LoraConfig& lora = *config_.lora;
  const OptimizerKind kind = config_.optimizer.kind;
  const tensor::Shape shape = model_->parameters()[static_cast<std::size_t>(parameter)].shape;
  const std::int64_t rank = whole_rank();
  const bool decays = !lora.pissa;  // toward zero would be away from the base
  const auto half = [&](const char* end, tensor::Shape s, UpdateRule rule, double ratio) {
    names_.push_back(std::string(kPeftPrefix) + path + end);
    shapes_.push_back(s);
    rules_.push_back(rule);
    lr_ratios_.push_back(static_cast<float>(ratio));
  };
  adapters_.push_back({{parameter}, static_cast<std::int32_t>(rank), scale_of(lora), lora.dora});
  half(".lora_A.weight", {rank, shape[1]}, plain_rule(kind, decays), 1);
  half(".lora_B.weight", {shape[0], rank}, plain_rule(kind, decays), lora.b_lr_ratio);
  if (lora.dora) half(".lora_magnitude_vector", {shape[0]}, plain_rule(kind, false), 1);
}

void Lora::initialise(ops::ParameterBuffer& weights, const kernels::Kernels& kernels, base::ThreadPool& pool) const {
  std::size_t p = base_.size();
  for (const ops::Adapter& adapter : adapters_) {
    if (config_.lora->pissa) {
      begin_at_components(adapter, p, weights, kernels, pool);
      p += 2;
      continue;
    }
    base::Rng rng(config_.seed, kInitStream + p);
    const double bound = 1 / std::sqrt(static_cast<double>(weights.shape(p)[1]));
    for (float& a : weights.tensor(p)) a = static_cast<float>((2 * rng.next_double() - 1) * bound);
    p += 2;
    if (!adapter.magnitude) continue;
    const ops::Matrix matrix(base_[static_cast<std::size_t>(adapter.target.id)]);
    const std::int64_t columns = matrix.stored.shape[1];
    constexpr std::int64_t kRows = 16;
    pool.parallel_for(matrix.stored.shape[0], kRows, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> row(static_cast<std::size_t>(columns));
      for (std::int64_t r = begin; r < end; ++r) {
        ops::matrix_row(matrix, r, columns, row.data());
        double squares = 0;
        for (const float x : row) squares += static_cast<double>(x) * static_cast<double>(x);
        weights.data(p)[r] = static_cast<float>(std::sqrt(squares));
      }
    });
    ++p;
  }
}

// A = [A0; A0] and B = [B0, -B0], so that nothing is changed yet.
void Lora::begin_at_components(const ops::Adapter& adapter, std::size_t p, ops::ParameterBuffer& weights,
                               const kernels::Kernels& kernels, base::ThreadPool& pool) const {
  const ops::Matrix matrix(base_[static_cast<std::size_t>(adapter.target.id)]);
  const std::int64_t rows = matrix.stored.shape[0], columns = matrix.stored.shape[1], rank = config_.lora->rank;
  std::vector<float> w(static_cast<std::size_t>(rows * columns)), b(static_cast<std::size_t>(rows * rank));
  constexpr std::int64_t kRows = 16;
  pool.parallel_for(rows, kRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) ops::matrix_row(matrix, r, columns, w.data() + r * columns);
  });
  const std::span<float> a = weights.tensor(p);
  const auto half = static_cast<std::size_t>(rank * columns);
  largest_components(w.data(), rows, columns, rank, config_.seed + p, kernels, pool,
                     a.first(half), b);
  const auto root = static_cast<float>(1 / std::sqrt(static_cast<double>(adapter.scale)));  // scale * B A is what W has
  for (std::size_t i = 0; i < half; ++i) a[half + i] = a[i] *= root;
  float* both = weights.data(p + 1);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < rank; ++i) {
      const float x = root * b[static_cast<std::size_t>(r * rank + i)];
      both[r * 2 * rank + i] = x;
      both[r * 2 * rank + rank + i] = -x;
    }
}

void Lora::mask(ops::ParameterBuffer& gradients) const {
  if (!config_.lora->pissa) return;
  const std::int64_t rank = config_.lora->rank;
  for (std::size_t p = base_.size(); p < base_.size() + shapes_.size(); p += 2) {
    const auto a = gradients.tensor(p);
    std::fill(a.begin() + static_cast<std::ptrdiff_t>(a.size() / 2), a.end(), 0.0f);
    const std::int64_t rows = gradients.shape(p + 1)[0];
    for (std::int64_t r = 0; r < rows; ++r) std::fill_n(gradients.data(p + 1) + (2 * r + 1) * rank, rank, 0.0f);
  }
}

Status Lora::write(const ops::ParameterBuffer& weights, const std::filesystem::path& folder) const {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) return fail(ErrorKind::kFailed, folder.string() + ": cannot create: " + code.message());
  const LoraConfig& lora = *config_.lora;
  json::Object config;
  config.set("peft_type", "LORA");
  config.set("task_type", "CAUSAL_LM");
  config.set("base_model_name_or_path", config_.init_from);
  config.set("r", whole_rank());
  config.set("lora_alpha", lora.alpha * (!lora.pissa ? 1 : lora.rslora ? std::numbers::sqrt2 : 2));  // the same scale
  config.set("lora_dropout", 0.0);
  config.set("use_rslora", lora.rslora);
  config.set("use_dora", lora.dora);
  config.set("bias", "none");
  config.set("fan_in_fan_out", false);
  config.set("init_lora_weights", true);
  config.set("inference_mode", true);
  json::Array targets;
  for (const std::string& target : targets_) targets.emplace_back(target);
  config.set("target_modules", std::move(targets));
  json::WriteStyle style;
  style.indent = 2;
  QW_TRY(base::write_file_atomically(folder / "adapter_config.json",
                                     json::dump(json::Value(std::move(config)), style) + "\n"));
  std::vector<NamedTensor> tensors;
  for (std::size_t i = 0; i < names_.size(); ++i)
    tensors.push_back({names_[i], shapes_[i], weights.data(base_.size() + i)});
  // The weights come last: a folder that has them is complete.
  return write_tensors(folder / "adapter_model.safetensors", tensors, {{"format", "pt"}});
}

}  // namespace qw::train
