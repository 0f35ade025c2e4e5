// Who may use which route, and what a refusal looks like. With accounts every route but the health pages needs a key:
// "Authorization: Bearer KEY", "x-api-key: KEY", or the cookie of a browser's session.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/accounts.h"
#include "api/error.h"
#include "api/exchange.h"
#include "api/served_model.h"
#include "net/http.h"

namespace qw::api {

struct Secret {
  std::string text;
  Credential kind = Credential::kKey;
};
// What a request shows, or nothing.
std::optional<Secret> secret_of(const net::Headers& headers);

// The value of a cookie, or "".
std::string_view cookie_of(const net::Headers& headers, std::string_view name);

// The action that a request is ("inference", "files.read", ...), "" for what every key may see.
std::string action_of(std::string_view method, std::string_view path);

// Every action there is.
std::vector<std::string> all_actions();
// Whether a scope, or what a role allows or denies, says something of one of them: "files.read", "files.*", "*".
bool is_action_pattern(std::string_view pattern);

// The paths (and all below them) that have an action of their own.
std::vector<std::string_view> guarded_routes();

// The route that a path belongs to, for figures: one of few, "other" for what is none.
std::string_view route_of(std::string_view path);

// Whether `who` may do this from this address; null: nobody.
ApiResult<void> check_access(const store::Principal* who, std::string_view action, std::string_view remote);

// The model of that name ("": the first) if the exchange's key may use it and the operator has not stopped it.
ApiResult<ModelEntry> allowed_model(const Exchange& exchange, const ModelList& models, const std::string& name);
bool may_use(const Exchange& exchange, const ServedModel& model);

// Whose requests share the engine fairly: the project, or "" without accounts.
std::string tenant_of(const Exchange& exchange);
// Tells the engine whose a request is: the project, in its organisation, with the weights that the store has, and with
// the salt that keeps what is cached of its texts to it; and the exchange's priority and deadline.
void set_owner(const Exchange& exchange, engine::Request& request);

struct Need {
  std::string model;
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;  // the most
  bool output_stated = true;       // false: fewer are fine, as the client did not say how many
};
// Reserves what is needed and calls `then` with the charge and how many tokens may be made; answers refusals itself.
// Without accounts: at once, with an inert charge.
void admit(const std::shared_ptr<Exchange>& exchange, const Need& need,
           std::function<void(std::shared_ptr<Charge> charge, std::int64_t output_tokens)> then);

// The wire's words for a refusal of the ledger.
ApiError refusal_error(const store::Admission& admission);

}  // namespace qw::api
