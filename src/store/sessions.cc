// Tenants: how people log in with a browser, and stay.
#include <algorithm>

#include "base/sha256.h"
#include "store/internal/admission.h"
#include "store/internal/tenant_rows.h"
#include "store/tenants.h"

namespace qw::store {
namespace {

// A session's use is noted this often, so that reading does not write each time; but within a tenth of its idle time.
constexpr std::int64_t kUseNotedUs = 60'000'000;

Result<std::string> insert_session(Connection& c, const std::string& key_id, std::int64_t now, std::int64_t lasts_us,
                                   std::int64_t idle_us, const std::string& remote) {
  std::string secret = random_hex(32);
  QW_TRY(c.run("DELETE FROM sessions WHERE expires_us <= $1 OR (idle_us > 0 AND used_us + idle_us <= $1)", {now}));
  QW_TRY(
      c.run("INSERT INTO sessions (hash, key_id, created_us, expires_us, remote, idle_us, used_us) "
            "VALUES ($1, $2, $3, $4, $5, $6, $3)",
            {base::sha256_hex(secret), key_id, now, now + lasts_us, remote, idle_us}));
  return secret;
}

// Where a user works in a browser: his own choice, else the oldest project of his organisation.
Result<std::string> home_of(Connection& c, const User& user) {
  if (!user.project_id.empty()) return user.project_id;
  QW_ASSIGN(const Rows rows, c.run("SELECT id FROM projects WHERE organisation_id = $1 AND disabled = 0 "
                                   "ORDER BY created_us, id LIMIT 1",
                                   {user.organisation_id}));
  if (rows.empty()) return fail(ErrorKind::kBadInput, "the organisation of " + user.name + " has no project");
  return rows[0].text(0);
}

// The key of a user's browsers in his project.
Result<Key> browser_key(Connection& c, const User& user, std::int64_t now) {
  QW_ASSIGN(const std::string project, home_of(c, user));
  QW_ASSIGN(const Rows rows,
            c.run("SELECT " QW_KEY_COLUMNS " FROM keys k WHERE k.user_id = $1 AND k.project_id = $2 AND k.browser = 1 "
                  "AND k.revoked_us = 0 ORDER BY k.created_us, k.id LIMIT 1",
                  {user.id, project}));
  if (!rows.empty()) return key_of(rows[0]);
  Key key;
  key.project_id = project;
  key.user_id = user.id;
  key.name = "browser";
  key.scopes = {"*"};
  return insert_key(c, std::move(key), now, true).map([](NewKey made) { return std::move(made.key); });
}

}  // namespace

Result<std::string> Tenants::begin_session(const std::string& key_id, std::int64_t lasts_us, const std::string& remote,
                                           std::int64_t idle_us) {
  return work_.transact([&](Connection& c) -> Result<std::string> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    return insert_session(c, key_id, now, lasts_us, idle_us, remote);
  });
}

Result<NewSession> Tenants::begin_user_session(const std::string& user_id, std::int64_t lasts_us, std::int64_t idle_us,
                                               const std::string& remote) {
  return work_.transact([&](Connection& c) -> Result<NewSession> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const User user, find_user(c, user_id));
    NewSession made;
    QW_ASSIGN(made.key, browser_key(c, user, now));
    QW_ASSIGN(made.secret, insert_session(c, made.key.id, now, lasts_us, idle_us, remote));
    return made;
  });
}

Result<std::optional<Principal>> Tenants::principal_of_session(std::string_view secret) {
  const std::string hash = base::sha256_hex(secret);
  return work_.transact([&](Connection& c) -> Result<std::optional<Principal>> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows session, c.run("SELECT used_us, idle_us FROM sessions WHERE hash = $1 AND expires_us > $2 "
                                        "AND (idle_us = 0 OR used_us + idle_us > $2)",
                                        {hash, now}));
    if (session.empty()) return std::optional<Principal>();
    QW_ASSIGN(const Rows rows, c.run(QW_PRINCIPAL_FROM "JOIN sessions s ON s.key_id = k.id WHERE s.hash = $1", {hash}));
    if (rows.empty()) return std::optional<Principal>();
    QW_ASSIGN(Principal p, principal_of(c, rows[0]));
    if (!alive(p.key, now)) return std::optional<Principal>();
    const std::int64_t idle = session[0].integer(1);
    const std::int64_t noted = idle == 0 ? kUseNotedUs : std::min(kUseNotedUs, idle / 10);
    if (session[0].integer(0) + noted <= now)
      QW_TRY(c.run("UPDATE sessions SET used_us = $1 WHERE hash = $2", {now, hash}));
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

Result<std::int64_t> Tenants::end_sessions_of(const Key& key) {
  return work_.transact([&](Connection& c) -> Result<std::int64_t> {
    QW_ASSIGN(const Rows rows,
              c.run("DELETE FROM sessions WHERE key_id = $1 OR key_id IN (SELECT id FROM keys WHERE user_id = $2) "
                    "RETURNING hash",
                    {key.id, key.user_id}));
    return static_cast<std::int64_t>(rows.size());
  });
}

Result<Login> Tenants::login(const std::string& name) {
  return work_.transact([&](Connection& c) -> Result<Login> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT id, password FROM users WHERE name = $1 OR (email <> '' AND email = $1) LIMIT 2", {name}));
    if (rows.size() != 1) return Login();
    return Login{rows[0].text(0), rows[0].text(1)};
  });
}

Result<User> Tenants::user_of_provider(const std::string& external_id, const std::string& organisation,
                                       const std::string& name, const std::string& email,
                                       const std::vector<std::string>& roles) {
  QW_TRY(check_name("a user's name", name));
  if (external_id.empty()) return fail(ErrorKind::kBadInput, "a provider's user has an id");
  return work_.transact([&](Connection& c) -> Result<User> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows known, c.run("SELECT id FROM users WHERE external_id = $1", {external_id}));
    std::string id = known.empty() ? "" : known[0].text(0);
    if (known.empty()) {
      QW_ASSIGN(const User made, insert_user(c, organisation, name, roles, now));
      id = made.id;
    } else {
      QW_TRY(set_roles(c, id, roles));
    }
    QW_TRY(c.run("UPDATE users SET external_id = $1, email = $2 WHERE id = $3", {external_id, email, id}));
    return find_user(c, id);
  });
}

Result<std::int64_t> Tenants::attempt(const std::vector<AttemptLimit>& limits) {
  return work_.transact([&](Connection& c) -> Result<std::int64_t> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_TRY(c.run("DELETE FROM login_attempts WHERE tat_us <= $1", {now}));
    std::int64_t wait = 0;
    for (const AttemptLimit& limit : limits) {
      QW_TRY(c.run("INSERT INTO login_attempts (subject, tat_us) VALUES ($1, $2) ON CONFLICT (subject) DO NOTHING",
                   {limit.subject, now}));
      QW_ASSIGN(
          const Rows rows,
          c.run("SELECT tat_us FROM login_attempts WHERE subject = $1" + std::string(c.for_update()), {limit.subject}));
      Rate rate{limit.a_minute, rows.empty() ? now : rows[0].integer(0)};
      if (const std::int64_t this_one = rate.wait_us(1, now); this_one != 0) {
        wait = std::max(wait, this_one);
        continue;
      }
      rate.take(1, now);
      QW_TRY(c.run("UPDATE login_attempts SET tat_us = $1 WHERE subject = $2", {rate.tat_us, limit.subject}));
    }
    return wait;
  });
}

}  // namespace qw::store
