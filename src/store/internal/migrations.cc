#include "store/internal/migrations.h"

namespace qw::store {
namespace {

// BYTES and COUNTER stand for what the engines call differently. Times are microseconds since 1970; 0 = never. Money is
// in billionths of the currency's unit.
constexpr const char* kSteps[] = {
    // 1: whose requests are answered
    R"sql(
CREATE TABLE organisations (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, weight BIGINT NOT NULL, created_us BIGINT NOT NULL, disabled BIGINT NOT NULL);
CREATE TABLE projects (
  id TEXT PRIMARY KEY, organisation_id TEXT NOT NULL REFERENCES organisations(id), name TEXT NOT NULL,
  weight BIGINT NOT NULL, created_us BIGINT NOT NULL, disabled BIGINT NOT NULL, UNIQUE (organisation_id, name));
CREATE TABLE roles (name TEXT PRIMARY KEY, allow TEXT NOT NULL, deny TEXT NOT NULL, built_in BIGINT NOT NULL);
CREATE TABLE users (
  id TEXT PRIMARY KEY, organisation_id TEXT NOT NULL REFERENCES organisations(id), name TEXT NOT NULL,
  created_us BIGINT NOT NULL, disabled BIGINT NOT NULL, UNIQUE (organisation_id, name));
CREATE TABLE user_roles (
  user_id TEXT NOT NULL REFERENCES users(id), role TEXT NOT NULL REFERENCES roles(name), PRIMARY KEY (user_id, role));
CREATE TABLE keys (
  id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), user_id TEXT REFERENCES users(id),
  name TEXT NOT NULL, shown TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, scopes TEXT NOT NULL, models TEXT NOT NULL,
  networks TEXT NOT NULL, created_us BIGINT NOT NULL, expires_us BIGINT NOT NULL, revoked_us BIGINT NOT NULL,
  used_us BIGINT NOT NULL, rotated_from TEXT NOT NULL);
CREATE INDEX keys_project ON keys (project_id);
CREATE TABLE sessions (
  hash TEXT PRIMARY KEY, key_id TEXT NOT NULL REFERENCES keys(id), created_us BIGINT NOT NULL, expires_us BIGINT NOT NULL,
  remote TEXT NOT NULL);
INSERT INTO roles (name, allow, deny, built_in) VALUES
  ('owner', '*', '', 1),
  ('member', 'inference,models.read,files.*,batches.*,responses.*,usage.read', '', 1),
  ('viewer', 'models.read,usage.read', '', 1);
)sql",
    // 2: limits, money and the ledger
    R"sql(
CREATE TABLE subjects (
  subject TEXT PRIMARY KEY, requests_per_minute BIGINT NOT NULL, tokens_per_minute BIGINT NOT NULL,
  concurrency BIGINT NOT NULL, request_tat_us BIGINT NOT NULL, token_tat_us BIGINT NOT NULL, running BIGINT NOT NULL);
CREATE TABLE budgets (
  id TEXT PRIMARY KEY, subject TEXT NOT NULL REFERENCES subjects(subject), unit TEXT NOT NULL, period TEXT NOT NULL,
  amount BIGINT NOT NULL, spent BIGINT NOT NULL, reserved BIGINT NOT NULL, period_us BIGINT NOT NULL,
  UNIQUE (subject, unit, period));
CREATE TABLE prices (
  model TEXT PRIMARY KEY, currency TEXT NOT NULL, prompt BIGINT NOT NULL, cached BIGINT NOT NULL,
  reasoning BIGINT NOT NULL, output BIGINT NOT NULL);
CREATE TABLE reservations (
  id TEXT PRIMARY KEY, request_id TEXT NOT NULL, instance TEXT NOT NULL, key_id TEXT NOT NULL, user_id TEXT NOT NULL,
  project_id TEXT NOT NULL, organisation_id TEXT NOT NULL, model TEXT NOT NULL, created_us BIGINT NOT NULL,
  lease_us BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
  prompt_done BIGINT NOT NULL, cached_done BIGINT NOT NULL, reasoning_done BIGINT NOT NULL, output_done BIGINT NOT NULL,
  currency TEXT NOT NULL, price_prompt BIGINT NOT NULL, price_cached BIGINT NOT NULL, price_reasoning BIGINT NOT NULL,
  price_output BIGINT NOT NULL);
CREATE INDEX reservations_lease ON reservations (lease_us);
CREATE TABLE reservation_shares (
  reservation_id TEXT NOT NULL REFERENCES reservations(id), kind TEXT NOT NULL, target TEXT NOT NULL, amount BIGINT NOT NULL,
  PRIMARY KEY (reservation_id, kind, target));
CREATE TABLE usage_ledger (
  number COUNTER, reservation_id TEXT NOT NULL UNIQUE, request_id TEXT NOT NULL, key_id TEXT NOT NULL, user_id TEXT NOT NULL,
  project_id TEXT NOT NULL, organisation_id TEXT NOT NULL, model TEXT NOT NULL, outcome TEXT NOT NULL,
  started_us BIGINT NOT NULL, ended_us BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL,
  reasoning_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, currency TEXT NOT NULL, cost BIGINT NOT NULL);
CREATE INDEX usage_project ON usage_ledger (project_id, ended_us);
CREATE INDEX usage_ended ON usage_ledger (ended_us);
)sql",
    // 3: what clients leave with the service: files, jobs, stored answers
    R"sql(
CREATE TABLE files (
  id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), name TEXT NOT NULL, purpose TEXT NOT NULL,
  bytes BIGINT NOT NULL, parts BIGINT NOT NULL, complete BIGINT NOT NULL, created_us BIGINT NOT NULL, expires_us BIGINT NOT NULL);
CREATE INDEX files_project ON files (project_id, created_us);
CREATE TABLE file_parts (
  file_id TEXT NOT NULL REFERENCES files(id), part BIGINT NOT NULL, data BYTES NOT NULL, PRIMARY KEY (file_id, part));
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), kind TEXT NOT NULL, status TEXT NOT NULL,
  priority BIGINT NOT NULL, instance TEXT NOT NULL, lease_us BIGINT NOT NULL, attempts BIGINT NOT NULL,
  created_us BIGINT NOT NULL, changed_us BIGINT NOT NULL, cancel_wanted BIGINT NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL);
CREATE INDEX jobs_waiting ON jobs (kind, status, lease_us);
CREATE INDEX jobs_project ON jobs (project_id, kind, created_us);
CREATE TABLE job_records (
  job_id TEXT NOT NULL REFERENCES jobs(id), stream TEXT NOT NULL, number BIGINT NOT NULL, created_us BIGINT NOT NULL,
  body TEXT NOT NULL, PRIMARY KEY (job_id, stream, number));
CREATE TABLE documents (
  id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), kind TEXT NOT NULL, parent TEXT NOT NULL,
  created_us BIGINT NOT NULL, expires_us BIGINT NOT NULL, body TEXT NOT NULL);
CREATE INDEX documents_parent ON documents (parent, created_us);
CREATE INDEX documents_project ON documents (project_id, kind, created_us);
)sql",
    // 4: training is paid for, members may train, and a project has so many unfinished jobs at most
    R"sql(
UPDATE roles SET allow = 'inference,models.read,files.*,batches.*,responses.*,fine_tuning.*,usage.read'
  WHERE name = 'member' AND built_in = 1;
ALTER TABLE prices ADD COLUMN trained BIGINT NOT NULL DEFAULT 0;
ALTER TABLE reservations ADD COLUMN trained_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE reservations ADD COLUMN trained_done BIGINT NOT NULL DEFAULT 0;
ALTER TABLE reservations ADD COLUMN price_trained BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_ledger ADD COLUMN trained_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE subjects ADD COLUMN jobs BIGINT NOT NULL DEFAULT 0;
CREATE INDEX jobs_open ON jobs (project_id) WHERE status IN ('queued', 'running');
CREATE INDEX usage_request ON usage_ledger (request_id);
)sql",
    // 5: people with passwords or another's word for who they are; sessions that end when nobody uses them
    R"sql(
ALTER TABLE users ADD COLUMN email TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN project_id TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN password TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN external_id TEXT NOT NULL DEFAULT '';
CREATE INDEX users_email ON users (email);
CREATE UNIQUE INDEX users_external ON users (external_id) WHERE external_id <> '';
ALTER TABLE keys ADD COLUMN browser BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN idle_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN used_us BIGINT NOT NULL DEFAULT 0;
CREATE TABLE login_attempts (subject TEXT PRIMARY KEY, tat_us BIGINT NOT NULL);
)sql",
    // 6: jobs that are laid aside, which are unfinished all the same
    R"sql(
ALTER TABLE jobs ADD COLUMN pause_wanted BIGINT NOT NULL DEFAULT 0;
DROP INDEX jobs_open;
CREATE INDEX jobs_open ON jobs (project_id) WHERE status IN ('queued', 'running', 'paused');
)sql",
    // 7: what is rolled out, what people think of answers, data sets made of it, and who looks after them
    R"sql(
CREATE TABLE rollouts (
  project_id TEXT NOT NULL REFERENCES projects(id), name TEXT NOT NULL, stable TEXT NOT NULL, candidate TEXT NOT NULL,
  previous TEXT NOT NULL, share BIGINT NOT NULL, salt TEXT NOT NULL, evaluation TEXT NOT NULL, version BIGINT NOT NULL,
  changed_us BIGINT NOT NULL, PRIMARY KEY (project_id, name));
CREATE TABLE rollout_events (
  project_id TEXT NOT NULL REFERENCES projects(id), name TEXT NOT NULL, number BIGINT NOT NULL, created_us BIGINT NOT NULL,
  action TEXT NOT NULL, by_key TEXT NOT NULL, reason TEXT NOT NULL, stable TEXT NOT NULL, candidate TEXT NOT NULL,
  previous TEXT NOT NULL, share BIGINT NOT NULL, salt TEXT NOT NULL, evaluation TEXT NOT NULL, version BIGINT NOT NULL,
  PRIMARY KEY (project_id, name, number));
CREATE TABLE feedback (
  id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), answer_id TEXT NOT NULL, model TEXT NOT NULL,
  rating TEXT NOT NULL, comment TEXT NOT NULL, correction TEXT NOT NULL, status TEXT NOT NULL, by_key TEXT NOT NULL,
  by_user TEXT NOT NULL, reviewer TEXT NOT NULL, note TEXT NOT NULL, prompt TEXT NOT NULL, answer TEXT NOT NULL,
  digest TEXT NOT NULL, created_us BIGINT NOT NULL, changed_us BIGINT NOT NULL);
CREATE INDEX feedback_project ON feedback (project_id, status, created_us);
CREATE TABLE datasets (
  id TEXT PRIMARY KEY, project_id TEXT NOT NULL REFERENCES projects(id), name TEXT NOT NULL, number BIGINT NOT NULL,
  sha256 TEXT NOT NULL, examples BIGINT NOT NULL, pairs BIGINT NOT NULL, examples_file TEXT NOT NULL,
  pairs_file TEXT NOT NULL, examples_sha256 TEXT NOT NULL, pairs_sha256 TEXT NOT NULL, by_key TEXT NOT NULL,
  erased BIGINT NOT NULL, created_us BIGINT NOT NULL, UNIQUE (project_id, name, number));
CREATE TABLE dataset_items (
  dataset_id TEXT NOT NULL REFERENCES datasets(id), number BIGINT NOT NULL, feedback_id TEXT NOT NULL, digest TEXT NOT NULL,
  PRIMARY KEY (dataset_id, number));
CREATE INDEX dataset_items_feedback ON dataset_items (feedback_id);
UPDATE roles SET allow = 'inference,models.read,files.*,batches.*,responses.*,fine_tuning.*,feedback.*,lineage.read,usage.read'
  WHERE name = 'member' AND built_in = 1;
INSERT INTO roles (name, allow, deny, built_in) VALUES
  ('reviewer', 'models.read,feedback.*,reviews.*,datasets.*,lineage.read', '', 1),
  ('releaser', 'models.read,files.*,evaluations.*,rollouts.*,lineage.read', '', 1)
  ON CONFLICT (name) DO NOTHING;
)sql",
    // 8: what people complain of; members may take along and erase what is theirs; what the audit log's hashes of
    // somebody's words are salted with (a user's id, or a project's), so that they mean nothing once it is gone
    R"sql(
CREATE TABLE complaints (
  id TEXT PRIMARY KEY, project_id TEXT NOT NULL, user_id TEXT NOT NULL, receipt TEXT NOT NULL, kind TEXT NOT NULL,
  appeal_of TEXT NOT NULL, about TEXT NOT NULL, contact TEXT NOT NULL, text TEXT NOT NULL, status TEXT NOT NULL,
  answer TEXT NOT NULL, answered_by TEXT NOT NULL, created_us BIGINT NOT NULL, due_us BIGINT NOT NULL,
  answered_us BIGINT NOT NULL, closed_us BIGINT NOT NULL, erased_us BIGINT NOT NULL);
CREATE INDEX complaints_status ON complaints (status, created_us);
CREATE INDEX complaints_user ON complaints (user_id, created_us);
CREATE INDEX complaints_project ON complaints (project_id, created_us);
CREATE INDEX complaints_appeal ON complaints (appeal_of);
CREATE TABLE salts (subject TEXT PRIMARY KEY, salt TEXT NOT NULL);
UPDATE roles SET allow = allow || ',complaints.*,data.*' WHERE name = 'member' AND built_in = 1;
UPDATE roles SET allow = allow || ',complaints.*' WHERE name = 'viewer' AND built_in = 1;
)sql",
    // 9: what a policy counts of how people use the service, and who of them is a minor
    R"sql(
CREATE TABLE conduct (
  subject TEXT PRIMARY KEY, standing TEXT NOT NULL, until_us BIGINT NOT NULL, per_minute BIGINT NOT NULL,
  in_a_row BIGINT NOT NULL, today BIGINT NOT NULL, total BIGINT NOT NULL, last_us BIGINT NOT NULL,
  used_us BIGINT NOT NULL, since_us BIGINT NOT NULL, seen_us BIGINT NOT NULL, reminded_us BIGINT NOT NULL,
  slow_tat_us BIGINT NOT NULL, day BIGINT NOT NULL);
CREATE INDEX conduct_last ON conduct (last_us);
CREATE TABLE minors (
  subject TEXT PRIMARY KEY, age BIGINT NOT NULL, consent BIGINT NOT NULL, created_us BIGINT NOT NULL);
)sql",
    // 10: contents of audited requests, encrypted; the keys are elsewhere
    R"sql(
CREATE TABLE contents (
  id TEXT PRIMARY KEY, project_id TEXT NOT NULL, user_id TEXT NOT NULL, key_id TEXT NOT NULL, wrapped BYTES NOT NULL,
  body BYTES NOT NULL, created_us BIGINT NOT NULL, expires_us BIGINT NOT NULL, erased_us BIGINT NOT NULL);
CREATE INDEX contents_created ON contents (created_us);
CREATE INDEX contents_project ON contents (project_id, created_us);
CREATE INDEX contents_user ON contents (user_id, created_us);
CREATE INDEX contents_expires ON contents (expires_us) WHERE expires_us > 0 AND erased_us = 0;
)sql",
};

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

std::string in_dialect(std::string sql, Dialect dialect) {
  const bool postgres = dialect == Dialect::kPostgres;
  replace_all(sql, " BYTES ", postgres ? " BYTEA " : " BLOB ");
  replace_all(
      sql, " COUNTER,",
      postgres ? " BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY," : " INTEGER PRIMARY KEY AUTOINCREMENT,");
  return sql;
}

// Any number that nobody else uses: several services may start over an empty database at once.
constexpr const char* kMigrationLock = "SELECT pg_advisory_xact_lock(4158206112)";

Result<bool> step_forward(Connection& c, int version) {
  QW_TRY(c.begin());
  if (c.dialect() == Dialect::kPostgres) QW_TRY(c.script(kMigrationLock));
  QW_TRY(
      c.script("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT PRIMARY KEY, applied_us BIGINT NOT NULL)"));
  QW_ASSIGN(const Rows rows, c.run("SELECT COALESCE(MAX(version), 0) FROM schema_version", {}));
  const auto present = rows[0].integer(0);
  if (present > latest_version())
    return fail(ErrorKind::kBadInput, "the database is of version " + std::to_string(present) +
                                          ", this program knows " + std::to_string(latest_version()) +
                                          ": use a newer program");
  if (present >= version) {
    QW_TRY(c.commit());
    return false;
  }
  QW_TRY(c.script(in_dialect(kSteps[present], c.dialect())));
  QW_ASSIGN(const std::int64_t now, c.now_us());
  QW_TRY(c.run("INSERT INTO schema_version (version, applied_us) VALUES ($1, $2)", {present + 1, now})
             .map([](const Rows&) {}));
  QW_TRY(c.commit());
  return true;
}

}  // namespace

int latest_version() { return static_cast<int>(std::size(kSteps)); }

Result<int> version_of(Connection& c) {
  const char* sql =
      c.dialect() == Dialect::kPostgres
          ? "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'schema_version'"
          : "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'";
  QW_ASSIGN(const Rows known, c.run(sql, {}));
  if (known[0].integer(0) == 0) return 0;
  QW_ASSIGN(const Rows rows, c.run("SELECT COALESCE(MAX(version), 0) FROM schema_version", {}));
  return static_cast<int>(rows[0].integer(0));
}

Status migrate(Connection& c, int version) {
  // The usual start finds nothing to do, and waits for nobody's lock to learn that.
  QW_ASSIGN(const int present, version_of(c));
  if (present == latest_version()) return {};
  for (;;) {
    auto more = step_forward(c, version);
    if (!more) {
      c.roll_back();
      return tl::unexpected(more.error());
    }
    if (!*more) return {};
  }
}

const std::vector<TableInfo>& tables() {
  static const std::vector<TableInfo> all = {
      {"organisations", {"id", "name", "weight", "created_us", "disabled"}},
      {"projects", {"id", "organisation_id", "name", "weight", "created_us", "disabled"}},
      {"roles", {"name", "allow", "deny", "built_in"}},
      {"users",
       {"id", "organisation_id", "name", "created_us", "disabled", "email", "project_id", "password", "external_id"}},
      {"user_roles", {"user_id", "role"}, 2},
      {"keys",
       {"id", "project_id", "user_id", "name", "shown", "hash", "scopes", "models", "networks", "created_us",
        "expires_us", "revoked_us", "used_us", "rotated_from", "browser"}},
      {"sessions", {"hash", "key_id", "created_us", "expires_us", "remote", "idle_us", "used_us"}},
      {"login_attempts", {"subject", "tat_us"}},
      {"subjects",
       {"subject", "requests_per_minute", "tokens_per_minute", "concurrency", "request_tat_us", "token_tat_us",
        "running", "jobs"}},
      {"budgets", {"id", "subject", "unit", "period", "amount", "spent", "reserved", "period_us"}},
      {"prices", {"model", "currency", "prompt", "cached", "reasoning", "output", "trained"}},
      {"reservations", {"id",           "request_id",     "instance",        "key_id",
                        "user_id",      "project_id",     "organisation_id", "model",
                        "created_us",   "lease_us",       "prompt_tokens",   "output_tokens",
                        "prompt_done",  "cached_done",    "reasoning_done",  "output_done",
                        "currency",     "price_prompt",   "price_cached",    "price_reasoning",
                        "price_output", "trained_tokens", "trained_done",    "price_trained"}},
      {"reservation_shares", {"reservation_id", "kind", "target", "amount"}, 3},
      {"usage_ledger",
       {"number", "reservation_id", "request_id", "key_id", "user_id", "project_id", "organisation_id", "model",
        "outcome", "started_us", "ended_us", "prompt_tokens", "cached_tokens", "reasoning_tokens", "output_tokens",
        "currency", "cost", "trained_tokens"},
       1,
       true},
      {"files", {"id", "project_id", "name", "purpose", "bytes", "parts", "complete", "created_us", "expires_us"}},
      {"file_parts", {"file_id", "part", "data"}, 2},
      {"jobs",
       {"id", "project_id", "kind", "status", "priority", "instance", "lease_us", "attempts", "created_us",
        "changed_us", "cancel_wanted", "spec", "state", "pause_wanted"}},
      {"job_records", {"job_id", "stream", "number", "created_us", "body"}, 3},
      {"documents", {"id", "project_id", "kind", "parent", "created_us", "expires_us", "body"}},
      {"rollouts",
       {"project_id", "name", "stable", "candidate", "previous", "share", "salt", "evaluation", "version",
        "changed_us"},
       2},
      {"rollout_events",
       {"project_id", "name", "number", "created_us", "action", "by_key", "reason", "stable", "candidate", "previous",
        "share", "salt", "evaluation", "version"},
       3},
      {"feedback",
       {"id", "project_id", "answer_id", "model", "rating", "comment", "correction", "status", "by_key", "by_user",
        "reviewer", "note", "prompt", "answer", "digest", "created_us", "changed_us"}},
      {"datasets",
       {"id", "project_id", "name", "number", "sha256", "examples", "pairs", "examples_file", "pairs_file",
        "examples_sha256", "pairs_sha256", "by_key", "erased", "created_us"}},
      {"dataset_items", {"dataset_id", "number", "feedback_id", "digest"}, 2},
      {"complaints",
       {"id", "project_id", "user_id", "receipt", "kind", "appeal_of", "about", "contact", "text", "status", "answer",
        "answered_by", "created_us", "due_us", "answered_us", "closed_us", "erased_us"}},
      {"salts", {"subject", "salt"}},
      {"conduct",
       {"subject", "standing", "until_us", "per_minute", "in_a_row", "today", "total", "last_us", "used_us", "since_us",
        "seen_us", "reminded_us", "slow_tat_us", "day"}},
      {"minors", {"subject", "age", "consent", "created_us"}},
      {"contents",
       {"id", "project_id", "user_id", "key_id", "wrapped", "body", "created_us", "expires_us", "erased_us"}},
  };
  return all;
}

}  // namespace qw::store
