#include "store/internal/tenant_rows.h"

#include <algorithm>

#include "base/sha256.h"
#include "base/utf8.h"
#include "store/internal/conduct_rows.h"

namespace qw::store {
namespace {

constexpr std::size_t kLongestName = 200;     // bytes; fits every table and header
constexpr std::size_t kShownCharacters = 14;  // "sk-qw-" and 8: enough to tell keys apart, useless to guess with
constexpr std::int64_t kMostWeight = 1000;
constexpr std::size_t kSaltBytes = 32;

// The one row that an id or a name means.
Result<Row> only(Connection& c, const std::string& what, const std::string& sql, const std::string& where) {
  QW_ASSIGN(const Rows rows, c.run(sql, {where}));
  if (rows.empty()) return missing(what, where);
  if (rows.size() > 1)
    return fail(ErrorKind::kBadInput, "several have the name " + where + ": give the id of the " + what);
  return rows[0];
}

}  // namespace

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

Status check_free(Connection& c, const std::string& what, const std::string& name, const std::string& owner,
                  const std::string& self) {
  const std::string sql = "SELECT id FROM " + what + "s WHERE name = $1 AND id <> $2";
  QW_ASSIGN(const Rows known,
            owner.empty() ? c.run(sql, {name, self}) : c.run(sql + " AND organisation_id = $3", {name, self, owner}));
  return known.empty() ? Status() : taken(what, name);
}

Organisation organisation_of(const Row& r) {
  return {r.text(0), r.text(1), r.integer(2), r.integer(3), r.integer(4) != 0};
}
Project project_of(const Row& r) {
  return {r.text(0), r.text(1), r.text(2), r.integer(3), r.integer(4), r.integer(5) != 0};
}
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
  User user;
  user.id = r.text(0);
  user.organisation_id = r.text(1);
  user.name = r.text(2);
  user.created_us = r.integer(3);
  user.disabled = r.integer(4) != 0;
  user.email = r.text(5);
  user.project_id = r.text(6);
  user.has_password = !r.text(7).empty();
  user.external_id = r.text(8);
  QW_ASSIGN(const Rows rows, c.run("SELECT role FROM user_roles WHERE user_id = $1 ORDER BY role", {user.id}));
  for (const Row& row : rows) user.roles.push_back(row.text(0));
  return user;
}
Result<User> find_user(Connection& c, const std::string& where) {
  QW_ASSIGN(const Row row, only(c, "user", "SELECT " QW_USER_COLUMNS " FROM users WHERE id = $1 OR name = $1", where));
  return with_roles(c, row);
}
Result<Key> find_key(Connection& c, const std::string& where) {
  return only(c, "key", "SELECT " QW_KEY_COLUMNS " FROM keys k WHERE k.id = $1 OR k.shown = $1", where).map(key_of);
}

Status set_roles(Connection& c, const std::string& user, std::vector<std::string> roles) {
  QW_TRY(c.run("DELETE FROM user_roles WHERE user_id = $1", {user}));
  std::sort(roles.begin(), roles.end());
  roles.erase(std::unique(roles.begin(), roles.end()), roles.end());
  for (const std::string& role : roles) {
    QW_ASSIGN(const Rows known, c.run("SELECT name FROM roles WHERE name = $1", {role}));
    if (known.empty()) return missing("role", role);
    QW_TRY(c.run("INSERT INTO user_roles (user_id, role) VALUES ($1, $2)", {user, role}));
  }
  return {};
}

Result<NewKey> insert_key(Connection& c, Key key, std::int64_t now, bool browser) {
  NewKey made;
  made.secret = "sk-qw-" + random_hex(32);
  if (key.id.empty()) key.id = fresh_id("key_");
  key.shown = made.secret.substr(0, kShownCharacters);
  key.created_us = now;
  QW_TRY(c.run(
      "INSERT INTO keys (id, project_id, user_id, name, shown, hash, scopes, models, networks, created_us, expires_us, "
      "revoked_us, used_us, rotated_from, browser) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, 0, $12, "
      "$13)",
      {key.id, key.project_id, key.user_id.empty() ? Value() : Value(key.user_id), key.name, key.shown,
       base::sha256_hex(made.secret), join(key.scopes), join(key.models), join(key.networks), now, key.expires_us,
       key.rotated_from, std::int64_t{browser}}));
  made.key = std::move(key);
  return made;
}

// Made when somebody is first met; of whoever was erased there is none any more.
Result<std::string> salt_of(Connection& c, const Principal& p) {
  const std::string& subject = p.key.user_id.empty() ? p.key.project_id : p.key.user_id;
  QW_TRY(c.run("INSERT INTO salts (subject, salt) VALUES ($1, $2) ON CONFLICT (subject) DO NOTHING",
               {subject, random_hex(kSaltBytes)}));
  QW_ASSIGN(const Rows rows, c.run("SELECT salt FROM salts WHERE subject = $1", {subject}));
  return rows[0].text(0);
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
  p.salt = r.text(22);
  QW_ASSIGN(
      const Rows minors,
      c.run("SELECT subject, age, consent, created_us FROM minors WHERE subject IN ($1, $2, $3) ORDER BY age, consent "
            "LIMIT 1",
            {p.key.user_id, p.key.id, p.key.project_id}));
  if (!minors.empty()) p.minor = minor_of(minors[0]);
  if (p.salt.empty() && !p.disabled && p.key.revoked_us == 0) {
    QW_ASSIGN(p.salt, salt_of(c, p));
  }
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
bool alive(const Key& key, std::int64_t now) {
  return (key.revoked_us == 0 || key.revoked_us > now) && (key.expires_us == 0 || key.expires_us > now);
}

Result<Organisation> insert_organisation(Connection& c, const std::string& name, std::int64_t weight,
                                         std::int64_t now) {
  QW_TRY(check_free(c, "organisation", name, ""));
  Organisation made{fresh_id("org_"), name, weight, now, false};
  QW_TRY(c.run("INSERT INTO organisations (id, name, weight, created_us, disabled) VALUES ($1, $2, $3, $4, 0)",
               {made.id, name, weight, made.created_us}));
  return made;
}
Result<Project> insert_project(Connection& c, const std::string& organisation, const std::string& name,
                               std::int64_t weight, std::int64_t now) {
  QW_ASSIGN(const Organisation owner, find_organisation(c, organisation));
  QW_TRY(check_free(c, "project", name, owner.id));
  Project made{fresh_id("proj_"), owner.id, name, weight, now, false};
  QW_TRY(c.run(
      "INSERT INTO projects (id, organisation_id, name, weight, created_us, disabled) VALUES ($1, $2, $3, $4, $5, 0)",
      {made.id, owner.id, name, weight, made.created_us}));
  return made;
}
Result<User> insert_user(Connection& c, const std::string& organisation, const std::string& name,
                         const std::vector<std::string>& roles, std::int64_t now) {
  QW_ASSIGN(const Organisation owner, find_organisation(c, organisation));
  QW_TRY(check_free(c, "user", name, owner.id));
  User made;
  made.id = fresh_id("user_");
  made.organisation_id = owner.id;
  made.name = name;
  made.roles = roles;
  made.created_us = now;
  QW_TRY(c.run("INSERT INTO users (id, organisation_id, name, created_us, disabled) VALUES ($1, $2, $3, $4, 0)",
               {made.id, owner.id, name, made.created_us}));
  QW_TRY(set_roles(c, made.id, roles));
  return made;
}

}  // namespace qw::store
