#include "store/tenants.h"

#include <algorithm>

#include "base/sha256.h"
#include "base/utf8.h"
#include "store/internal/work.h"

namespace qw::store {
namespace {

constexpr std::size_t kLongestName = 200;     // bytes; fits every table and header
constexpr std::size_t kShownCharacters = 14;  // "sk-qw-" and 8: enough to tell keys apart, useless to guess with
constexpr std::int64_t kUseNotedUs = 60'000'000;
constexpr std::int64_t kMostWeight = 1000;

Status check_name(const std::string& what, const std::string& name) {
  const bool control =
      std::any_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; });
  if (name.empty() || name.size() > kLongestName || control || !base::is_valid_utf8(name))
    return fail(ErrorKind::kBadInput, what + " must be 1 to 200 bytes of text");
  return {};
}
Status check_weight(std::int64_t weight) {
  if (weight >= 1 && weight <= kMostWeight) return {};
  return fail(ErrorKind::kBadInput, "a weight is 1 to " + std::to_string(kMostWeight));
}
Status check_words(const std::string& what, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    QW_TRY(check_name(what, word));
    if (word.find(',') != std::string::npos) return fail(ErrorKind::kBadInput, what + " may have no comma: " + word);
  }
  return {};
}
tl::unexpected<Error> missing(const std::string& what, const std::string& where) {
  return fail(ErrorKind::kBadInput, "there is no " + what + " " + where);
}
tl::unexpected<Error> taken(const std::string& what, const std::string& name) {
  return fail(ErrorKind::kBadInput, what + " " + name + " exists already");
}

Organisation organisation_of(const Row& r) {
  return {r.text(0), r.text(1), r.integer(2), r.integer(3), r.integer(4) != 0};
}
Project project_of(const Row& r) {
  return {r.text(0), r.text(1), r.text(2), r.integer(3), r.integer(4), r.integer(5) != 0};
}
#define QW_KEY_COLUMNS                                                                                           \
  "k.id, k.project_id, k.user_id, k.name, k.shown, k.scopes, k.models, k.networks, k.created_us, k.expires_us, " \
  "k.revoked_us, k.used_us, k.rotated_from"
Key key_of(const Row& r) {
  Key k;
  k.id = r.text(0);
  k.project_id = r.text(1);
  k.user_id = r.text(2);
  k.name = r.text(3);
  k.shown = r.text(4);
  k.scopes = split(r.text(5));
  k.models = split(r.text(6));
  k.networks = split(r.text(7));
  k.created_us = r.integer(8);
  k.expires_us = r.integer(9);
  k.revoked_us = r.integer(10);
  k.used_us = r.integer(11);
  k.rotated_from = r.text(12);
  return k;
}

// The one row that an id or a name means.
Result<Row> only(Connection& c, const std::string& what, const std::string& sql, const std::string& where) {
  QW_ASSIGN(const Rows rows, c.run(sql, {where}));
  if (rows.empty()) return missing(what, where);
  if (rows.size() > 1)
    return fail(ErrorKind::kBadInput, "several have the name " + where + ": give the id of the " + what);
  return rows[0];
}
Result<Organisation> find_organisation(Connection& c, const std::string& where) {
  return only(c, "organisation",
              "SELECT id, name, weight, created_us, disabled FROM organisations WHERE id = $1 OR name = $1", where)
      .map(organisation_of);
}
Result<Project> find_project(Connection& c, const std::string& where) {
  return only(c, "project",
              "SELECT id, organisation_id, name, weight, created_us, disabled FROM projects WHERE id = $1 OR name = $1",
              where)
      .map(project_of);
}
Result<User> with_roles(Connection& c, const Row& r) {
  User user{r.text(0), r.text(1), r.text(2), {}, r.integer(3), r.integer(4) != 0};
  QW_ASSIGN(const Rows rows, c.run("SELECT role FROM user_roles WHERE user_id = $1 ORDER BY role", {user.id}));
  for (const Row& row : rows) user.roles.push_back(row.text(0));
  return user;
}
Result<User> find_user(Connection& c, const std::string& where) {
  QW_ASSIGN(
      const Row row,
      only(c, "user", "SELECT id, organisation_id, name, created_us, disabled FROM users WHERE id = $1 OR name = $1",
           where));
  return with_roles(c, row);
}
Result<Key> find_key(Connection& c, const std::string& where) {
  return only(c, "key", "SELECT " QW_KEY_COLUMNS " FROM keys k WHERE k.id = $1 OR k.shown = $1", where).map(key_of);
}

Status insert_roles(Connection& c, const std::string& user, std::vector<std::string> roles) {
  std::sort(roles.begin(), roles.end());
  roles.erase(std::unique(roles.begin(), roles.end()), roles.end());
  for (const std::string& role : roles) {
    QW_ASSIGN(const Rows known, c.run("SELECT name FROM roles WHERE name = $1", {role}));
    if (known.empty()) return missing("role", role);
    QW_TRY(c.run("INSERT INTO user_roles (user_id, role) VALUES ($1, $2)", {user, role}));
  }
  return {};
}

Result<NewKey> insert_key(Connection& c, Key key, std::int64_t now) {
  NewKey made;
  made.secret = "sk-qw-" + random_hex(32);
  key.id = fresh_id("key_");
  key.shown = made.secret.substr(0, kShownCharacters);
  key.created_us = now;
  QW_TRY(c.run(
      "INSERT INTO keys (id, project_id, user_id, name, shown, hash, scopes, models, networks, created_us, expires_us, "
      "revoked_us, used_us, rotated_from) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, 0, $12)",
      {key.id, key.project_id, key.user_id.empty() ? Value() : Value(key.user_id), key.name, key.shown,
       base::sha256_hex(made.secret), join(key.scopes), join(key.models), join(key.networks), now, key.expires_us,
       key.rotated_from}));
  made.key = std::move(key);
  return made;
}

Result<Principal> principal_of(Connection& c, const Row& r) {
  Principal p;
  p.key = key_of(r);
  p.project = r.text(13);
  p.organisation_id = r.text(14);
  p.organisation = r.text(15);
  p.user = r.text(16);
  p.disabled = r.integer(17) != 0 || r.integer(18) != 0 || r.integer(19) != 0;
  p.project_weight = r.integer(20);
  p.organisation_weight = r.integer(21);
  if (p.key.user_id.empty()) return p;
  p.allow.clear();
  QW_ASSIGN(const Rows roles,
            c.run("SELECT r.allow, r.deny FROM user_roles u JOIN roles r ON r.name = u.role WHERE u.user_id = $1",
                  {p.key.user_id}));
  for (const Row& role : roles) {
    for (auto& word : split(role.text(0))) p.allow.push_back(std::move(word));
    for (auto& word : split(role.text(1))) p.deny.push_back(std::move(word));
  }
  return p;
}
#define QW_PRINCIPAL_FROM                                                                               \
  "SELECT " QW_KEY_COLUMNS                                                                              \
  ", p.name, o.id, o.name, u.name, p.disabled, o.disabled, u.disabled, p.weight, o.weight FROM keys k " \
  "JOIN projects p ON p.id = k.project_id JOIN organisations o ON o.id = p.organisation_id "            \
  "LEFT JOIN users u ON u.id = k.user_id "

bool alive(const Key& key, std::int64_t now) {
  return (key.revoked_us == 0 || key.revoked_us > now) && (key.expires_us == 0 || key.expires_us > now);
}

Result<Organisation> insert_organisation(Connection& c, const std::string& name, std::int64_t weight,
                                         std::int64_t now) {
  QW_ASSIGN(const Rows known, c.run("SELECT id FROM organisations WHERE name = $1", {name}));
  if (!known.empty()) return taken("organisation", name);
  Organisation made{fresh_id("org_"), name, weight, now, false};
  QW_TRY(c.run("INSERT INTO organisations (id, name, weight, created_us, disabled) VALUES ($1, $2, $3, $4, 0)",
               {made.id, name, weight, made.created_us}));
  return made;
}
Result<Project> insert_project(Connection& c, const std::string& organisation, const std::string& name,
                               std::int64_t weight, std::int64_t now) {
  QW_ASSIGN(const Organisation owner, find_organisation(c, organisation));
  QW_ASSIGN(const Rows known,
            c.run("SELECT id FROM projects WHERE organisation_id = $1 AND name = $2", {owner.id, name}));
  if (!known.empty()) return taken("project", name);
  Project made{fresh_id("proj_"), owner.id, name, weight, now, false};
  QW_TRY(c.run(
      "INSERT INTO projects (id, organisation_id, name, weight, created_us, disabled) VALUES ($1, $2, $3, $4, $5, 0)",
      {made.id, owner.id, name, weight, made.created_us}));
  return made;
}
Result<User> insert_user(Connection& c, const std::string& organisation, const std::string& name,
                         const std::vector<std::string>& roles, std::int64_t now) {
  QW_ASSIGN(const Organisation owner, find_organisation(c, organisation));
  QW_ASSIGN(const Rows known, c.run("SELECT id FROM users WHERE organisation_id = $1 AND name = $2", {owner.id, name}));
  if (!known.empty()) return taken("user", name);
  User made{fresh_id("user_"), owner.id, name, roles, now, false};
  QW_TRY(c.run("INSERT INTO users (id, organisation_id, name, created_us, disabled) VALUES ($1, $2, $3, $4, 0)",
               {made.id, owner.id, name, made.created_us}));
  QW_TRY(insert_roles(c, made.id, roles));
  return made;
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
Status Tenants::set_organisation(const std::string& where, std::optional<std::int64_t> weight,
                                 std::optional<bool> disabled) {
  if (weight) QW_TRY(check_weight(*weight));
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Organisation o, find_organisation(c, where));
    QW_TRY(c.run("UPDATE organisations SET weight = $1, disabled = $2 WHERE id = $3",
                 {weight.value_or(o.weight), std::int64_t{disabled.value_or(o.disabled)}, o.id}));
    return {};
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
Status Tenants::set_project(const std::string& where, std::optional<std::int64_t> weight,
                            std::optional<bool> disabled) {
  if (weight) QW_TRY(check_weight(*weight));
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Project p, find_project(c, where));
    QW_TRY(c.run("UPDATE projects SET weight = $1, disabled = $2 WHERE id = $3",
                 {weight.value_or(p.weight), std::int64_t{disabled.value_or(p.disabled)}, p.id}));
    return {};
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
    QW_ASSIGN(const Rows rows, c.run("SELECT id, organisation_id, name, created_us, disabled FROM users "
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
Status Tenants::set_user(const std::string& where, std::optional<std::vector<std::string>> roles,
                         std::optional<bool> disabled) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const User u, find_user(c, where));
    QW_TRY(c.run("UPDATE users SET disabled = $1 WHERE id = $2", {std::int64_t{disabled.value_or(u.disabled)}, u.id}));
    if (!roles) return {};
    QW_TRY(c.run("DELETE FROM user_roles WHERE user_id = $1", {u.id}));
    return insert_roles(c, u.id, *roles);
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
  if (!spec.name.empty()) QW_TRY(check_name("a key's name", spec.name));
  QW_TRY(check_words("a scope", spec.scopes));
  QW_TRY(check_words("a model's name", spec.models));
  QW_TRY(check_words("a network", spec.networks));
  if (spec.scopes.empty()) return fail(ErrorKind::kBadInput, "a key needs at least one scope (\"*\": all)");
  return work_.transact([&](Connection& c) -> Result<NewKey> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    if (spec.expires_us != 0 && spec.expires_us <= now)
      return fail(ErrorKind::kBadInput, "the key would have expired already");
    QW_ASSIGN(const Project project, find_project(c, spec.project));
    Key key;
    key.project_id = project.id;
    if (!spec.user.empty()) {
      QW_ASSIGN(const User user, find_user(c, spec.user));
      if (user.organisation_id != project.organisation_id)
        return fail(ErrorKind::kBadInput,
                    "user " + spec.user + " and project " + spec.project + " belong to different organisations");
      key.user_id = user.id;
    }
    key.name = spec.name;
    key.scopes = spec.scopes;
    key.models = spec.models;
    key.networks = spec.networks;
    key.expires_us = spec.expires_us;
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
Result<NewKey> Tenants::rotate_key(const std::string& where, std::int64_t grace_us) {
  return work_.transact([&](Connection& c) -> Result<NewKey> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Key old, find_key(c, where));
    if (!alive(old, now) || old.revoked_us != 0) return fail(ErrorKind::kBadInput, "key " + where + " has ended");
    QW_TRY(c.run("UPDATE keys SET revoked_us = $1 WHERE id = $2", {now + std::max<std::int64_t>(grace_us, 0), old.id}));
    Key key = old;
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
      QW_ASSIGN(const Rows heirs, c.run("SELECT id FROM keys WHERE rotated_from = $1 ORDER BY created_us DESC LIMIT 1", {next}));
      next = heirs.empty() ? "" : heirs[0].text(0);
    }
    return std::optional<Principal>();
  });
}

Result<std::string> Tenants::begin_session(const std::string& key_id, std::int64_t lasts_us,
                                           const std::string& remote) {
  const std::string secret = random_hex(32);
  const std::string hash = base::sha256_hex(secret);
  return work_.transact([&](Connection& c) -> Result<std::string> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_TRY(c.run("DELETE FROM sessions WHERE expires_us <= $1", {now}));
    QW_TRY(c.run("INSERT INTO sessions (hash, key_id, created_us, expires_us, remote) VALUES ($1, $2, $3, $4, $5)",
                 {hash, key_id, now, now + lasts_us, remote}));
    return secret;
  });
}
Result<std::optional<Principal>> Tenants::principal_of_session(std::string_view secret) {
  const std::string hash = base::sha256_hex(secret);
  return work_.transact([&](Connection& c) -> Result<std::optional<Principal>> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows rows,
              c.run(QW_PRINCIPAL_FROM "JOIN sessions s ON s.key_id = k.id WHERE s.hash = $1 AND s.expires_us > $2",
                    {hash, now}));
    if (rows.empty()) return std::optional<Principal>();
    QW_ASSIGN(Principal p, principal_of(c, rows[0]));
    if (!alive(p.key, now)) return std::optional<Principal>();
    return std::optional<Principal>(std::move(p));
  });
}
Status Tenants::end_session(std::string_view secret) {
  const std::string hash = base::sha256_hex(secret);
  return work_.transact([&](Connection& c) -> Status {
    QW_TRY(c.run("DELETE FROM sessions WHERE hash = $1", {hash}));
    return {};
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
