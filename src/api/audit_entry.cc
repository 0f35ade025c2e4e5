#include "api/audit_entry.h"

#include "base/clock.h"
#include "base/decimal.h"
#include "base/log.h"
#include "governance/audit/audit_log.h"
#include "governance/audit/content_keys.h"
#include "governance/policy/policy.h"
#include "store/store.h"

namespace qw::api {
namespace {

// Ids as four bytes each, lowest first.
std::string bytes_of(std::span<const engine::TokenId> ids) {
  std::string out;
  for (const engine::TokenId id : ids)
    for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(static_cast<std::uint32_t>(id) >> shift & 255);
  return out;
}

json::Value number(float x) { return json::python_float(base::shortest(x)); }

}  // namespace

ContentKept content_of(const Exchange& exchange) {
  const governance::Policy* policy = exchange.policy();
  if (policy == nullptr || policy->profile().content == "hashed") return ContentKept::kHashed;
  return policy->profile().content == "encrypted" ? ContentKept::kEncrypted : ContentKept::kDropped;
}

bool keeps_content(const Exchange& exchange) {
  return exchange.audit() != nullptr && exchange.content_keys() != nullptr && exchange.who() != nullptr &&
         content_of(exchange) == ContentKept::kEncrypted;
}

json::Object audit_entry(const char* type, const Exchange& exchange, const ServedModel& model,
                         std::span<const std::vector<engine::TokenId>> prompts) {
  json::Object entry{
      {"type", type}, {"request", exchange.request_id()}, {"path", exchange.path()}, {"model", model.id}};
  if (!model.base.empty()) entry.set("base_model", model.base);
  if (const auto& who = exchange.who()) {
    entry.set("organisation", who->organisation_id);
    entry.set("project", who->key.project_id);
    entry.set("key", who->key.id);
  }
  if (const governance::Policy* policy = exchange.policy(); policy != nullptr) entry.set("policy", policy->hash());
  if (const auto& identity = model.identity; identity != nullptr) {
    entry.set("model_sha256", identity->model);
    if (!identity->adapter.empty()) entry.set("adapter_sha256", identity->adapter);
    if (!identity->chat_template.empty()) entry.set("template_sha256", identity->chat_template);
    entry.set("compute", identity->compute);
  }
  const bool keeps_hashes = content_of(exchange) != ContentKept::kDropped;
  json::Array hashes;
  std::int64_t tokens = 0;
  for (const auto& ids : prompts) {
    if (keeps_hashes) hashes.emplace_back(concealed(exchange, bytes_of(ids)));
    tokens += static_cast<std::int64_t>(ids.size());
  }
  if (keeps_hashes)
    entry.set("prompts_hmac", std::move(hashes));
  else
    entry.set("content", "dropped");
  entry.set("prompt_tokens", tokens);
  return entry;
}

void add_sampling(json::Object& entry, const sampling::SamplingParams& p) {
  json::Object drawn{{"temperature", number(p.temperature)},
                     {"top_k", p.top_k},
                     {"top_p", number(p.top_p)},
                     {"min_p", number(p.min_p)}};
  if (p.repetition_penalty != 1) drawn.set("repetition_penalty", number(p.repetition_penalty));
  if (p.presence_penalty != 0) drawn.set("presence_penalty", number(p.presence_penalty));
  if (p.frequency_penalty != 0) drawn.set("frequency_penalty", number(p.frequency_penalty));
  drawn.set("seed", std::to_string(p.seed));
  entry.set("sampling", std::move(drawn));
}

void add_usage(json::Object& entry, const store::Tokens& used, const std::string& outcome) {
  entry.set(
      "used",
      json::Object{
          {"prompt", used.prompt}, {"cached", used.cached}, {"reasoning", used.reasoning}, {"output", used.output}});
  entry.set("outcome", outcome);
}

void set_concealed(json::Object& entry, const char* name, const Exchange& exchange, std::string_view text) {
  if (content_of(exchange) != ContentKept::kDropped) entry.set(name, concealed(exchange, text));
}

std::string concealed(const Exchange& exchange, std::string_view text) {
  const auto& who = exchange.who();
  return governance::to_hex(
      exchange.audit()->key().conceal(who == nullptr ? std::string(text) : who->salt + std::string(text)));
}

store::Content seal(const Exchange& exchange, const json::Object& content, json::Object& entry) {
  constexpr std::int64_t kDayUs = 86'400'000'000;
  store::Content out;
  out.id = new_id("cnt_");
  out.project_id = exchange.who()->key.project_id;
  out.user_id = exchange.who()->key.user_id;
  const std::int64_t days = exchange.policy()->profile().content_days;
  if (days > 0) out.expires_us = base::unix_us() + days * kDayUs;
  governance::Sealed sealed = exchange.content_keys()->seal(out.id, json::dump(content, json::WriteStyle::compact()));
  out.key_id = std::move(sealed.key_id);
  out.wrapped = std::move(sealed.wrapped);
  out.body = std::move(sealed.body);
  json::Object kept{{"id", out.id}, {"sha256", governance::to_hex(governance::sha256(out.body))}};
  if (days > 0) kept.set("expires", out.expires_us / 1'000'000);
  entry.set("content", std::move(kept));
  return out;
}

void keep(const Exchange& exchange, json::Object entry, std::function<void(Status)> then) {
  if (entry.empty()) return then({});
  keep_made(
      exchange, [entry = std::move(entry)]() mutable { return std::move(entry); }, std::move(then));
}

void keep_made(const Exchange& exchange, std::function<json::Object()> make, std::function<void(Status)> then) {
  exchange.audit()->append_made(std::move(make), [then = std::move(then)](const Status& kept) {
    if (!kept) base::log_error("audit log: " + kept.error().message);
    then(kept);
  });
}

ApiError not_kept() {
  return {500, "server_error", "The audit log cannot be written; this answer was not given.", "", "audit_unavailable"};
}

}  // namespace qw::api
