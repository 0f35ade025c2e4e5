#include "store/jobs.h"

#include "store/internal/work.h"

namespace qw::store {
namespace {

#define QW_JOB_COLUMNS \
  "id, project_id, kind, status, priority, attempts, created_us, changed_us, cancel_wanted, spec, state, pause_wanted"

Job job_of(const Row& r) {
  return {r.text(0),    r.text(1),    r.text(2),         r.text(3),          r.integer(4), r.integer(5),
          r.integer(6), r.integer(7), r.integer(8) != 0, r.integer(11) != 0, r.text(9),    r.text(10)};
}
tl::unexpected<Error> missing(const std::string& id) { return fail(ErrorKind::kBadInput, "there is no job " + id); }

// The row, locked, if the job runs here.
Result<Job> own(Connection& c, const std::string& id, const std::string& instance) {
  QW_ASSIGN(const Rows rows,
            c.run("SELECT " QW_JOB_COLUMNS " FROM jobs WHERE id = $1 AND instance = $2 AND status = 'running'" +
                      std::string(c.for_update()),
                  {id, instance}));
  if (rows.empty()) return fail(ErrorKind::kRefused, "job " + id + " runs elsewhere or has ended");
  return job_of(rows[0]);
}

Status add_records(Connection& c, const std::string& id, std::int64_t now, const std::vector<JobRecord>& records) {
  for (const JobRecord& record : records) {
    QW_TRY(
        c.run("INSERT INTO job_records (job_id, number, stream, created_us, body) "
              "SELECT $1, COALESCE(MAX(number) + 1, 0), $2, $3, $4 FROM job_records WHERE job_id = $1 AND stream = $2",
              {id, record.stream, now, record.body}));
  }
  return {};
}

// kResource if the project has all the jobs it may have. Its row is locked, so that two that come together are counted.
Status check_room(Connection& c, const std::string& project) {
  QW_TRY(c.run("SELECT id FROM projects WHERE id = $1" + std::string(c.for_update()), {project}));
  QW_ASSIGN(const Rows limits,
            c.run("SELECT jobs FROM subjects WHERE subject = $1 AND jobs > 0", {"project:" + project}));
  QW_ASSIGN(const Rows open,
            c.run("SELECT COUNT(*) FROM jobs WHERE project_id = $1 AND status IN ('queued', 'running')", {project}));
  const std::int64_t most = limits.empty() ? Jobs::kUsualMostOpen : limits[0].integer(0);
  if (open[0].integer(0) < most) return {};
  return fail(ErrorKind::kResource, "the project has " + std::to_string(open[0].integer(0)) +
                                        " unfinished jobs, its limit is " + std::to_string(most));
}

}  // namespace

Result<Job> Jobs::add(const std::string& id_prefix, const std::string& project_id, const std::string& kind,
                      const std::string& spec, std::int64_t priority) {
  return work_.transact([&](Connection& c) -> Result<Job> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_TRY(check_room(c, project_id));
    QW_ASSIGN(const Rows rows, c.run("INSERT INTO jobs (id, project_id, kind, status, priority, instance, lease_us, "
                                     "attempts, created_us, changed_us, "
                                     "cancel_wanted, spec, state) VALUES ($1, $2, $3, 'queued', $4, '', 0, 0, $5, $5, "
                                     "0, $6, '') RETURNING " QW_JOB_COLUMNS,
                                     {fresh_id(id_prefix), project_id, kind, priority, now, spec}));
    return job_of(rows[0]);
  });
}

Result<Job> Jobs::find(const std::string& project_id, const std::string& kind, const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<Job> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " QW_JOB_COLUMNS " FROM jobs WHERE id = $1 AND project_id = $2 AND kind = $3",
                    {id, project_id, kind}));
    if (rows.empty()) return missing(id);
    return job_of(rows[0]);
  });
}

Result<std::vector<Job>> Jobs::list(const std::string& project_id, const std::string& kind, const std::string& after,
                                    std::int64_t most) {
  return work_.transact([&](Connection& c) -> Result<std::vector<Job>> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " QW_JOB_COLUMNS " FROM jobs WHERE project_id = $1 AND kind = $2 AND ($3 = '' OR "
                    "created_us < (SELECT j.created_us FROM jobs j WHERE j.id = $3) OR (created_us = (SELECT "
                    "j.created_us FROM jobs j "
                    "WHERE j.id = $3) AND id < $3)) ORDER BY created_us DESC, id DESC LIMIT $4",
                    {project_id, kind, after, most}));
    std::vector<Job> out;
    for (const Row& r : rows) out.push_back(job_of(r));
    return out;
  });
}

Result<std::optional<Job>> Jobs::claim(const std::string& kind, const std::string& instance, std::int64_t lease_us) {
  return work_.transact([&](Connection& c) -> Result<std::optional<Job>> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    // What another service is just claiming is passed over.
    const std::string skip = c.dialect() == Dialect::kPostgres ? " FOR UPDATE SKIP LOCKED" : "";
    QW_ASSIGN(
        const Rows best,
        c.run("SELECT id FROM jobs WHERE kind = $1 AND (status = 'queued' OR (status = 'running' AND lease_us < $2)) "
              "ORDER BY priority DESC, created_us, id LIMIT 1" +
                  skip,
              {kind, now}));
    if (best.empty()) return std::optional<Job>();
    QW_ASSIGN(const Rows rows,
              c.run("UPDATE jobs SET status = 'running', instance = $1, lease_us = $2, attempts = attempts + 1, "
                    "changed_us = $3 WHERE id = $4 RETURNING " QW_JOB_COLUMNS,
                    {instance, now + lease_us, now, best[0].text(0)}));
    return std::optional<Job>(job_of(rows[0]));
  });
}

Result<JobWish> Jobs::advance(const std::string& id, const std::string& instance, std::int64_t lease_us,
                              const std::string& state, const std::vector<JobRecord>& records) {
  return work_.transact([&](Connection& c) -> Result<JobWish> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Job job, own(c, id, instance));
    QW_TRY(c.run("UPDATE jobs SET lease_us = $1, changed_us = $2, state = $3 WHERE id = $4",
                 {now + lease_us, now, state, id}));
    QW_TRY(add_records(c, id, now, records));
    return job.cancel_wanted ? JobWish::kCancel : job.pause_wanted ? JobWish::kPause : JobWish::kNone;
  });
}

Status Jobs::finish(const std::string& id, const std::string& instance, const std::string& status,
                    const std::string& state, const std::vector<JobRecord>& records) {
  if (status == "queued" || status == "running" || status == "paused")
    return fail(ErrorKind::kBadInput, "a job does not end as " + status);
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_TRY(own(c, id, instance));
    QW_TRY(c.run("UPDATE jobs SET status = $1, instance = '', lease_us = 0, changed_us = $2, state = $3 WHERE id = $4",
                 {status, now, state, id}));
    return add_records(c, id, now, records);
  });
}

Status Jobs::hold(const std::string& id, const std::string& instance, const std::string& state,
                  const std::vector<JobRecord>& records) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Job job, own(c, id, instance));
    const bool pause = job.pause_wanted && !job.cancel_wanted;
    QW_TRY(c.run("UPDATE jobs SET status = $1, instance = '', lease_us = 0, changed_us = $2, state = $3 WHERE id = $4",
                 {pause ? "paused" : "queued", now, state, id}));
    return add_records(c, id, now, records);
  });
}

Result<bool> Jobs::prepare(const std::string& id, const std::string& state, const std::vector<JobRecord>& records,
                           const std::string& ended) {
  return work_.transact([&](Connection& c) -> Result<bool> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows rows,
              c.run("UPDATE jobs SET state = $1, changed_us = $2, status = CASE WHEN $3 = '' THEN status ELSE $3 END "
                    "WHERE id = $4 AND state = '' AND status IN ('queued', 'paused') RETURNING id",
                    {state, now, ended, id}));
    if (rows.empty()) return false;
    QW_TRY(add_records(c, id, now, records));
    return true;
  });
}

Status Jobs::release(const std::string& id, const std::string& instance) {
  return work_.transact([&](Connection& c) -> Status {
    QW_TRY(own(c, id, instance));
    QW_TRY(c.run("UPDATE jobs SET status = 'queued', instance = '', lease_us = 0 WHERE id = $1", {id}));
    return {};
  });
}

Result<std::int64_t> Jobs::release_of_others(const std::string& instance) {
  return work_.transact([&](Connection& c) -> Result<std::int64_t> {
    QW_ASSIGN(const Rows rows, c.run("UPDATE jobs SET status = 'queued', instance = '', lease_us = 0 "
                                     "WHERE status = 'running' AND instance <> $1 RETURNING id",
                                     {instance}));
    return static_cast<std::int64_t>(rows.size());
  });
}

Result<Job> Jobs::cancel(const std::string& project_id, const std::string& kind, const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<Job> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(
        const Rows rows,
        c.run("UPDATE jobs SET cancel_wanted = CASE WHEN status = 'running' THEN 1 ELSE cancel_wanted END, "
              "changed_us = $1, status = CASE WHEN status IN ('queued', 'paused') THEN 'cancelled' ELSE status END "
              "WHERE id = $2 AND project_id = $3 AND kind = $4 RETURNING " QW_JOB_COLUMNS,
              {now, id, project_id, kind}));
    if (rows.empty()) return missing(id);
    return job_of(rows[0]);
  });
}

Result<Job> Jobs::pause(const std::string& project_id, const std::string& kind, const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<Job> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(
        const Rows rows,
        c.run("UPDATE jobs SET pause_wanted = CASE WHEN status IN ('queued', 'running') THEN 1 ELSE pause_wanted END, "
              "changed_us = CASE WHEN status IN ('queued', 'running') THEN $1 ELSE changed_us END, "
              "status = CASE WHEN status = 'queued' THEN 'paused' ELSE status END "
              "WHERE id = $2 AND project_id = $3 AND kind = $4 RETURNING " QW_JOB_COLUMNS,
              {now, id, project_id, kind}));
    if (rows.empty()) return missing(id);
    return job_of(rows[0]);
  });
}

Result<Job> Jobs::resume(const std::string& project_id, const std::string& kind, const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<Job> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows rows, c.run("UPDATE jobs SET pause_wanted = 0, "
                                     "changed_us = CASE WHEN status = 'paused' THEN $1 ELSE changed_us END, "
                                     "status = CASE WHEN status = 'paused' THEN 'queued' ELSE status END "
                                     "WHERE id = $2 AND project_id = $3 AND kind = $4 RETURNING " QW_JOB_COLUMNS,
                                     {now, id, project_id, kind}));
    if (rows.empty()) return missing(id);
    return job_of(rows[0]);
  });
}

Status Jobs::forget(const std::string& project_id, const std::string& kind, const std::string& id) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Rows rows, c.run("UPDATE jobs SET spec = '' WHERE id = $1 AND project_id = $2 AND kind = $3 AND "
                                     "status NOT IN ('queued', 'running', 'paused') RETURNING id",
                                     {id, project_id, kind}));
    if (rows.empty()) return missing(id);
    QW_TRY(c.run("DELETE FROM job_records WHERE job_id = $1", {id}));
    return {};
  });
}

Result<std::vector<JobRecord>> Jobs::records(const std::string& id, const std::string& stream, std::int64_t from,
                                             std::int64_t most) {
  return work_.transact([&](Connection& c) -> Result<std::vector<JobRecord>> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT stream, number, created_us, body FROM job_records WHERE job_id = $1 AND stream = $2 "
                    "AND number >= $3 ORDER BY number LIMIT $4",
                    {id, stream, from, most}));
    std::vector<JobRecord> out;
    for (const Row& r : rows) out.push_back({r.text(0), r.integer(1), r.integer(2), r.text(3)});
    return out;
  });
}

}  // namespace qw::store
