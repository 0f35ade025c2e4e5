#include "api/auth.h"

#include <algorithm>

#include "api/rollouts/table.h"
#include "api/service_metrics.h"
#include "api/stop_switch.h"
#include "net/ip_range.h"

namespace qw::api {
namespace {

// A client that does not say how long its answer may be should not get a stump because a minute's tokens are nearly
// used: below this it is asked to wait instead.
constexpr std::int64_t kLeastUnstated = 256;

struct Route {
  std::string_view prefix, action;  // an action that ends in a dot is completed by "read" (GET) or "write"
};
// The longest prefix that fits decides. Everything else needs a key and no particular right.
constexpr Route kRoutes[] = {
    {"/v1/chat/completions", "inference"},
    {"/v1/completions", "inference"},
    {"/v1/embeddings", "inference"},
    {"/v1/rerank", "inference"},
    {"/v2/rerank", "inference"},
    {"/rerank", "inference"},
    {"/v1/score", "inference"},
    {"/score", "inference"},
    {"/v1/tokenize", "inference"},
    {"/tokenize", "inference"},
    {"/v1/detokenize", "inference"},
    {"/detokenize", "inference"},
    {"/v1/moderations", "inference"},
    {"/v1/content_provenance", "inference"},
    {"/v1/screen", "screening"},
    {"/v1/models", "models.read"},
    {"/metrics", "metrics.read"},
    {"/admin", "admin"},
    {"/admin/v1/contents", "contents.read"},
    {"/v1/messages", "inference"},
    {"/api/chat", "inference"},
    {"/api/generate", "inference"},
    {"/api/embed", "inference"},
    {"/api/embeddings", "inference"},
    {"/api/show", "models.read"},
    {"/api/tags", "models.read"},
    {"/api/ps", "models.read"},
    {"/api/v1/services", "inference"},
    {"/api/v1/models", "models.read"},
    {"/api/v1/tokenizer", "inference"},
    {"/api/v1/tasks", "inference"},
    {"/api/v1/files", "files."},
    {"/v1/responses", "responses."},
    {"/v1/files", "files."},
    {"/v1/uploads", "files."},
    {"/v1/batches", "batches."},
    {"/v1/fine_tuning", "fine_tuning."},
    {"/v1/usage", "usage.read"},
    {"/v1/feedback", "feedback."},
    {"/v1/reviews", "reviews."},
    {"/v1/datasets", "datasets."},
    {"/v1/lineage", "lineage.read"},
    {"/v1/evaluations", "evaluations."},
    {"/v1/rollouts", "rollouts."},
    {"/v1/complaints", "complaints."},
    {"/v1/my/data", "data."},
};

const Route* find_route(std::string_view path) {
  const Route* best = nullptr;
  for (const Route& route : kRoutes) {
    const std::size_t end = route.prefix.size();
    if (path.size() < end || (path.size() > end && path[end] != '/')) continue;
    if (path.starts_with(route.prefix) && (best == nullptr || route.prefix.size() > best->prefix.size())) best = &route;
  }
  return best;
}

std::string seconds(std::int64_t us) { return std::to_string((us + 999) / 1000) + "ms"; }

void add_rate_headers(Exchange& exchange, const store::Admission& a) {
  const auto add = [&](const char* what, const store::RateState& state) {
    if (state.limit == 0) return;
    exchange.add_header(std::string("x-ratelimit-limit-") + what, std::to_string(state.limit));
    exchange.add_header(std::string("x-ratelimit-remaining-") + what, std::to_string(state.remaining));
    exchange.add_header(std::string("x-ratelimit-reset-") + what, seconds(state.reset_us));
  };
  add("requests", a.requests);
  add("tokens", a.tokens);
}

}  // namespace

std::optional<Secret> secret_of(const net::Headers& headers) {
  constexpr std::string_view kBearer = "bearer ";
  const std::string_view given = net::find_header(headers, "authorization");
  if (given.size() > kBearer.size() &&
      std::equal(kBearer.begin(), kBearer.end(), given.begin(), [](char a, char b) { return a == (b | 0x20); })) {
    std::string_view text = given.substr(kBearer.size());
    while (text.starts_with(' ')) text.remove_prefix(1);
    return Secret{std::string(text), Credential::kKey};
  }
  if (const std::string_view key = net::find_header(headers, "x-api-key"); !key.empty())
    return Secret{std::string(key), Credential::kKey};
  const std::string_view session = cookie_of(headers, "qw_session");
  if (session.empty()) return std::nullopt;
  return Secret{std::string(session), Credential::kSession};
}

std::string_view cookie_of(const net::Headers& headers, std::string_view name) {
  const std::string_view cookies = net::find_header(headers, "cookie");
  for (std::size_t at = 0; at < cookies.size();) {
    const auto end = std::min(cookies.find(';', at), cookies.size());
    std::string_view one = cookies.substr(at, end - at);
    while (one.starts_with(' ')) one.remove_prefix(1);
    if (one.starts_with(name) && one.substr(name.size()).starts_with('=')) return one.substr(name.size() + 1);
    at = end + 1;
  }
  return {};
}

std::string action_of(std::string_view method, std::string_view path) {
  const Route* route = find_route(path);
  if (route == nullptr) return {};
  std::string action(route->action);
  const bool reads = method == "GET" || method == "HEAD";
  if (route->prefix == "/v1/responses" && method == "POST") return "inference";
  if (action.ends_with('.')) action += reads ? "read" : "write";
  return action;
}

std::vector<std::string> all_actions() {
  std::vector<std::string> out;
  for (const Route& route : kRoutes) {
    const std::string action(route.action);
    if (!action.ends_with('.')) {
      out.push_back(action);
      continue;
    }
    out.push_back(action + "read");
    out.push_back(action + "write");
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

bool is_action_pattern(std::string_view pattern) {
  if (pattern == "*") return true;
  const auto actions = all_actions();
  const bool open = pattern.ends_with('*');
  if (open) pattern.remove_suffix(1);
  return std::any_of(actions.begin(), actions.end(),
                     [&](const std::string& one) { return open ? one.starts_with(pattern) : one == pattern; });
}

std::vector<std::string_view> guarded_routes() {
  std::vector<std::string_view> out;
  for (const Route& route : kRoutes) out.push_back(route.prefix);
  return out;
}

std::string_view route_of(std::string_view path) {
  const Route* route = find_route(path);
  return route == nullptr ? std::string_view("other") : route->prefix;
}

ApiResult<void> check_access(const store::Principal* who, std::string_view action, std::string_view remote) {
  if (who == nullptr)
    return tl::unexpected(ApiError{401, "authentication_error",
                                   "This service needs a valid API key (Authorization: Bearer KEY).", "",
                                   "invalid_api_key"});
  const auto forbidden = [](std::string message, const char* code) {
    return tl::unexpected(ApiError{403, "permission_error", std::move(message), "", code});
  };
  if (who->disabled) return forbidden("The key's user, project or organisation is disabled.", "account_disabled");
  const auto& networks = who->key.networks;
  const auto here = [&](const std::string& text) {
    const auto range = net::IpRange::parse(text);
    return range && range->contains(net::address_of(remote));
  };
  if (!networks.empty() && std::none_of(networks.begin(), networks.end(), here))
    return forbidden("This key may not be used from this address.", "address_not_allowed");
  if (!action.empty() && !store::may(*who, action))
    return forbidden("This key may not do this (" + std::string(action) + ").", "insufficient_scope");
  return {};
}

bool may_use(const Exchange& exchange, const ServedModel& model) {
  const auto& who = exchange.who();
  if (who != nullptr && !model.project.empty() && model.project != who->key.project_id) return false;
  if (who == nullptr || who->key.models.empty()) return true;
  return std::find(who->key.models.begin(), who->key.models.end(), model.id) != who->key.models.end();
}

namespace {

// The version that a name of a rollout stands for, for who asks. Who may use the name may use what it stands for.
ApiResult<ModelEntry> version_of(const Exchange& exchange, const ModelList& models, const std::string& name,
                                 const RolloutTable::Choice& choice) {
  const auto& allowed = exchange.who()->key.models;
  if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), name) == allowed.end())
    return tl::unexpected(ApiError{403, "permission_error", "This key may not use the model `" + name + "`.", "model",
                                   "model_not_allowed"});
  ModelEntry model = models.find(choice.model);
  if (model == nullptr || (!model->project.empty() && model->project != exchange.who()->key.project_id))
    return tl::unexpected(ApiError{
        503, "server_error", "The model `" + choice.model + "`, which answers to `" + name + "`, is not served here.",
        "model", "version_not_served"});
  if (exchange.metrics() != nullptr)
    exchange.metrics()->rolled_out(exchange.who()->key.project_id, name, choice.candidate, choice.model);
  return model;
}

ApiResult<ModelEntry> usable_model(const Exchange& exchange, const ModelList& models, const std::string& name) {
  if (exchange.rollouts() != nullptr && exchange.who() != nullptr && !name.empty())
    if (const auto choice = exchange.rollouts()->choose(exchange.who()->key.project_id, name, exchange.subject()))
      return version_of(exchange, models, name, *choice);
  if (name.empty()) {
    for (const ModelEntry& model : models.all())
      if (may_use(exchange, *model)) return model;
  }
  ModelEntry model = models.find(name);
  if (model == nullptr) return tl::unexpected(model_not_found(name));
  // Of another project's model a key does not even learn that there is one.
  if (exchange.who() != nullptr && !model->project.empty() && model->project != exchange.who()->key.project_id)
    return tl::unexpected(model_not_found(name));
  if (!may_use(exchange, *model))
    return tl::unexpected(ApiError{403, "permission_error", "This key may not use the model `" + model->id + "`.",
                                   "model", "model_not_allowed"});
  return model;
}

}  // namespace

ApiResult<ModelEntry> allowed_model(const Exchange& exchange, const ModelList& models, const std::string& name) {
  auto model = usable_model(exchange, models, name);
  if (!model || exchange.stops() == nullptr) return model;
  if (auto stopped = exchange.stops()->refusal(**model, tenant_of(exchange)))
    return tl::unexpected(std::move(*stopped));
  return model;
}

std::string tenant_of(const Exchange& exchange) {
  return exchange.who() == nullptr ? std::string() : exchange.who()->key.project_id;
}

void set_owner(const Exchange& exchange, engine::Request& request) {
  request.tenant = tenant_of(exchange);
  request.cache_salt = request.tenant + '\n';  // tenants never see from timings what others asked
  request.deadline = exchange.deadline();
  request.priority = exchange.priority();
  if (exchange.who() == nullptr) return;
  request.tenant_weight = static_cast<double>(exchange.who()->project_weight);
  request.tenant_group = exchange.who()->organisation_id;
  request.group_weight = static_cast<double>(exchange.who()->organisation_weight);
}

ApiError refusal_error(const store::Admission& a) {
  ApiError error{429, "rate_limit_error", "Limit reached: " + a.why + ".", "", "rate_limit_exceeded"};
  if (a.refusal == store::Refusal::kBudget || a.refusal == store::Refusal::kNoPrice) {
    error.type = "insufficient_quota";
    error.code = "insufficient_quota";
    error.message = "Budget reached: " + a.why + ".";
  }
  error.retry_after_s = a.retry_after_us < 0 ? -1 : retry_after_of(a.retry_after_us);
  return error;
}

void admit(const std::shared_ptr<Exchange>& exchange, const Need& need,
           std::function<void(std::shared_ptr<Charge> charge, std::int64_t output_tokens)> then) {
  Accounts* accounts = exchange->accounts();
  if (accounts == nullptr) return then(std::make_shared<Charge>(), need.output_tokens);
  const store::Principal& who = *exchange->who();
  store::Asked asked;
  asked.request_id = exchange->request_id();
  asked.key_id = who.key.id;
  asked.user_id = who.key.user_id;
  asked.project_id = who.key.project_id;
  asked.organisation_id = who.organisation_id;
  asked.model = need.model;
  asked.prompt_tokens = need.prompt_tokens;
  asked.output_tokens = need.output_tokens;
  asked.least_output_tokens = need.output_stated ? need.output_tokens : std::min(need.output_tokens, kLeastUnstated);
  accounts->admit(std::move(asked), [exchange, accounts, then = std::move(then)](Result<store::Admission> admission) {
    if (!admission)
      return exchange->send_error({503, "server_error", "The accounts cannot be reached.", "", "store_unavailable"});
    add_rate_headers(*exchange, *admission);
    if (admission->refusal != store::Refusal::kNone) {
      if (exchange->metrics() != nullptr) exchange->metrics()->refused(admission->refusal);
      return exchange->send_error(refusal_error(*admission));
    }
    auto charge = std::make_shared<Charge>(*accounts, admission->reservation);
    accounts->watch(admission->reservation, charge);
    then(std::move(charge), admission->output_tokens);
  });
}

}  // namespace qw::api
