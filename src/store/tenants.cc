#include "store/tenants.h"

#include <algorithm>

#include "base/sha256.h"
#include "store/internal/tenant_rows.h"

namespace qw::store {
namespace {

constexpr std::int64_t kUseNotedUs = 60'000'000;

// What a key may be made with, or changed to.
Status check_rights(const Key& key, std::int64_t now) {
  if (!key.name.empty()) QW_TRY(check_name("a key's name", key.name));
  QW_TRY(check_words("a scope", key.scopes));
  QW_TRY(check_words("a model's name", key.models));
  QW_TRY(check_words("a network", key.networks));
  if (key.scopes.empty()) return fail(ErrorKind::kBadInput, "a key needs at least one scope (\"*\": all)");
  if (key.expires_us != 0 && key.expires_us <= now)
    return fail(ErrorKind::kBadInput, "the key would have expired already");
  return {};
}

// What is not named is not written: whoever changes it at the same time is not undone.
template <class T>
Status write_one(Connection& c, const std::string& table, const char* column, const std::string& id, const T& value) {
  QW_TRY(c.run("UPDATE " + table + " SET " + column + " = $1 WHERE id = $2", {value, id}));
  return {};
}
Status write_name(Connection& c, const std::string& what, const std::string& id, const std::string& owner,
                  const std::string& name) {
  QW_TRY(check_free(c, what, name, owner, id));
  return write_one(c, what + "s", "name", id, name);
}
Status check_change(const std::string& what, const TenantChange& change) {
  if (change.name) QW_TRY(check_name(what, *change.name));
  if (change.weight) QW_TRY(check_weight(*change.weight));
  return {};
}
Status write_change(Connection& c, const std::string& what, const std::string& id, const std::string& owner,
                    const TenantChange& change) {
  if (change.name) QW_TRY(write_name(c, what, id, owner, *change.name));
  if (change.weight) QW_TRY(write_one(c, what + "s", "weight", id, *change.weight));
  if (change.disabled) QW_TRY(write_one(c, what + "s", "disabled", id, std::int64_t{*change.disabled}));
  return {};
}

}  // namespace

bool covers(const std::vector<std::string>& patterns, std::string_view action) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& p) {
    if (p.ends_with('*')) return action.starts_with(std::string_view(p).substr(0, p.size() - 1));
    return action == p;
  });
}

bool may(const Principal& p, std::string_view action) {
  return covers(p.key.scopes, action) && covers(p.allow, action) && !covers(p.deny, action);
}

Result<Organisation> Tenants::add_organisation(const std::string& name, std::int64_t weight) {
  QW_TRY(check_name("an organisation's name", name));
  QW_TRY(check_weight(weight));
  return work_.transact([&](Connection& c) -> Result<Organisation> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    return insert_organisation(c, name, weight, now);
  });
}
Result<std::vector<Organisation>> Tenants::organisations() {
  return work_.transact([&](Connection& c) -> Result<std::vector<Organisation>> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT id, name, weight, created_us, disabled FROM organisations ORDER BY name", {}));
    std::vector<Organisation> out;
    for (const Row& r : rows) out.push_back(organisation_of(r));
    return out;
  });
}
Result<Organisation> Tenants::organisation(const std::string& where) {
  return work_.transact([&](Connection& c) { return find_organisation(c, where); });
}
Status Tenants::set_organisation(const std::string& where, const TenantChange& change) {
  QW_TRY(check_change("an organisation's name", change));
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Organisation o, find_organisation(c, where));
    return write_change(c, "organisation", o.id, "", change);
  });
}

Result<Project> Tenants::add_project(const std::string& organisation, const std::string& name, std::int64_t weight) {
  QW_TRY(check_name("a project's name", name));
  QW_TRY(check_weight(weight));
  return work_.transact([&](Connection& c) -> Result<Project> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    return insert_project(c, organisation, name, weight, now);
  });
}
Result<std::vector<Project>> Tenants::projects(const std::string& organisation) {
  return work_.transact([&](Connection& c) -> Result<std::vector<Project>> {
    std::string id;
    if (!organisation.empty()) {
      QW_ASSIGN(const Organisation o, find_organisation(c, organisation));
      id = o.id;
    }
    QW_ASSIGN(const Rows rows, c.run("SELECT id, organisation_id, name, weight, created_us, disabled FROM projects "
                                     "WHERE $1 = '' OR organisation_id = $1 ORDER BY name, id",
                                     {id}));
    std::vector<Project> out;
    for (const Row& r : rows) out.push_back(project_of(r));
    return out;
  });
}
Result<Project> Tenants::project(const std::string& where) {
  return work_.transact([&](Connection& c) { return find_project(c, where); });
}
Status Tenants::set_project(const std::string& where, const TenantChange& change) {
  QW_TRY(check_change("a project's name", change));
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Project p, find_project(c, where));
    return write_change(c, "project", p.id, p.organisation_id, change);
  });
}

Result<User> Tenants::add_user(const std::string& organisation, const std::string& name,
                               const std::vector<std::string>& roles) {
  QW_TRY(check_name("a user's name", name));
  return work_.transact([&](Connection& c) -> Result<User> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    return insert_user(c, organisation, name, roles, now);
  });
}
Result<std::vector<User>> Tenants::users(const std::string& organisation) {
  return work_.transact([&](Connection& c) -> Result<std::vector<User>> {
    std::string id;
    if (!organisation.empty()) {
      QW_ASSIGN(const Organisation o, find_organisation(c, organisation));
      id = o.id;
    }
    QW_ASSIGN(const Rows rows, c.run("SELECT " QW_USER_COLUMNS " FROM users "
                                     "WHERE $1 = '' OR organisation_id = $1 ORDER BY name, id",
                                     {id}));
    std::vector<User> out;
    for (const Row& r : rows) {
      QW_ASSIGN(User user, with_roles(c, r));
      out.push_back(std::move(user));
    }
    return out;
  });
}
Result<User> Tenants::user(const std::string& where) {
  return work_.transact([&](Connection& c) { return find_user(c, where); });
}
Status Tenants::set_user(const std::string& where, const UserChange& change) {
  if (change.name) QW_TRY(check_name("a user's name", *change.name));
  if (change.email && !change.email->empty()) QW_TRY(check_name("an e-mail address", *change.email));
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const User u, find_user(c, where));
    std::string project = u.project_id;
    if (change.project && change.project->empty()) project.clear();
    if (change.project && !change.project->empty()) {
      QW_ASSIGN(const Project home, find_project(c, *change.project));
      if (home.organisation_id != u.organisation_id)
        return fail(ErrorKind::kBadInput, "the project " + *change.project + " belongs to another organisation");
      project = home.id;
    }
    if (change.name) QW_TRY(write_name(c, "user", u.id, u.organisation_id, *change.name));
    if (change.disabled) QW_TRY(write_one(c, "users", "disabled", u.id, std::int64_t{*change.disabled}));
    if (change.email) QW_TRY(write_one(c, "users", "email", u.id, *change.email));
    if (change.project) QW_TRY(write_one(c, "users", "project_id", u.id, project));
    if (change.password_hash) {
      QW_TRY(c.run("UPDATE users SET password = $1 WHERE id = $2", {*change.password_hash, u.id}));
      QW_TRY(c.run("DELETE FROM sessions WHERE key_id IN (SELECT id FROM keys WHERE user_id = $1)", {u.id}));
    }
    if (change.roles) QW_TRY(set_roles(c, u.id, *change.roles));
    return {};
  });
}

Status Tenants::set_role(const Role& role) {
  QW_TRY(check_words("a role's name", {role.name}));
  QW_TRY(check_words("an action", role.allow));
  QW_TRY(check_words("an action", role.deny));
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Rows known, c.run("SELECT built_in FROM roles WHERE name = $1", {role.name}));
    if (!known.empty() && known[0].integer(0) != 0)
      return fail(ErrorKind::kBadInput, "the role " + role.name + " cannot be changed");
    QW_TRY(
        c.run("INSERT INTO roles (name, allow, deny, built_in) VALUES ($1, $2, $3, 0) "
              "ON CONFLICT (name) DO UPDATE SET allow = excluded.allow, deny = excluded.deny",
              {role.name, join(role.allow), join(role.deny)}));
    return {};
  });
}
Result<std::vector<Role>> Tenants::roles() {
  return work_.transact([&](Connection& c) -> Result<std::vector<Role>> {
    QW_ASSIGN(const Rows rows, c.run("SELECT name, allow, deny, built_in FROM roles ORDER BY name", {}));
    std::vector<Role> out;
    for (const Row& r : rows) out.push_back({r.text(0), split(r.text(1)), split(r.text(2)), r.integer(3) != 0});
    return out;
  });
}
Status Tenants::remove_role(const std::string& name) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Rows known, c.run("SELECT built_in FROM roles WHERE name = $1", {name}));
    if (known.empty()) return missing("role", name);
    QW_ASSIGN(const Rows held, c.run("SELECT user_id FROM user_roles WHERE role = $1 LIMIT 1", {name}));
    if (known[0].integer(0) != 0 || !held.empty())
      return fail(ErrorKind::kBadInput,
                  "the role " + name + (held.empty() ? " cannot be removed" : " is held by users"));
    QW_TRY(c.run("DELETE FROM roles WHERE name = $1", {name}));
    return {};
  });
}

Result<NewKey> Tenants::add_key(const KeySpec& spec) {
  return work_.transact([&](Connection& c) -> Result<NewKey> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    Key key;
    key.name = spec.name;
    key.scopes = spec.scopes;
    key.models = spec.models;
    key.networks = spec.networks;
    key.expires_us = spec.expires_us;
    QW_TRY(check_rights(key, now));
    QW_ASSIGN(const Project project, find_project(c, spec.project));
    if (!spec.repeat_id.empty()) {
      key.id = "key_" + base::sha256_hex(spec.repeat_id).substr(0, 24);
      QW_ASSIGN(const Rows made, c.run("SELECT id FROM keys WHERE id = $1", {key.id}));
      if (!made.empty()) return taken("key", key.id);
    }
    key.project_id = project.id;
    if (!spec.user.empty()) {
      QW_ASSIGN(const User user, find_user(c, spec.user));
      if (user.organisation_id != project.organisation_id)
        return fail(ErrorKind::kBadInput,
                    "user " + spec.user + " and project " + spec.project + " belong to different organisations");
      key.user_id = user.id;
    }
    return insert_key(c, std::move(key), now);
  });
}
Result<std::vector<Key>> Tenants::keys(const std::string& project) {
  return work_.transact([&](Connection& c) -> Result<std::vector<Key>> {
    std::string id;
    if (!project.empty()) {
      QW_ASSIGN(const Project p, find_project(c, project));
      id = p.id;
    }
    QW_ASSIGN(const Rows rows, c.run("SELECT " QW_KEY_COLUMNS
                                     " FROM keys k WHERE $1 = '' OR k.project_id = $1 ORDER BY k.created_us, k.id",
                                     {id}));
    std::vector<Key> out;
    for (const Row& r : rows) out.push_back(key_of(r));
    return out;
  });
}
Result<Key> Tenants::key(const std::string& where) {
  return work_.transact([&](Connection& c) { return find_key(c, where); });
}
Status Tenants::set_key(const std::string& where, const KeyChange& change) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(Key key, find_key(c, where));
    if (key.revoked_us != 0) return fail(ErrorKind::kBadInput, "key " + where + " has ended");
    key.name = change.name.value_or(key.name);
    key.scopes = change.scopes.value_or(key.scopes);
    key.models = change.models.value_or(key.models);
    key.networks = change.networks.value_or(key.networks);
    const std::int64_t expires = change.expires_us.value_or(key.expires_us);
    key.expires_us = change.expires_us.value_or(0);  // an end that is not changed may be over
    QW_TRY(check_rights(key, now));
    QW_TRY(c.run("UPDATE keys SET name = $1, scopes = $2, models = $3, networks = $4, expires_us = $5 WHERE id = $6",
                 {key.name, join(key.scopes), join(key.models), join(key.networks), expires, key.id}));
    return {};
  });
}
Result<NewKey> Tenants::rotate_key(const std::string& where, std::int64_t grace_us) {
  return work_.transact([&](Connection& c) -> Result<NewKey> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Key old, find_key(c, where));
    if (!alive(old, now) || old.revoked_us != 0) return fail(ErrorKind::kBadInput, "key " + where + " has ended");
    QW_TRY(c.run("UPDATE keys SET revoked_us = $1 WHERE id = $2", {now + std::max<std::int64_t>(grace_us, 0), old.id}));
    Key key = old;
    key.id = "";
    key.rotated_from = old.id;
    key.used_us = 0;
    return insert_key(c, std::move(key), now);
  });
}
Status Tenants::revoke_key(const std::string& where) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Key key, find_key(c, where));
    QW_TRY(
        c.run("UPDATE keys SET revoked_us = $1 WHERE id = $2 AND (revoked_us = 0 OR revoked_us > $1)", {now, key.id}));
    QW_TRY(c.run("DELETE FROM sessions WHERE key_id = $1", {key.id}));
    return {};
  });
}
Result<std::optional<Principal>> Tenants::principal_of_key(std::string_view secret) {
  const std::string hash = base::sha256_hex(secret);
  return work_.transact([&](Connection& c) -> Result<std::optional<Principal>> {
    QW_ASSIGN(const Rows rows, c.run(QW_PRINCIPAL_FROM "WHERE k.hash = $1", {hash}));
    if (rows.empty()) return std::optional<Principal>();
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(Principal p, principal_of(c, rows[0]));
    if (!alive(p.key, now)) return std::optional<Principal>();
    if (p.key.used_us + kUseNotedUs < now) QW_TRY(c.run("UPDATE keys SET used_us = $1 WHERE id = $2", {now, p.key.id}));
    return std::optional<Principal>(std::move(p));
  });
}

Result<std::optional<Principal>> Tenants::principal_of_key_id(const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<std::optional<Principal>> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    std::string next = id;
    while (!next.empty()) {
      QW_ASSIGN(const Rows rows, c.run(QW_PRINCIPAL_FROM "WHERE k.id = $1", {next}));
      if (rows.empty()) break;
      QW_ASSIGN(Principal p, principal_of(c, rows[0]));
      if (alive(p.key, now)) return std::optional<Principal>(std::move(p));
      QW_ASSIGN(const Rows heirs,
                c.run("SELECT id FROM keys WHERE rotated_from = $1 ORDER BY created_us DESC LIMIT 1", {next}));
      next = heirs.empty() ? "" : heirs[0].text(0);
    }
    return std::optional<Principal>();
  });
}

Result<std::optional<NewKey>> Tenants::bootstrap() {
  return work_.transact([&](Connection& c) -> Result<std::optional<NewKey>> {
    // Of several services that start over an empty database one makes the key: the others wait here and see it.
    if (c.dialect() == Dialect::kPostgres) QW_TRY(c.script("LOCK TABLE keys IN EXCLUSIVE MODE"));
    QW_ASSIGN(const Rows any, c.run("SELECT id FROM keys LIMIT 1", {}));
    QW_ASSIGN(const Rows organisations, c.run("SELECT id FROM organisations LIMIT 1", {}));
    if (!any.empty() || !organisations.empty()) return std::optional<NewKey>();
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Organisation organisation, insert_organisation(c, "default", 1, now));
    QW_ASSIGN(const Project project, insert_project(c, organisation.id, "default", 1, now));
    QW_ASSIGN(const User user, insert_user(c, organisation.id, "admin", {"owner"}, now));
    Key key;
    key.project_id = project.id;
    key.user_id = user.id;
    key.name = "bootstrap";
    key.scopes = {"*"};
    QW_ASSIGN(NewKey made, insert_key(c, std::move(key), now));
    return std::optional<NewKey>(std::move(made));
  });
}

}  // namespace qw::store
