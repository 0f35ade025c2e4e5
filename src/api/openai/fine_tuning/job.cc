#include "api/openai/fine_tuning/job.h"

#include <cmath>
#include <limits>

#include "api/field_reader.h"
#include "api/openai/fine_tuning/preflight.h"
#include "base/clock.h"

namespace qw::api::openai {
namespace {

constexpr std::int64_t kMostEpochs = 50, kMostBatch = 256, kMostSeed = 2147483647;  // as OpenAI has them
constexpr std::int64_t kMostLoraRank = 1024;
constexpr double kLeastBeta = 1e-3, kMostBeta = 2;
constexpr std::size_t kLongestSuffix = 64, kMostMetadata = 16;

std::optional<json::Value> not_auto(FieldReader& in, const char* name) {
  const json::Value* value = in.any(name, R"({"anyOf": [{"const": "auto"}, {"type": "number"}]})");
  if (value == nullptr || *value == json::Value("auto")) return std::nullopt;
  return *value;
}

void read_hyperparameters(FieldReader& outer, const json::Object& object, FineTuneRequest& out) {
  FieldReader in(object);
  if (not_auto(in, "n_epochs")) out.epochs = in.integer("n_epochs", 1, kMostEpochs);
  if (not_auto(in, "batch_size")) out.batch_size = in.integer("batch_size", 1, kMostBatch);
  if (not_auto(in, "learning_rate_multiplier"))
    out.learning_rate_multiplier = in.number("learning_rate_multiplier", 1e-6, 1e6);
  if (out.pairs && not_auto(in, "beta")) out.beta = in.number("beta", kLeastBeta, kMostBeta);
  if (in.any("lora_rank") != nullptr) out.lora_rank = in.integer("lora_rank", 1, kMostLoraRank);
  if (in.error()) outer.reject("hyperparameters." + in.error()->param, in.error()->message);
  for (const std::string& name : in.unknown()) out.ignored.push_back("hyperparameters." + name);
}

void read_method(FieldReader& in, FineTuneRequest& out) {
  if (const json::Object* old = in.object("hyperparameters")) read_hyperparameters(in, *old, out);
  const json::Object* method = in.object(
      "method", R"({"type": "object", "required": ["type"], "properties": {"type": {"enum": ["supervised", "dpo"]}}})");
  if (method == nullptr) return;
  const json::Value value(*method);
  const std::string type = text_member(value, "type");
  if (type != "supervised" && type != "dpo")
    return in.reject("method.type", "Only the methods 'supervised' and 'dpo' are supported.");
  out.pairs = type == "dpo";
  const json::Value* of_method = value.find(type);
  const json::Value* parameters = of_method == nullptr ? nullptr : of_method->find("hyperparameters");
  if (parameters != nullptr && parameters->is_object()) read_hyperparameters(in, parameters->as_object(), out);
}

bool plain_suffix(const std::string& text) {
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
  return text.size() <= kLongestSuffix && text.find_first_not_of(kAllowed) == std::string::npos;
}

template <class T>
json::Value or_auto(const std::optional<T>& value) {
  return value ? json::Value(*value) : json::Value("auto");
}

}  // namespace

ApiResult<FineTuneRequest> read_fine_tune_request(const json::Object& body) {
  FieldReader in(body);
  FineTuneRequest out;
  out.model = in.text("model").value_or("");
  if (out.model.empty()) in.reject("model", "'model' is required.");
  out.training_file = in.text("training_file").value_or("");
  if (out.training_file.empty()) in.reject("training_file", "'training_file' is required.");
  out.validation_file = in.text("validation_file").value_or("");
  out.suffix = in.text("suffix").value_or("");
  if (!plain_suffix(out.suffix)) in.reject("suffix", "'suffix' must be at most 64 letters, digits and -_. characters.");
  out.seed = in.integer("seed", 0, kMostSeed);
  read_method(in, out);
  if (const json::Array* integrations = in.array("integrations", R"({"type": "array", "maxItems": 0})");
      integrations != nullptr && !integrations->empty())
    in.reject("integrations", "'integrations' are not supported.");
  if (const json::Object* metadata = in.object("metadata", R"({"type": "object", "maxProperties": 16})")) {
    if (metadata->size() > kMostMetadata) in.reject("metadata", "'metadata' may have at most 16 keys.");
    out.metadata = *metadata;
  }
  if (in.error()) return tl::unexpected(*in.error());
  for (std::string& name : in.unknown()) out.ignored.push_back(std::move(name));
  return out;
}

std::string fine_tune_spec(const FineTuneRequest& r, const std::string& base, const store::Principal& who) {
  json::Object spec{{"model", base},
                    {"organization_id", who.organisation_id},
                    {"key_id", who.key.id},
                    {"user_id", who.key.user_id},
                    {"training_file", r.training_file},
                    {"validation_file", r.validation_file},
                    {"suffix", r.suffix},
                    {"seed", r.seed ? json::Value(*r.seed) : json::Value()},
                    {"n_epochs", or_auto(r.epochs)},
                    {"batch_size", or_auto(r.batch_size)},
                    {"learning_rate_multiplier", or_auto(r.learning_rate_multiplier)},
                    {"metadata", r.metadata}};
  if (r.lora_rank) spec.set("lora_rank", *r.lora_rank);
  if (r.pairs) {
    spec.set("method", "dpo");
    spec.set("beta", or_auto(r.beta));
  }
  return json::dump(spec);
}

FineTuneAsk fine_tune_ask(const store::Job& job) {
  FineTuneAsk out;
  const auto spec = json::parse(job.spec);
  if (!spec) return out;
  out.job_id = job.id;
  out.project_id = job.project_id;
  out.base = text_member(*spec, "model");
  const std::string suffix = text_member(*spec, "suffix");
  const std::string id = job.id.substr(job.id.find('-') + 1, 8);
  out.name = "ft:" + out.base + ":" + (suffix.empty() ? "" : suffix + ":") + id;
  out.training_file = text_member(*spec, "training_file");
  out.validation_file = text_member(*spec, "validation_file");
  const auto integer = [&](const char* key) -> std::optional<std::int64_t> {
    const json::Value* value = spec->find(key);
    return value != nullptr && value->is_int() ? std::optional(value->as_int()) : std::nullopt;
  };
  out.epochs = integer("n_epochs");
  out.batch_size = integer("batch_size");
  out.lora_rank = integer("lora_rank");
  out.pairs = text_member(*spec, "method") == "dpo";
  if (const json::Value* beta = spec->find("beta"); beta != nullptr && beta->is_number()) out.beta = beta->as_double();
  // Jobs that do not say their seed have one all the same: the same each time they are taken up.
  out.seed = integer("seed").value_or(job.created_us % kMostSeed);
  if (const json::Value* rate = spec->find("learning_rate_multiplier"); rate != nullptr && rate->is_number())
    out.learning_rate_multiplier = rate->as_double();
  return out;
}

store::Asked fine_tune_payer(const store::Job& job) {
  store::Asked out;
  const auto parsed = json::parse(job.spec);
  const json::Value spec = parsed ? *parsed : json::Value(json::Object{});
  out.request_id = job.id;
  out.key_id = text_member(spec, "key_id");
  out.user_id = text_member(spec, "user_id");
  out.project_id = job.project_id;
  out.organisation_id = text_member(spec, "organization_id");
  out.model = text_member(spec, "model");
  return out;
}

json::Object fine_tune_state(const store::Job& job) {
  auto state = json::parse(job.state.empty() ? "{}" : job.state);
  return state && state->is_object() ? std::move(state->as_object()) : json::Object{};
}

json::Value fine_tune_object(const store::Job& job) {
  const auto parsed = json::parse(job.spec);
  const json::Value spec = parsed ? *parsed : json::Value(json::Object{});
  const json::Value state(fine_tune_state(job));
  const auto of = [](const json::Value& from, const char* key) {
    const json::Value* value = from.find(key);
    return value == nullptr ? json::Value() : *value;
  };
  std::string status = job.status;
  if (status == "queued" || status == "running") {
    const std::string phase = text_member(state, "phase");
    status = phase.empty() ? "validating_files" : status == "queued" ? "queued" : phase;
  }
  const bool ended = job.status != "queued" && job.status != "running" && job.status != "paused";
  json::Object hyperparameters{{"n_epochs", of(spec, "n_epochs")},
                               {"batch_size", of(spec, "batch_size")},
                               {"learning_rate_multiplier", of(spec, "learning_rate_multiplier")}};
  if (const json::Value* rank = spec.find("lora_rank")) hyperparameters.set("lora_rank", *rank);
  const bool pairs = text_member(spec, "method") == "dpo";
  json::Object of_method = hyperparameters;
  if (pairs) of_method.set("beta", of(spec, "beta"));
  json::Object method{{"type", pairs ? "dpo" : "supervised"}};
  method.set(pairs ? "dpo" : "supervised", json::Object{{"hyperparameters", std::move(of_method)}});
  const std::string validation = text_member(spec, "validation_file");
  const json::Value results = of(state, "result_files");
  return json::Object{{"id", job.id},
                      {"object", "fine_tuning.job"},
                      {"created_at", job.created_us / base::kSecondUs},
                      {"finished_at", ended ? json::Value(job.changed_us / base::kSecondUs) : json::Value()},
                      {"status", status},
                      {"model", of(spec, "model")},
                      {"fine_tuned_model", of(state, "fine_tuned_model")},
                      {"organization_id", of(spec, "organization_id")},
                      {"training_file", of(spec, "training_file")},
                      {"validation_file", validation.empty() ? json::Value() : json::Value(validation)},
                      {"result_files", results.is_array() ? results : json::Value(json::Array{})},
                      {"trained_tokens", of(state, "trained_tokens")},
                      {"estimated_finish", of(state, "estimated_finish")},
                      {"seed", fine_tune_ask(job).seed},
                      {"method", std::move(method)},
                      {"hyperparameters", hyperparameters},
                      {"integrations", json::Array{}},
                      {"metadata", of(spec, "metadata")},
                      {"error", of(state, "error")},
                      {"validation", check_summary(state.find("validation"))},
                      {"estimate", of(state, "estimate")}};
}

json::Value fine_tune_event(const store::Job& job, const store::JobRecord& record) {
  auto body = json::parse(record.body);
  json::Object out{{"id", "ftevent-" + job.id.substr(job.id.find('-') + 1) + "-" + std::to_string(record.number)},
                   {"object", "fine_tuning.job.event"},
                   {"created_at", record.created_us / base::kSecondUs}};
  if (body && body->is_object())
    for (const auto& [key, value] : body->as_object()) out.set(key, value);
  return out;
}

json::Value fine_tune_checkpoint(const store::Job& job, const store::JobRecord& record) {
  auto body = json::parse(record.body);
  json::Object out{{"id", "ftckpt-" + job.id.substr(job.id.find('-') + 1) + "-" + std::to_string(record.number)},
                   {"object", "fine_tuning.job.checkpoint"},
                   {"created_at", record.created_us / base::kSecondUs},
                   {"fine_tuning_job_id", job.id}};
  if (body && body->is_object())
    for (const auto& [key, value] : body->as_object()) out.set(key, value);
  return out;
}

}  // namespace qw::api::openai
