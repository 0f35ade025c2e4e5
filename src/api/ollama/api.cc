#include "api/ollama/api.h"

#include <cstdio>

#include "api/auth.h"
#include "api/generation/launch.h"
#include "api/ollama/request.h"
#include "api/ollama/writer.h"
#include "api/row_tasks.h"
#include "base/sha256.h"

namespace qw::api::ollama {
namespace {

// The release whose wire this follows: clients ask, and leave out what older ones had not.
constexpr const char* kFollows = "0.34.0";
// When a model that is loaded goes: not by time. (The protocol has no word for that; clients read a moment, and one whose year
// is beyond 9999 in their own hours is an error to some.)
constexpr const char* kNever = "9999-01-01T00:00:00Z";

json::Array capabilities(const ServedModel& model) {
  json::Array out;
  if (model.engine != nullptr && model.engine->generates()) out.emplace_back("completion");
  if (model.chat_template != nullptr) out.emplace_back("tools");
  if (model.thinks) out.emplace_back("thinking");
  if (model.embedding) out.emplace_back("embedding");
  if (model.tokenizer != nullptr && model.tokenizer->find("<|fim_middle|>")) out.emplace_back("insert");
  return out;
}

// "7.5M", "30.5B".
std::string in_short(std::int64_t count) {
  const auto scaled = [count](double unit, const char* letter) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f%s", static_cast<double>(count) / unit, letter);
    return std::string(text);
  };
  if (count <= 0) return "";
  return count >= 1'000'000'000 ? scaled(1e9, "B") : count >= 1'000'000 ? scaled(1e6, "M") : scaled(1e3, "K");
}

std::string in_capitals(std::string text) {
  for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return text;
}

// What is known of a model: of one that is not loaded little more than its name. The digest is of the name.
json::Object entry(const ServedModel& model, const ModelFacts& facts) {
  return {{"name", model.id},
          {"model", model.id},
          {"modified_at", timestamp(model.created)},
          {"size", facts.bytes},
          {"digest", base::sha256_hex(model.id)},
          {"details",
           json::Object{
               {"parent_model", model.base},
               {"format", facts.format},
               {"family", facts.architecture},
               {"families", facts.architecture.empty() ? json::Value() : json::Value(json::Array{facts.architecture})},
               {"parameter_size", in_short(facts.parameters)},
               {"quantization_level", in_capitals(facts.weights)}}}};
}

void list(const ModelList& models, Exchange& exchange, bool loaded_only) {
  json::Array out;
  for (const ModelEntry& model : models.all()) {
    const ModelLease loaded = loaded_now(model);
    if (!may_use(exchange, *model) || (loaded_only && loaded == nullptr)) continue;
    json::Object one = entry(*model, loaded != nullptr ? loaded->facts : ModelFacts());
    if (loaded != nullptr) one.set("capabilities", capabilities(*loaded));
    if (loaded_only) one.set("expires_at", kNever);
    if (loaded_only) one.set("size_vram", 0);  // all of it is in the machine's own memory
    if (loaded_only) one.set("context_length", loaded->engine->max_sequence_tokens());
    out.push_back(std::move(one));
  }
  exchange.send_json(200, json::Object{{"models", std::move(out)}});
}

}  // namespace

json::Value error_body(const ApiError& error, const std::string&) { return json::Object{{"error", error.message}}; }

bool Api::speaks(const net::Request& request) {
  return request.path.starts_with("/api/") && !request.path.starts_with("/api/v1/");
}

bool Api::handle(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  if (!speaks(http)) return false;
  const std::string route = http.path.substr(5);
  const bool reads = route == "tags" || route == "ps" || route == "version";
  const bool manages = route == "pull" || route == "push" || route == "create" || route == "copy" || route == "delete";
  if (manages) {
    exchange->send_error({501, "invalid_request_error", "Models are managed by the program: qianwen models pull, rm.",
                          "", "not_supported"});
    return true;
  }
  const bool known =
      reads || route == "chat" || route == "generate" || route == "embed" || route == "embeddings" || route == "show";
  if (!known) return false;
  if (!only(reads ? "GET" : "POST", http, *exchange)) return true;
  if (route == "version") exchange->send_json(200, json::Object{{"version", kFollows}});
  if (route == "tags" || route == "ps") list(models_, *exchange, route == "ps");
  if (route == "show") show(http, exchange);
  if (route == "chat") chat(http, exchange);
  if (route == "generate") generate(http, exchange);
  if (route == "embed" || route == "embeddings") embed(http, exchange, route == "embeddings");
  return true;
}

void Api::chat(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  const auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto request = read_chat(*body);
  if (!request) return exchange->send_error(request.error());
  if (request->messages.empty()) {  // only to be loaded
    const auto model = allowed_model(*exchange, models_, request->model);
    if (!model) return exchange->send_error(model.error());
    return with_model(*model, exchange, [exchange](const ModelLease& loaded) {
      exchange->send_json(200, json::Object{{"model", loaded->id},
                                            {"created_at", timestamp()},
                                            {"message", json::Object{{"role", "assistant"}, {"content", ""}}},
                                            {"done", true},
                                            {"done_reason", "load"}});
    });
  }
  const WriterOptions options{true, request->logprobs};
  start_chat(models_, exchange, std::move(*request),
             [exchange, options](const LaunchedPrompts&) { return make_writer(exchange, options); });
}

void Api::generate(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  const auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto request = read_generate(*body);
  if (!request) return exchange->send_error(request.error());
  const bool logprobs = (request->chat && request->chat->logprobs) || (request->text && request->text->logprobs);
  const auto writer = [exchange, logprobs](const LaunchedPrompts&) { return make_writer(exchange, {false, logprobs}); };
  if (request->chat) return start_chat(models_, exchange, std::move(*request->chat), writer);
  if (request->text) return start_text(models_, exchange, std::move(*request->text), writer);
  const auto model = allowed_model(*exchange, models_, request->model);
  if (!model) return exchange->send_error(model.error());
  with_model(*model, exchange, [exchange](const ModelLease& loaded) {
    exchange->send_json(200, json::Object{{"model", loaded->id},
                                          {"created_at", timestamp()},
                                          {"response", ""},
                                          {"done", true},
                                          {"done_reason", "load"}});
  });
}

void Api::show(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const {
  const auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  const auto name = read_show(*body);
  if (!name) return exchange->send_error(name.error());
  const auto model = allowed_model(*exchange, models_, *name);
  if (!model) return exchange->send_error(model.error());
  with_model(*model, exchange, [exchange, base = (*model)->base](const ModelLease& loaded) {
    const ModelFacts& facts = loaded->facts;
    json::Object out = entry(*loaded, facts);
    out.set("parameters", "");
    out.set("capabilities", capabilities(*loaded));
    json::Object info{{"general.basename", base.empty() ? loaded->id : base},
                      {"context_length", loaded->engine->max_sequence_tokens()},
                      {"vocab_size", loaded->engine->vocab()}};
    if (!facts.architecture.empty()) {  // under the names that clients look for
      info.set("general.architecture", facts.architecture);
      info.set("general.parameter_count", facts.parameters);
      info.set(facts.architecture + ".context_length", loaded->engine->max_sequence_tokens());
    }
    out.set("model_info", std::move(info));
    exchange->send_json(200, out);
  });
}

void Api::embed(const net::Request& http, const std::shared_ptr<Exchange>& exchange, bool one) const {
  const auto body = parse_body(http);
  if (!body) return exchange->send_error(body.error());
  auto request = read_embed(*body, one);
  if (!request) return exchange->send_error(request.error());
  start_embedding(models_, exchange, std::move(*request), {one ? "prompt" : "input", "dimensions"},
                  [one](const std::string& model, const RowResults& results) -> json::Value {
                    if (one) return json::Object{{"embedding", numbers(results.values[0])}};
                    json::Array rows;
                    for (const auto& values : results.values) rows.emplace_back(numbers(values));
                    return json::Object{{"model", model},
                                        {"embeddings", std::move(rows)},
                                        {"prompt_eval_count", results.prompt_tokens}};
                  });
}

}  // namespace qw::api::ollama
