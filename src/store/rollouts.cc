#include "store/rollouts.h"

#include "store/internal/work.h"

namespace qw::store {
namespace {

#define QW_ROLLOUT_COLUMNS "project_id, name, stable, candidate, previous, share, salt, evaluation, version, changed_us"
#define QW_ROLLOUT_EVENT_COLUMNS                                                                                  \
  "project_id, name, stable, candidate, previous, share, salt, evaluation, version, created_us, number, action, " \
  "by_key, reason"

Rollout rollout_of(const Row& r) {
  return {r.text(0),    r.text(1), r.text(2), r.text(3),    r.text(4),
          r.integer(5), r.text(6), r.text(7), r.integer(8), r.integer(9)};
}
RolloutEvent event_of(const Row& r) {
  return {r.integer(10), r.integer(9), r.text(11), r.text(12), rollout_of(r), r.text(13)};
}

Status write_event(Connection& c, const Rollout& after, const std::string& action, const std::string& by,
                   const std::string& reason) {
  QW_TRY(c.run(
      "INSERT INTO rollout_events (project_id, name, number, created_us, action, by_key, reason, stable, candidate, "
      "previous, share, salt, evaluation, version) "
      "SELECT $1, $2, COALESCE(MAX(number) + 1, 1), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 "
      "FROM rollout_events WHERE project_id = $1 AND name = $2",
      {after.project_id, after.name, after.changed_us, action, by, reason, after.stable, after.candidate,
       after.previous, after.share, after.salt, after.evaluation, after.version}));
  return {};
}

// The row, locked; version 0: there is none.
Result<Rollout> present(Connection& c, const std::string& project, const std::string& name) {
  QW_ASSIGN(const Rows rows, c.run("SELECT " QW_ROLLOUT_COLUMNS " FROM rollouts WHERE project_id = $1 AND name = $2" +
                                       std::string(c.for_update()),
                                   {project, name}));
  return rows.empty() ? Rollout{} : rollout_of(rows[0]);
}

Status check_version(const Rollout& there, const Rollout& wanted) {
  if (there.version == wanted.version) return {};
  if (wanted.version == 0) return fail(ErrorKind::kBadInput, "rollout " + wanted.name + " exists already");
  return fail(ErrorKind::kRefused, "rollout " + wanted.name + " was changed meanwhile");
}

}  // namespace

Result<Rollout> Rollouts::change(Rollout wanted, const std::string& action, const std::string& by,
                                 const std::string& reason) {
  if (wanted.name.empty() || wanted.stable.empty())
    return fail(ErrorKind::kBadInput, "a rollout has a name and a model");
  if (wanted.share < 0 || wanted.share > Rollout::kWhole || (wanted.candidate.empty() && wanted.share > 0))
    return fail(ErrorKind::kBadInput,
                "a candidate's share is 0 to " + std::to_string(Rollout::kWhole) + ", and without one 0");
  return work_.transact([&](Connection& c) -> Result<Rollout> {
    Rollout next = wanted;
    QW_ASSIGN(next.changed_us, work_.now_us(c));
    QW_ASSIGN(const Rollout there, present(c, wanted.project_id, wanted.name));
    QW_TRY(check_version(there, wanted));
    if (next.candidate.empty())
      next.salt = next.evaluation = "";
    else
      next.salt = next.candidate == there.candidate ? there.salt : random_hex(8);
    ++next.version;
    QW_TRY(c.run("INSERT INTO rollouts (" QW_ROLLOUT_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
                 "ON CONFLICT (project_id, name) DO UPDATE SET stable = $3, candidate = $4, previous = $5, share = $6, "
                 "salt = $7, evaluation = $8, version = $9, changed_us = $10",
                 {next.project_id, next.name, next.stable, next.candidate, next.previous, next.share, next.salt,
                  next.evaluation, next.version, next.changed_us}));
    QW_TRY(write_event(c, next, action, by, reason));
    return next;
  });
}

Result<Rollout> Rollouts::find(const std::string& project_id, const std::string& name) {
  return work_.transact([&](Connection& c) -> Result<Rollout> {
    QW_ASSIGN(const Rows rows, c.run("SELECT " QW_ROLLOUT_COLUMNS " FROM rollouts WHERE project_id = $1 AND name = $2",
                                     {project_id, name}));
    if (rows.empty()) return fail(ErrorKind::kBadInput, "there is no rollout " + name);
    return rollout_of(rows[0]);
  });
}

Result<std::vector<Rollout>> Rollouts::all(const std::string& project_id) {
  return work_.transact([&](Connection& c) -> Result<std::vector<Rollout>> {
    QW_ASSIGN(const Rows rows, c.run("SELECT " QW_ROLLOUT_COLUMNS " FROM rollouts WHERE $1 = '' OR project_id = $1 "
                                     "ORDER BY project_id, name",
                                     {project_id}));
    std::vector<Rollout> out;
    for (const Row& r : rows) out.push_back(rollout_of(r));
    return out;
  });
}

Status Rollouts::remove(const Rollout& rollout, const std::string& by, const std::string& reason) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(Rollout there, present(c, rollout.project_id, rollout.name));
    if (there.version == 0) return fail(ErrorKind::kBadInput, "there is no rollout " + rollout.name);
    QW_TRY(check_version(there, rollout));
    QW_TRY(c.run("DELETE FROM rollouts WHERE project_id = $1 AND name = $2", {rollout.project_id, rollout.name}));
    QW_ASSIGN(there.changed_us, work_.now_us(c));
    return write_event(c, there, "remove", by, reason);
  });
}

Result<std::vector<RolloutEvent>> Rollouts::history(const std::string& project_id, const std::string& name,
                                                    std::int64_t before, std::int64_t most) {
  return work_.transact([&](Connection& c) -> Result<std::vector<RolloutEvent>> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " QW_ROLLOUT_EVENT_COLUMNS " FROM rollout_events WHERE project_id = $1 AND "
                    "name = $2 AND ($3 = 0 OR number < $3) ORDER BY number DESC LIMIT $4",
                    {project_id, name, before, most}));
    std::vector<RolloutEvent> out;
    for (const Row& r : rows) out.push_back(event_of(r));
    return out;
  });
}

Result<std::vector<RolloutEvent>> Rollouts::of_model(const std::string& project_id, const std::string& model) {
  return work_.transact([&](Connection& c) -> Result<std::vector<RolloutEvent>> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " QW_ROLLOUT_EVENT_COLUMNS " FROM rollout_events WHERE project_id = $1 AND "
                    "(stable = $2 OR candidate = $2) ORDER BY created_us, name, number",
                    {project_id, model}));
    std::vector<RolloutEvent> out;
    for (const Row& r : rows) out.push_back(event_of(r));
    return out;
  });
}

}  // namespace qw::store
