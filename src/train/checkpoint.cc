// Checkpoints: one safetensors file with weights, moments and (with ema) the average, and the rest of the state as
// JSON in its metadata. Random draws are functions of (seed, position), so the data cursor and the step are all of it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>

#include "base/file.h"
#include "formats/embedding_config.h"
#include "models/load.h"
#include "tensor/blocks.h"
#include "tokenizer/retrieval_prompt.h"
#include "train/internal/moments.h"
#include "train/internal/state.h"
#include "train/internal/tensor_file.h"

namespace qw::train {
namespace {

constexpr const char* kFormat = "qianwen-checkpoint-1";
constexpr std::string_view kPrefix = "step-", kSuffix = ".safetensors";

// What must be equal for a resumed run to be the same run.
json::Object identity(const TrainConfig& config, const models::Model& model, const Lora* lora,
                      const data::Dataset& dataset, const Method& method) {
  json::Object o;
  o.set("model", model.hf_config());
  if (lora != nullptr) {
    o.set("lora", to_json(*config.lora));
    o.set("base_sha256", lora->fingerprint());
  }
  o.set("tokenizer_sha256", dataset.tokenizer_hash);
  o.set("ledger_sha256", dataset.ledger_sha256);
  o.set("seed", config.seed);
  o.set("sequence_length", config.sequence_length);
  o.set("batch_sequences", config.batch_sequences);
  o.set("accumulation", config.accumulation);
  o.set("precision", config.precision == Precision::kBf16 ? "bf16" : "f32");
  if (config.half_activations) o.set("activations", "bf16");
  static constexpr const char* kKinds[] = {"adamw", "muon", "sgd", "adafactor", "adamw_8bit"};
  o.set("optimizer.kind", kKinds[static_cast<std::size_t>(config.optimizer.kind)]);
  o.set("ema", config.ema);
  if (config.parallel.parts > 1) o.set("parallel.parts", config.parallel.parts);
  for (const auto& [key, value] : method.identity()) o.set(key, value);
  return o;
}

Result<std::string> state_text(const formats::Safetensors& file, const std::filesystem::path& path) {
  const json::Value *format = file.metadata().find("format"), *state = file.metadata().find("state");
  if (format == nullptr || !format->is_string() || format->as_string() != kFormat || state == nullptr ||
      !state->is_string())
    return fail(ErrorKind::kBadInput, path.string() + ": not a training checkpoint of this program");
  return std::string(state->as_string());
}

Result<json::Value> parse_state(const std::string& text, const std::filesystem::path& path) {
  auto parsed = json::parse(text);
  if (!parsed) return in_context(path.string() + ": state", std::move(parsed).error());
  for (const char* key : {"step", "tokens", "epoch", "sequence"}) {
    const json::Value* v = parsed->find(key);
    if (v == nullptr || !v->is_int() || v->as_int() < 0)
      return fail(ErrorKind::kBadInput, path.string() + ": state lacks " + key);
  }
  const json::Value* same = parsed->find("identity");
  if (same == nullptr || !same->is_object()) return fail(ErrorKind::kBadInput, path.string() + ": state lacks identity");
  return parsed;
}

Status read_codes(const formats::Safetensors& file, const std::string& name, std::span<std::byte> out) {
  QW_ASSIGN(const tensor::ConstView view, file.tensor(name));
  if (view.dtype != tensor::DType::kU8 || view.shape != tensor::Shape{static_cast<std::int64_t>(out.size())})
    return fail(ErrorKind::kBadInput, file.path().string() + ": " + name + " is not a list of " + std::to_string(out.size()) + " bytes");
  std::memcpy(out.data(), view.data, out.size());
  return {};
}

Status check_identity(const json::Object& ours, const json::Value& theirs, const std::filesystem::path& path) {
  const auto differs = [&](const std::string& key) {
    return fail(ErrorKind::kUsage, path.string() + ": cannot go on from here, " + key + " differs from the configuration");
  };
  for (const auto& [key, value] : ours) {
    const json::Value* other = theirs.find(key);
    if (other == nullptr || json::dump(*other) != json::dump(value)) return differs(key);
  }
  // What only the checkpoint names, the recipe has dropped: a teacher, parts, activations of another kind.
  for (const auto& [key, value] : theirs.as_object())
    if (ours.find(key) == nullptr) return differs(key);
  return {};
}

// Reads tensors of a file that rank 0 has, for all.
struct Reader {
  const formats::Safetensors* file;  // at rank 0
  Communicator* ranks;               // null: alone

  Status floats(const std::string& name, const tensor::Shape& shape, float* out) const {
    if (file != nullptr) QW_TRY(read_tensor(*file, name, shape, out));
    return hand_out(std::as_writable_bytes(std::span(out, static_cast<std::size_t>(shape.elements()))));
  }
  Status codes(const std::string& name, std::span<std::byte> out) const {
    if (file != nullptr) QW_TRY(read_codes(*file, name, out));
    return hand_out(out);
  }

 private:
  Status hand_out(std::span<std::byte> bytes) const { return ranks != nullptr ? ranks->broadcast(bytes) : Status{}; }
};

constexpr std::pair<Moment, const char*> kFloatMoments[] = {{Moment::kFirst, "m."}, {Moment::kSecond, "v."}};
constexpr std::pair<Moment, const char*> kCodeMoments[] = {{Moment::kFirstCodes, "m8."}, {Moment::kSecondCodes, "v8."}};

// Of a parameter that is cut, this process's slice; the whole is dropped.
Status read_slice(const Reader& from, const std::string& name, const TensorGroup& group, std::size_t p, float* out) {
  std::vector<float> whole(static_cast<std::size_t>(group.whole(p).elements()));
  QW_TRY(from.floats(name, group.whole(p), whole.data()));
  group.take(p, whole.data(), out);
  return {};
}

Status read_moment(const Reader& from, const std::string& name, const TensorGroup* group, GradientSum& share,
                   Optimizer& optimizer, Moment moment, std::size_t p) {
  const tensor::Shape shape = whole_shape(optimizer, moment, p);
  if (shape.elements() == 0) return {};
  if (group != nullptr && group->cuts(p)) {
    std::vector<float> slice(static_cast<std::size_t>(shape.elements()));
    QW_TRY(read_slice(from, name, *group, p, slice.data()));
    const auto bytes = std::as_bytes(std::span(slice));
    if (share.owned().empty()) std::copy(bytes.begin(), bytes.end(), held(optimizer, moment, p).begin());
    else take_share(share, optimizer, moment, p, bytes);
    return {};
  }
  const bool codes = moment == Moment::kFirstCodes || moment == Moment::kSecondCodes;
  const bool whole = share.owned().empty();
  std::vector<float> room(whole ? 0 : static_cast<std::size_t>(codes ? (shape.elements() + 3) / 4 : shape.elements()));
  const std::span<std::byte> own = held(optimizer, moment, p);
  float* const floats = whole ? reinterpret_cast<float*>(own.data()) : room.data();
  const std::span<std::byte> bytes = whole ? own : std::as_writable_bytes(std::span(room)).first(static_cast<std::size_t>(shape.elements()) * (codes ? 1 : 4));
  QW_TRY(codes ? from.codes(name, bytes) : from.floats(name, shape, floats));
  if (!whole) take_share(share, optimizer, moment, p, bytes);
  return {};
}

std::vector<std::byte> as_bf16(std::span<const std::byte> floats) {
  std::vector<std::byte> out(floats.size() / 2);
  const auto* const from = reinterpret_cast<const float*>(floats.data());
  auto* const to = reinterpret_cast<std::uint16_t*>(out.data());
  for (std::size_t i = 0; i < out.size() / sizeof(std::uint16_t); ++i) to[i] = tensor::f32_to_bf16(from[i]);
  return out;
}

// The newest checkpoint, as rank 0 sees it; empty: none.
Result<std::filesystem::path> newest_checkpoint(const std::filesystem::path& output, Communicator* ranks) {
  std::string path;
  if (ranks == nullptr || ranks->rank() == 0) {
    if (const auto found = list_checkpoints(output); !found.empty()) path = found.back().string();
  }
  if (ranks != nullptr) QW_TRY(broadcast(*ranks, path));
  return std::filesystem::path(path);
}

// Checkpoints of before operations were counted have none: then it is known that they are not.
void read_flops(const json::Value& state, std::int64_t step, double& learning, double& evaluation,
                std::int64_t& uncounted) {
  const json::Value* flops = state.find("flops");
  const auto number = [&](const char* key) {
    const json::Value* found = flops == nullptr ? nullptr : flops->find(key);
    const bool good = found != nullptr && found->is_number() && std::isfinite(found->as_double());
    return good ? std::optional(found->as_double()) : std::nullopt;
  };
  const auto of_learning = number("learning"), of_evaluation = number("evaluation");
  learning = of_learning.value_or(0);
  evaluation = of_evaluation.value_or(0);
  const json::Value* missing = state.find("uncounted_steps");
  uncounted = !of_learning                                  ? step
              : missing != nullptr && missing->is_int()     ? missing->as_int()
                                                            : 0;
}

}  // namespace

std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& output) {
  std::vector<std::filesystem::path> found;
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator(output / "checkpoints", code)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(kSuffix)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());  // numbers are padded to one width
  return found;
}

// What is cut, of processes that have a copy of the model among them, those around rank 0 put together there.
Status Trainer::State::join(std::span<const float> own, std::size_t p, std::vector<std::byte>& whole) {
  return group->tells() ? group->join(p, own, whole) : Status{};
}

// First of those who have shares of a slice, then of those who have slices.
Status Trainer::State::whole_moment(Moment moment, std::size_t p, std::vector<std::byte>& whole) {
  if (!cut(p) && group != nullptr && group->row().rank() > 0) return {};  // all columns have the same
  std::vector<std::byte> slice;
  if (!share->owned().empty()) QW_TRY(collect(*share, *optimizer, moment, p, cut(p) ? slice : whole));
  if (!cut(p)) return {};
  const std::span<const std::byte> bytes = share->owned().empty() ? held(*optimizer, moment, p) : std::span(slice);
  return join({reinterpret_cast<const float*>(bytes.data()), bytes.size() / sizeof(float)}, p, whole);
}

Status Trainer::save_checkpoint(const std::filesystem::path& path) {
  State& s = *state_;
  std::vector<NamedTensor> tensors;
  const auto add = [&](const char* kind, const ops::ParameterBuffer& buffer) {
    for (std::size_t i = 0; i < buffer.size(); ++i)
      if (buffer.elements(i) > 0) {
        tensors.push_back({kind + s.name(i), s.whole_shape(i), buffer.data(i)});
        if (s.cut(i)) tensors.back().made = [&s, &buffer, i](auto& whole) { return s.join(buffer.tensor(i), i, whole); };
      }
  };
  add("weight.", s.weights);
  const auto add_moment = [&](Moment moment, const char* kind, std::size_t i, tensor::DType type) {
    const tensor::Shape shape = whole_shape(*s.optimizer, moment, i);
    if (shape.elements() == 0) return;
    tensors.push_back(
        {kind + s.name(i), s.cut(i) ? s.whole_shape(i) : shape, nullptr, type, held(*s.optimizer, moment, i)});
    if (!s.share->owned().empty() || s.cut(i))
      tensors.back().made = [&s, moment, i](std::vector<std::byte>& whole) { return s.whole_moment(moment, i, whole); };
  };
  for (const auto& [moment, kind] : kFloatMoments)
    for (std::size_t i = 0; i < s.weights.size(); ++i) add_moment(moment, kind, i, tensor::DType::kF32);
  for (std::size_t i = 0; i < s.weights.size(); ++i)
    for (const auto& [moment, kind] : kCodeMoments) add_moment(moment, kind, i, tensor::DType::kU8);
  if (s.has_average()) add("average.", s.average);
  if (!s.leads()) {
    std::vector<std::byte> none;
    for (const NamedTensor& tensor : tensors)
      if (tensor.made) QW_TRY(tensor.made(none));
    return {};
  }
  std::error_code code;
  std::filesystem::create_directories(path.parent_path(), code);
  if (code) return fail(ErrorKind::kFailed, path.parent_path().string() + ": cannot create: " + code.message());
  json::Object state;
  state.set("step", s.step);
  state.set("tokens", s.tokens);
  state.set("epoch", s.method->cursor().epoch);
  state.set("sequence", s.method->cursor().sequence);
  if (s.since_best > 0) state.set("since_best", s.since_best);
  if (s.config.rollback.most > 0 && s.mean_loss) state.set("mean_loss", *s.mean_loss);
  if (s.best_loss < std::numeric_limits<double>::infinity()) state.set("best_loss", s.best_loss);
  state.set("flops", json::Object{{"learning", s.learning_flops}, {"evaluation", s.evaluation_flops}});
  if (s.uncounted_steps > 0) state.set("uncounted_steps", s.uncounted_steps);
  if (auto kept = s.method->state(); !kept.empty()) state.set("method", std::move(kept));
  state.set("identity", identity(s.config, s.model(), s.lora.get(), s.dataset, *s.method));
  state.set("config", s.config.source);
  return write_tensors(path, tensors, {{"format", kFormat}, {"state", json::dump(json::Value(std::move(state)))}});
}

Status Trainer::load_checkpoint(const std::filesystem::path& path) {
  State& s = *state_;
  std::optional<formats::Safetensors> file;
  std::string text;
  if (s.leads()) {
    QW_ASSIGN(file, formats::Safetensors::open(path));
    QW_ASSIGN(text, state_text(*file, path));
  }
  if (!s.alone()) QW_TRY(broadcast(*s.ranks, text));
  QW_ASSIGN(const auto state, parse_state(text, path));
  QW_TRY(check_identity(identity(s.config, s.model(), s.lora.get(), s.dataset, *s.method), *state.find("identity"), path));
  const Reader from{file ? &*file : nullptr, s.alone() ? nullptr : s.ranks};
  const auto load = [&](const char* kind, ops::ParameterBuffer& buffer) -> Status {
    for (std::size_t i = 0; i < buffer.size(); ++i)
      if (s.cut(i)) QW_TRY(read_slice(from, kind + s.name(i), *s.group, i, buffer.data(i)));
      else if (buffer.elements(i) > 0) QW_TRY(from.floats(kind + s.name(i), buffer.shape(i), buffer.data(i)));
    return {};
  };
  QW_TRY(load("weight.", s.weights));
  for (const auto& moments : {kFloatMoments, kCodeMoments})
    for (std::size_t k = 0; k < 2; ++k)
      for (std::size_t i = 0; i < s.weights.size(); ++i)
        QW_TRY(read_moment(from, moments[k].second + s.name(i), s.group.get(), *s.share, *s.optimizer, moments[k].first, i));
  if (s.has_average()) QW_TRY(load("average.", s.average));
  const data::Cursor cursor{static_cast<std::uint64_t>(state.find("epoch")->as_int()), state.find("sequence")->as_int()};
  QW_TRY(s.method->open(cursor));
  if (const json::Value* kept = state.find("method"); kept != nullptr) {
    if (auto status = s.method->restore(*kept); !status) return in_context(path.string(), std::move(status).error());
  }
  s.step = state.find("step")->as_int();
  s.tokens = state.find("tokens")->as_int();
  read_flops(state, s.step, s.learning_flops, s.evaluation_flops, s.uncounted_steps);
  const json::Value* best = state.find("best_loss");
  const json::Value* since = state.find("since_best");
  s.since_best = since != nullptr && since->is_int() ? since->as_int() : 0;
  const json::Value* mean = state.find("mean_loss");
  s.mean_loss.reset();
  if (mean != nullptr && mean->is_number()) s.mean_loss = mean->as_double();
  s.best_loss = best != nullptr && best->is_number() ? best->as_double() : std::numeric_limits<double>::infinity();
  return {};
}

Status Trainer::resume() {
  QW_ASSIGN(const auto newest, newest_checkpoint(state_->config.output, state_->alone() ? nullptr : state_->ranks));
  if (newest.empty())
    return fail(ErrorKind::kUsage, (state_->config.output / "checkpoints").string() + ": no checkpoint to resume from");
  return load_checkpoint(newest);
}

Status Trainer::save_numbered(const Callbacks& callbacks) {
  State& s = *state_;
  char number[24];
  std::snprintf(number, sizeof(number), "%010lld", static_cast<long long>(s.step));
  const auto path = s.config.output / "checkpoints" / (std::string(kPrefix) + number + std::string(kSuffix));
  QW_TRY(save_checkpoint(path));
  s.rollbacks = 0;
  if (!s.leads()) return {};
  auto found = list_checkpoints(s.config.output);
  for (std::size_t i = 0; i + static_cast<std::size_t>(s.config.checkpoint.keep) < found.size(); ++i) {
    std::error_code code;
    std::filesystem::remove(found[i], code);  // one too many is no reason to stop training
  }
  if (callbacks.on_checkpoint) callbacks.on_checkpoint(path);
  return {};
}

// The same data and weights would break again, so the data behind the checkpoint are left out up to here. A run that is
// interrupted before its next checkpoint breaks at the same place again, and goes the same way.
Status Trainer::roll_back(const StepRecord& broken, const Callbacks& callbacks) {
  State& s = *state_;
  QW_ASSIGN(const auto newest, newest_checkpoint(s.config.output, s.alone() ? nullptr : s.ranks));
  char what[120];
  std::snprintf(what, sizeof(what), "step %lld: loss %g, gradient norm %g", static_cast<long long>(broken.step), broken.loss,
                broken.grad_norm);
  if (newest.empty()) return fail(ErrorKind::kFailed, std::string(what) + ", and there is no checkpoint to go back to yet");
  if (s.rollbacks >= s.config.rollback.most)
    return fail(ErrorKind::kFailed, std::string(what) + ", after " + std::to_string(s.rollbacks) + " times back to " +
                                        newest.filename().string() + "; lower optimizer.lr");
  const std::int64_t rollbacks = s.rollbacks + 1;
  const data::Cursor behind = s.method->cursor();
  const double best = s.best_loss;  // best.safetensors may be of an evaluation after the checkpoint
  QW_TRY(load_checkpoint(newest));
  QW_TRY(s.method->open(behind));
  s.best_loss = std::min(best, s.best_loss);
  s.rollbacks = rollbacks;
  if (callbacks.on_rollback) callbacks.on_rollback({broken.step, s.step, broken.loss, broken.grad_norm});
  return {};
}

Status Trainer::export_model(const std::filesystem::path& folder) {
  State& s = *state_;
  if (!s.leads()) {
    std::vector<std::byte> none;
    for (std::size_t i = 0; i < s.weights.size(); ++i)
      if (s.cut(i)) QW_TRY(s.join(s.served_weights().tensor(i), i, none));
    return {};
  }
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) return fail(ErrorKind::kFailed, folder.string() + ": cannot create: " + code.message());
  const auto type = s.config.export_type == ExportType::kBf16 ? tensor::DType::kBF16 : tensor::DType::kF32;
  std::vector<NamedTensor> tensors;
  const auto& weights = s.served_weights();
  std::vector<tensor::ConstView> views;
  for (std::size_t i = 0; i < weights.size(); ++i)
    views.push_back({tensor::DType::kF32, s.whole_shape(i), s.cut(i) ? nullptr : reinterpret_cast<const std::byte*>(weights.data(i))});
  QW_ASSIGN(const models::FileTensors there, models::file_tensors(s.model(), views, formats::ModelKind::kHfFolder));
  std::vector<tensor::Buffer> made(there.tensors.size());
  for (std::size_t i = 0; i < made.size(); ++i) {
    const models::FileTensor& t = there.tensors[i];
    if (t.parameter < 0)
      tensors.push_back({t.name, t.shape, nullptr, t.view.dtype, {t.view.data, static_cast<std::size_t>(t.view.bytes())}});
    else if (const auto p = static_cast<std::size_t>(t.parameter); s.cut(p))
      tensors.push_back({t.name, t.shape, nullptr, t.small ? tensor::DType::kF32 : type, {}, [&s, &weights, p, small = t.small, type](auto& whole) -> Status {
                           QW_TRY(s.join(weights.tensor(p), p, whole));
                           if (!small && type == tensor::DType::kBF16) whole = as_bf16(whole);
                           return {};
                         }});
    else tensors.push_back({t.name, t.shape, tensor::in_memory(t.view, made[i]).f32(), t.small ? tensor::DType::kF32 : type, {}});
  }
  json::Object config = s.model().hf_config();
  config.set("torch_dtype", s.config.export_type == ExportType::kBf16 ? "bfloat16" : "float32");
  const auto& spec = s.tokenizer.spec();
  if (spec.eos) config.set("eos_token_id", std::int64_t{*spec.eos});
  const json::Object generation = formats::generation_config_json(s.config.generation);
  json::WriteStyle style;
  style.indent = 2;
  QW_TRY(base::write_file_atomically(folder / "config.json", json::dump(json::Value(config), style) + "\n"));
  QW_TRY(base::write_file_atomically(folder / "generation_config.json", json::dump(json::Value(generation), style) + "\n"));
  QW_TRY(tokenizer::save_tokenizer_folder(spec, folder));  // adds the token ids to generation_config.json
  if (s.config.embedding) {
    const auto& t = s.model().traits();
    QW_TRY(formats::write_embedding_config({true, tokenizer::query_prefix(s.dataset.instruction)}, t.width, t.context, folder));
  }
  // The weights come last: a folder that has them is complete.
  return write_tensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
}

}  // namespace qw::train
