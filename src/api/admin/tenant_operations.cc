// Organisations, projects, users, roles and keys.
#include "api/admin/arguments.h"
#include "api/admin/operations.h"
#include "api/auth.h"
#include "base/clock.h"
#include "base/password.h"
#include "net/ip_range.h"

namespace qw::api::admin {
namespace {

using json::Value;
using store::Store;

constexpr std::int64_t kMostDays = 36'500, kMostGraceS = 366 * 86'400;
constexpr std::size_t kShortestPassword = 10;  // guessing is slowed down; this is for the worst of them

std::optional<std::int64_t> weight(FieldReader& in) { return in.integer("weight", 1, kUnbounded); }
// Of an organisation or a project, which may have another name afterwards: its id says which it is.
Result<store::TenantChange> tenant_change(FieldReader& in) {
  store::TenantChange change;
  change.name = in.text("name");
  change.weight = weight(in);
  change.disabled = in.boolean("disabled");
  QW_TRY(fine(in));
  return change;
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
  QW_ASSIGN(const store::TenantChange change, tenant_change(in));
  QW_ASSIGN(const store::Organisation before, s->tenants().organisation(where));
  QW_TRY(s->tenants().set_organisation(before.id, change));
  return one(s->tenants().organisation(before.id));
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
  QW_ASSIGN(const store::TenantChange change, tenant_change(in));
  QW_ASSIGN(const store::Project before, s->tenants().project(where));
  QW_TRY(s->tenants().set_project(before.id, change));
  return one(s->tenants().project(before.id));
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
  change.name = in.text("name");
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
  QW_ASSIGN(const store::User before, s->tenants().user(where));
  QW_TRY(s->tenants().set_user(before.id, change));
  return one(s->tenants().user(before.id));
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
};

}  // namespace

std::span<const Operation> tenant_operations() { return kOperations; }

}  // namespace qw::api::admin
