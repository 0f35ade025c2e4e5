#include "api/admin/operations.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <limits>

#include "api/admin/objects.h"
#include "api/auth.h"
#include "base/clock.h"
#include "base/password.h"
#include "net/ip_range.h"

namespace qw::api::admin {
namespace {

using json::Value;
using store::Store;

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMostDays = 36'500, kMostGraceS = 366 * 86'400;
constexpr std::size_t kShortestPassword = 10;                  // guessing is slowed down; this is for the worst of them
constexpr std::int64_t kUsualRows = 1000, kMostRows = 10'000;  // of the ledger at once

template <class T>
Result<Value> one(Result<T> made) {
  return made.map([](const T& x) { return to_json(x); });
}
template <class T>
Result<Value> all(Result<std::vector<T>> found) {
  return found.map([](const std::vector<T>& list) {
    json::Array out;
    for (const T& x : list) out.push_back(to_json(x));
    return Value(std::move(out));
  });
}
Result<Value> done(const Status& status) {
  return status.map([] { return Value(json::Object{{"done", true}}); });
}

std::string needed(FieldReader& in, const char* name) {
  auto text = in.text(name);
  if (!text || text->empty()) in.reject(name, std::string("'") + name + "' is missing.");
  return text.value_or("");
}
std::optional<std::vector<std::string>> words(FieldReader& in, const char* name) {
  const json::Array* list = in.array(name, R"({"type": "array", "items": {"type": "string"}})");
  if (list == nullptr) return std::nullopt;
  std::vector<std::string> out;
  for (const Value& word : *list) {
    if (!word.is_string()) {
      in.reject(name, std::string("'") + name + "' must be a list of texts.");
      return std::nullopt;
    }
    out.push_back(word.as_string());
  }
  return out;
}
// A number; or its digits, as a query has them.
std::optional<std::int64_t> count(FieldReader& in, const char* name, std::int64_t low, std::int64_t high) {
  const Value* value = in.any(name);
  if (value == nullptr || !value->is_string()) return in.integer(name, low, high);  // which notes its bounds
  const std::string& text = value->as_string();
  std::int64_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size() || out < low || out > high)
    in.reject(name, std::string("'") + name + "' must be a whole number of " + std::to_string(low) + " or more.");
  return out;
}
// "12.50", or a number of JSON; "" if there is none.
std::string amount(FieldReader& in, const char* name, bool is_needed = false) {
  const Value* value = in.any(name, R"({"type": ["string", "number"]})");
  if (value == nullptr && is_needed) in.reject(name, std::string("'") + name + "' is missing.");
  if (value == nullptr) return "";
  if (value->is_string()) return value->as_string();
  if (value->is_number()) return json::dump(*value);
  in.reject(name, std::string("'") + name + "' must be an amount.");
  return "";
}
std::optional<std::int64_t> weight(FieldReader& in) { return in.integer("weight", 1, kMost); }

Status fine(const FieldReader& in) {
  if (in.takes_notes()) return fail(ErrorKind::kUsage, "described, not done");
  std::string wrong;
  if (in.error()) {
    wrong = in.error()->message;
    if (wrong.ends_with('.')) wrong.pop_back();  // a command's message has none
  } else if (const auto unknown = in.unknown(); !unknown.empty()) {
    wrong = "'" + unknown.front() + "' is not known here";
  }
  return wrong.empty() ? Status() : fail(ErrorKind::kBadInput, wrong);
}

Result<Value> add_organisation(Store* s, FieldReader& in) {
  const std::string name = needed(in, "name");
  const auto share = weight(in);
  QW_TRY(fine(in));
  return one(s->tenants().add_organisation(name, share.value_or(1)));
}
Result<Value> list_organisations(Store* s, FieldReader& in) {
  QW_TRY(fine(in));
  return all(s->tenants().organisations());
}
Result<Value> get_organisation(Store* s, FieldReader& in) {
  const std::string where = needed(in, "organisation");
  QW_TRY(fine(in));
  return one(s->tenants().organisation(where));
}
Result<Value> set_organisation(Store* s, FieldReader& in) {
  const std::string where = needed(in, "organisation");
  const auto share = weight(in);
  const auto disabled = in.boolean("disabled");
  QW_TRY(fine(in));
  QW_TRY(s->tenants().set_organisation(where, share, disabled));
  return one(s->tenants().organisation(where));
}

Result<Value> add_project(Store* s, FieldReader& in) {
  const std::string organisation = needed(in, "organisation"), name = needed(in, "name");
  const auto share = weight(in);
  QW_TRY(fine(in));
  return one(s->tenants().add_project(organisation, name, share.value_or(1)));
}
Result<Value> list_projects(Store* s, FieldReader& in) {
  const std::string organisation = in.text("organisation").value_or("");
  QW_TRY(fine(in));
  return all(s->tenants().projects(organisation));
}
Result<Value> get_project(Store* s, FieldReader& in) {
  const std::string where = needed(in, "project");
  QW_TRY(fine(in));
  return one(s->tenants().project(where));
}
Result<Value> set_project(Store* s, FieldReader& in) {
  const std::string where = needed(in, "project");
  const auto share = weight(in);
  const auto disabled = in.boolean("disabled");
  QW_TRY(fine(in));
  QW_TRY(s->tenants().set_project(where, share, disabled));
  return one(s->tenants().project(where));
}

Result<Value> add_user(Store* s, FieldReader& in) {
  const std::string organisation = needed(in, "organisation"), name = needed(in, "name");
  const auto roles = words(in, "roles");
  QW_TRY(fine(in));
  return one(s->tenants().add_user(organisation, name, roles.value_or(std::vector<std::string>{"member"})));
}
Result<Value> list_users(Store* s, FieldReader& in) {
  const std::string organisation = in.text("organisation").value_or("");
  QW_TRY(fine(in));
  return all(s->tenants().users(organisation));
}
Result<Value> get_user(Store* s, FieldReader& in) {
  const std::string where = needed(in, "user");
  QW_TRY(fine(in));
  return one(s->tenants().user(where));
}
Result<Value> set_user(Store* s, FieldReader& in) {
  const std::string where = needed(in, "user");
  store::UserChange change;
  change.roles = words(in, "roles");
  change.disabled = in.boolean("disabled");
  change.email = in.text("email");
  change.project = in.text("project");
  const auto password = in.text("password");
  QW_TRY(fine(in));
  if (password && !password->empty() && password->size() < kShortestPassword)
    return fail(ErrorKind::kBadInput, "a password has at least " + std::to_string(kShortestPassword) + " bytes");
  if (password) {
    QW_ASSIGN(change.password_hash, password->empty() ? Result<std::string>("") : base::hash_password(*password));
  }
  QW_TRY(s->tenants().set_user(where, change));
  return one(s->tenants().user(where));
}

// Ends them: at every service of the store, as soon as it looks again.
Result<Value> end_sessions(Store* s, FieldReader& in) {
  const std::string where = needed(in, "user");
  QW_TRY(fine(in));
  store::Key of_user;
  QW_ASSIGN(const store::User user, s->tenants().user(where));
  of_user.user_id = user.id;
  return s->tenants().end_sessions_of(of_user).map([](std::int64_t ended) {
    return Value(json::Object{{"sessions_ended", ended}});
  });
}
Value end_sessions_example() { return json::Object{{"sessions_ended", 0}}; }

// A word that is no action would allow nothing, or deny nothing, and nobody would know.
Status known_actions(const std::vector<std::string>& patterns) {
  for (const std::string& pattern : patterns) {
    if (is_action_pattern(pattern)) continue;
    std::string known = "*";
    for (const std::string& action : all_actions()) known += ", " + action;
    return fail(ErrorKind::kBadInput,
                "there is no action " + pattern + "; there are " + known + ", and files.* and the like");
  }
  return {};
}

Result<Value> list_roles(Store* s, FieldReader& in) {
  QW_TRY(fine(in));
  return all(s->tenants().roles());
}
Result<Value> set_role(Store* s, FieldReader& in) {
  store::Role role;
  role.name = needed(in, "name");
  role.allow = words(in, "allow").value_or(std::vector<std::string>());
  role.deny = words(in, "deny").value_or(std::vector<std::string>());
  QW_TRY(fine(in));
  QW_TRY(known_actions(role.allow));
  QW_TRY(known_actions(role.deny));
  QW_TRY(s->tenants().set_role(role));
  return to_json(role);
}
Result<Value> remove_role(Store* s, FieldReader& in) {
  const std::string name = needed(in, "role");
  QW_TRY(fine(in));
  return done(s->tenants().remove_role(name));
}

Status known_networks(const std::vector<std::string>& networks) {
  for (const std::string& range : networks)
    if (!net::IpRange::parse(range))
      return fail(ErrorKind::kBadInput, "the network " + range + " is no address or range (10.0.0.0/8)");
  return {};
}
std::int64_t in_days(std::int64_t days) { return base::unix_us() + days * 86'400'000'000; }

Result<Value> add_key(Store* s, FieldReader& in) {
  store::KeySpec spec;
  spec.project = needed(in, "project");
  spec.user = in.text("user").value_or("");
  spec.name = in.text("name").value_or("");
  if (auto scopes = words(in, "scopes")) spec.scopes = std::move(*scopes);
  spec.models = words(in, "models").value_or(std::vector<std::string>());
  spec.networks = words(in, "networks").value_or(std::vector<std::string>());
  spec.repeat_id = in.text("repeat_id").value_or("");
  const auto days = in.integer("days", 1, kMostDays);
  QW_TRY(fine(in));
  QW_TRY(known_actions(spec.scopes));
  QW_TRY(known_networks(spec.networks));
  if (days) spec.expires_us = in_days(*days);
  return one(s->tenants().add_key(spec));
}
Result<Value> list_keys(Store* s, FieldReader& in) {
  const std::string project = in.text("project").value_or("");
  QW_TRY(fine(in));
  return all(s->tenants().keys(project));
}
Result<Value> get_key(Store* s, FieldReader& in) {
  const std::string where = needed(in, "key");
  QW_TRY(fine(in));
  return one(s->tenants().key(where));
}
Result<Value> set_key(Store* s, FieldReader& in) {
  const std::string where = needed(in, "key");
  store::KeyChange change;
  change.name = in.text("name");
  change.scopes = words(in, "scopes");
  change.models = words(in, "models");
  change.networks = words(in, "networks");
  const auto days = in.integer("days", 0, kMostDays);  // 0: for ever
  QW_TRY(fine(in));
  if (change.scopes) QW_TRY(known_actions(*change.scopes));
  if (change.networks) QW_TRY(known_networks(*change.networks));
  if (days) change.expires_us = *days == 0 ? 0 : in_days(*days);
  QW_TRY(s->tenants().set_key(where, change));
  return one(s->tenants().key(where));
}
Result<Value> rotate_key(Store* s, FieldReader& in) {
  const std::string where = needed(in, "key");
  const auto grace = in.integer("grace_seconds", 0, kMostGraceS);
  QW_TRY(fine(in));
  return one(s->tenants().rotate_key(where, grace.value_or(0) * 1'000'000));
}
Result<Value> revoke_key(Store* s, FieldReader& in) {
  const std::string where = needed(in, "key");
  QW_TRY(fine(in));
  return done(s->tenants().revoke_key(where));
}

Result<Value> list_limits(Store* s, FieldReader& in) {
  QW_TRY(fine(in));
  return all(s->ledger().limits());
}
// Those that are not given stay.
Result<Value> set_limits(Store* s, FieldReader& in) {
  const std::string subject = needed(in, "subject");
  const auto requests = in.integer("requests_per_minute", 0, kMost), tokens = in.integer("tokens_per_minute", 0, kMost);
  const auto concurrency = in.integer("concurrency", 0, kMost), jobs = in.integer("jobs", 0, kMost);
  QW_TRY(fine(in));
  store::Limits limits;
  QW_ASSIGN(limits.subject, subject_of(*s, subject));
  QW_ASSIGN(const auto present, s->ledger().limits());
  for (const store::Limits& l : present)
    if (l.subject == limits.subject) limits = l;
  limits.requests_per_minute = requests.value_or(limits.requests_per_minute);
  limits.tokens_per_minute = tokens.value_or(limits.tokens_per_minute);
  limits.concurrency = concurrency.value_or(limits.concurrency);
  limits.jobs = jobs.value_or(limits.jobs);
  QW_TRY(s->ledger().set_limits(limits));
  return to_json(limits);
}

// As ISO 4217 has them. A budget of a currency that nothing is priced in would let everything through.
Status check_currency(const std::string& text) {
  const bool three =
      text.size() == 3 && std::all_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  return three ? Status()
               : fail(ErrorKind::kBadInput, "a currency has three capital letters, such as CNY, not " + text);
}

Result<Value> list_budgets(Store* s, FieldReader& in) {
  std::string subject = in.text("subject").value_or("");
  QW_TRY(fine(in));
  if (!subject.empty()) {
    QW_ASSIGN(subject, subject_of(*s, subject));
  }
  return all(s->ledger().budgets(subject));
}
Result<Value> set_budget(Store* s, FieldReader& in) {
  const std::string where = needed(in, "subject"), text = amount(in, "amount", true);
  const std::string unit = in.text("unit").value_or("tokens"), period = in.text("period").value_or("total");
  QW_TRY(fine(in));
  QW_ASSIGN(const std::string subject, subject_of(*s, where));
  QW_ASSIGN(std::int64_t most, billionths_of(text));
  if (unit == "tokens") {
    if (most % 1'000'000'000 != 0) return fail(ErrorKind::kBadInput, "a budget in tokens is a whole number");
    most /= 1'000'000'000;
  } else {
    QW_TRY(check_currency(unit));
  }
  return one(s->ledger().set_budget(subject, unit, period, most));
}
Result<Value> remove_budget(Store* s, FieldReader& in) {
  const std::string id = needed(in, "budget");
  QW_TRY(fine(in));
  return done(s->ledger().remove_budget(id));
}

// For a million tokens, in steps of a thousandth of the currency's unit (a billionth for each token).
Result<std::int64_t> price(const std::string& text) {
  QW_ASSIGN(const std::int64_t billionths, billionths_of(text));
  if (billionths % 1'000'000 != 0)
    return fail(ErrorKind::kBadInput, "a price has at most 3 decimals for a million tokens: " + text);
  return billionths / 1'000'000;
}
Result<Value> list_prices(Store* s, FieldReader& in) {
  QW_TRY(fine(in));
  return all(s->ledger().prices());
}
Result<Value> set_price(Store* s, FieldReader& in) {
  store::Price p;
  p.model = needed(in, "model");
  p.currency = needed(in, "currency");
  const std::string prompt = amount(in, "prompt", true), output = amount(in, "output", true);
  const std::string cached = amount(in, "cached");
  const std::string reasoning = amount(in, "reasoning"), trained = amount(in, "trained");
  QW_TRY(fine(in));
  QW_TRY(check_currency(p.currency));
  QW_ASSIGN(p.prompt, price(prompt));
  QW_ASSIGN(p.output, price(output));
  QW_ASSIGN(p.cached, cached.empty() ? Result<std::int64_t>(p.prompt) : price(cached));
  QW_ASSIGN(p.reasoning, reasoning.empty() ? Result<std::int64_t>(p.output) : price(reasoning));
  QW_ASSIGN(p.trained, trained.empty() ? Result<std::int64_t>(0) : price(trained));
  QW_TRY(s->ledger().set_price(p));
  return to_json(p);
}
Result<Value> remove_price(Store* s, FieldReader& in) {
  const std::string model = needed(in, "model");
  QW_TRY(fine(in));
  return done(s->ledger().remove_price(model));
}

// 2026-11-28, in UTC; 0 for "".
Result<std::int64_t> day(const std::string& text) {
  if (text.empty()) return 0;
  int y = 0, m = 0, d = 0, used = 0;
  using namespace std::chrono;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2d%n", &y, &m, &d, &used) != 3 ||
      static_cast<std::size_t>(used) != text.size())
    return fail(ErrorKind::kBadInput, text + " is no day (such as 2026-11-28)");
  const year_month_day date{year(y), month(static_cast<unsigned>(m)), std::chrono::day(static_cast<unsigned>(d))};
  if (!date.ok()) return fail(ErrorKind::kBadInput, "there is no day " + text);
  return duration_cast<microseconds>(sys_days(date).time_since_epoch()).count();
}

// The question of an export or a sum; the caller still asks `fine`.
struct Question {
  std::string key, user, project, organisation, from, to;
  explicit Question(FieldReader& in)
      : key(in.text("key").value_or("")),
        user(in.text("user").value_or("")),
        project(in.text("project").value_or("")),
        organisation(in.text("organisation").value_or("")),
        from(in.text("from").value_or("")),
        to(in.text("to").value_or("")) {}
  Result<store::UsageQuery> query(Store& s) const {
    store::UsageQuery out;
    const auto id = [](std::string& into, const auto& found) -> Status {
      if (!found) return tl::unexpected(found.error());
      into = found->id;
      return {};
    };
    if (!key.empty()) QW_TRY(id(out.key_id, s.tenants().key(key)));
    if (!user.empty()) QW_TRY(id(out.user_id, s.tenants().user(user)));
    if (!project.empty()) QW_TRY(id(out.project_id, s.tenants().project(project)));
    if (!organisation.empty()) QW_TRY(id(out.organisation_id, s.tenants().organisation(organisation)));
    QW_ASSIGN(out.from_us, day(from));
    QW_ASSIGN(out.to_us, day(to));
    return out;
  }
};
Result<Value> sum_usage(Store* s, FieldReader& in) {
  const Question question(in);
  const std::string by = in.text("by").value_or("");
  QW_TRY(fine(in));
  QW_ASSIGN(const auto query, question.query(*s));
  return all(s->ledger().usage_sums(query, by));
}
Result<Value> list_usage(Store* s, FieldReader& in) {
  const Question question(in);
  const auto after = count(in, "after", 0, kMost), limit = count(in, "limit", 1, kMostRows);
  QW_TRY(fine(in));
  QW_ASSIGN(const auto query, question.query(*s));
  return all(s->ledger().usage(query, after.value_or(0), limit.value_or(kUsualRows)));
}

template <class T>
Value example() {
  return to_json(T{});
}
Value done_example() { return json::Object{{"done", true}}; }

constexpr Operation kOperations[] = {
    {"organisations.add", "POST", "/organisations", "Add an organisation", add_organisation,
     example<store::Organisation>},
    {"organisations.list", "GET", "/organisations", "List organisations", list_organisations,
     example<store::Organisation>, true},
    {"organisations.get", "GET", "/organisations/{organisation}", "Show an organisation", get_organisation,
     example<store::Organisation>},
    {"organisations.set", "POST", "/organisations/{organisation}", "Change an organisation", set_organisation,
     example<store::Organisation>},
    {"projects.add", "POST", "/projects", "Add a project", add_project, example<store::Project>},
    {"projects.list", "GET", "/projects", "List projects", list_projects, example<store::Project>, true},
    {"projects.get", "GET", "/projects/{project}", "Show a project", get_project, example<store::Project>},
    {"projects.set", "POST", "/projects/{project}", "Change a project", set_project, example<store::Project>},
    {"users.add", "POST", "/users", "Add a user", add_user, example<store::User>},
    {"users.list", "GET", "/users", "List users", list_users, example<store::User>, true},
    {"users.get", "GET", "/users/{user}", "Show a user", get_user, example<store::User>},
    {"users.set", "POST", "/users/{user}", "Change a user", set_user, example<store::User>},
    {"users.logout", "POST", "/users/{user}/logout", "End the sessions of a user", end_sessions, end_sessions_example},
    {"roles.list", "GET", "/roles", "List roles", list_roles, example<store::Role>, true},
    {"roles.set", "POST", "/roles", "Add or change a role", set_role, example<store::Role>},
    {"roles.remove", "DELETE", "/roles/{role}", "Remove a role", remove_role, done_example},
    {"keys.add", "POST", "/keys", "Make a key", add_key, example<store::NewKey>},
    {"keys.list", "GET", "/keys", "List keys", list_keys, example<store::Key>, true},
    {"keys.get", "GET", "/keys/{key}", "Show a key", get_key, example<store::Key>},
    {"keys.set", "POST", "/keys/{key}", "Change a key", set_key, example<store::Key>},
    {"keys.rotate", "POST", "/keys/{key}/rotate", "Replace a key", rotate_key, example<store::NewKey>},
    {"keys.revoke", "DELETE", "/keys/{key}", "End a key", revoke_key, done_example},
    {"limits.list", "GET", "/limits", "List limits", list_limits, example<store::Limits>, true},
    {"limits.set", "POST", "/limits", "Set limits", set_limits, example<store::Limits>},
    {"budgets.list", "GET", "/budgets", "List budgets", list_budgets, example<store::Budget>, true},
    {"budgets.set", "POST", "/budgets", "Set a budget", set_budget, example<store::Budget>},
    {"budgets.remove", "DELETE", "/budgets/{budget}", "Remove a budget", remove_budget, done_example},
    {"prices.list", "GET", "/prices", "List prices", list_prices, example<store::Price>, true},
    {"prices.set", "POST", "/prices", "Set a price", set_price, example<store::Price>},
    {"prices.remove", "DELETE", "/prices/{model*}", "Remove a price", remove_price, done_example},
    {"usage.sum", "GET", "/usage", "Sum what was used", sum_usage, example<store::UsageSum>, true},
    {"usage.list", "GET", "/usage/rows", "Export what was used", list_usage, example<store::UsageRow>, true},
};

template <class T>
Result<bool> found(const Result<T>& one) {
  if (one) return true;
  if (one.error().kind == ErrorKind::kBadInput) return false;
  return tl::unexpected(one.error());
}
template <class T>
Result<bool> among(const Result<std::vector<T>>& list, std::string T::*member, const std::string& where) {
  if (!list) return tl::unexpected(list.error());
  return std::any_of(list->begin(), list->end(), [&](const T& x) { return x.*member == where; });
}

}  // namespace

std::span<const Operation> operations() { return kOperations; }

const Operation& operation(std::string_view name) {
  return *std::find_if(std::begin(kOperations), std::end(kOperations),
                       [&](const Operation& one) { return one.name == name; });
}

Result<json::Value> perform(const Operation& operation, store::Store& store, const json::Object& arguments) {
  FieldReader in(arguments);
  return operation.run(&store, in);
}

json::Object arguments_of(const Operation& operation) {
  json::Object schema = describe_body([&operation](const json::Object& body) {
    FieldReader in(body);
    (void)operation.run(nullptr, in);
  });
  std::string_view inner = operation.path;
  inner.remove_prefix(std::min(inner.find('{'), inner.size()));
  std::string in_path(inner.substr(std::min<std::size_t>(1, inner.size()), inner.find_first_of("*}") - 1));
  if (inner.empty()) in_path.clear();
  json::Object& properties = schema.find("properties")->as_object();
  for (const std::string& name : {in_path, std::string("repeat_id")}) properties.erase(name);  // the latter: a header's
  if (json::Value* required = schema.find("required")) {
    std::erase(required->as_array(), json::Value(in_path));
    if (required->as_array().empty()) schema.erase("required");
  }
  return schema;
}

Result<bool> exists(store::Store& store, std::string_view kind, const std::string& where) {
  auto& t = store.tenants();
  if (kind == "organisation") return found(t.organisation(where));
  if (kind == "project") return found(t.project(where));
  if (kind == "user") return found(t.user(where));
  if (kind == "key") return found(t.key(where));
  if (kind == "role") return among(t.roles(), &store::Role::name, where);
  if (kind == "budget") return among(store.ledger().budgets(), &store::Budget::id, where);
  return among(store.ledger().prices(), &store::Price::model, where);
}

Result<std::string> subject_of(store::Store& store, const std::string& text) {
  const auto colon = text.find(':');
  const std::string kind = text.substr(0, colon), where = colon == std::string::npos ? "" : text.substr(colon + 1);
  auto& t = store.tenants();
  const auto named = [&](const auto& one) -> Result<std::string> {
    if (!one) return tl::unexpected(one.error());
    return kind + ":" + one->id;
  };
  if (kind == "key") return named(t.key(where));
  if (kind == "user") return named(t.user(where));
  if (kind == "project") return named(t.project(where));
  if (kind == "org") return named(t.organisation(where));
  return fail(ErrorKind::kBadInput, "a subject is key:, user:, project: or org: and a name or id, not " + text);
}

}  // namespace qw::api::admin
