#include "store/personal_data.h"

#include <algorithm>

#include "store/internal/complaint_rows.h"
#include "store/internal/conduct_rows.h"
#include "store/internal/content_rows.h"
#include "store/internal/feedback_rows.h"
#include "store/internal/tenant_rows.h"

namespace qw::store {
namespace {

std::int64_t count(const Rows& rows) { return static_cast<std::int64_t>(rows.size()); }

// Cuts what is one more than was asked for.
template <class T>
bool cut(std::vector<T>& list, std::int64_t most) {
  if (static_cast<std::int64_t>(list.size()) <= most) return false;
  list.resize(static_cast<std::size_t>(most));
  return true;
}

Status collect_user(Connection& c, const std::string& id, std::int64_t most, HeldData& out) {
  QW_ASSIGN(out.user, find_user(c, id));
  QW_ASSIGN(const Rows keys,
            c.run("SELECT " QW_KEY_COLUMNS " FROM keys k WHERE k.user_id = $1 ORDER BY k.created_us, k.id LIMIT $2",
                  {out.user->id, most + 1}));
  for (const Row& r : keys) out.keys.push_back(key_of(r));
  QW_ASSIGN(
      const Rows sessions,
      c.run("SELECT COUNT(*) FROM sessions s JOIN keys k ON k.id = s.key_id WHERE k.user_id = $1", {out.user->id}));
  out.sessions = sessions[0].integer(0);
  QW_ASSIGN(const Rows usage, c.run("SELECT COUNT(*) FROM usage_ledger WHERE user_id = $1", {out.user->id}));
  out.usage_rows = usage[0].integer(0);
  return {};
}

Status collect_project(Connection& c, const std::string& id, std::int64_t most, HeldData& out) {
  QW_ASSIGN(const Rows files,
            c.run("SELECT id, project_id, name, purpose, bytes, complete, created_us, expires_us FROM "
                  "files WHERE project_id = $1 ORDER BY created_us, id LIMIT $2",
                  {id, most + 1}));
  for (const Row& r : files)
    out.files.push_back(
        {r.text(0), r.text(1), r.text(2), r.text(3), r.integer(4), r.integer(5) != 0, r.integer(6), r.integer(7)});
  QW_ASSIGN(const Rows documents,
            c.run("SELECT id, project_id, kind, parent, created_us, expires_us, body FROM documents "
                  "WHERE project_id = $1 ORDER BY created_us, id LIMIT $2",
                  {id, most + 1}));
  for (const Row& r : documents)
    out.documents.push_back({r.text(0), r.text(1), r.text(2), r.text(3), r.integer(4), r.integer(5), r.text(6)});
  QW_ASSIGN(const Rows jobs,
            c.run("SELECT id, project_id, kind, status, priority, attempts, created_us, changed_us, "
                  "cancel_wanted, pause_wanted, spec, state FROM jobs WHERE project_id = $1 ORDER BY created_us, id "
                  "LIMIT $2",
                  {id, most + 1}));
  for (const Row& r : jobs)
    out.jobs.push_back({r.text(0), r.text(1), r.text(2), r.text(3), r.integer(4), r.integer(5), r.integer(6),
                        r.integer(7), r.integer(8) != 0, r.integer(9) != 0, r.text(10), r.text(11)});
  return {};
}

Status collect_complaints(Connection& c, const DataSubject& s, std::int64_t most, HeldData& out) {
  const bool by_user = !s.user_id.empty();
  QW_ASSIGN(const Rows rows,
            c.run("SELECT " QW_COMPLAINT_COLUMNS " FROM complaints WHERE " +
                      std::string(by_user ? "user_id" : "project_id") + " = $1 ORDER BY created_us, id LIMIT $2",
                  {by_user ? s.user_id : s.project_id, most + 1}));
  for (const Row& r : rows) out.complaints.push_back(complaint_of(r));
  return {};
}

// What he said of answers, or all that was said in the project; and the data sets that have some of it.
Status collect_feedback(Connection& c, const DataSubject& s, std::int64_t most, HeldData& out) {
  const bool whole = !s.project_id.empty();
  const std::string mine = whole ? "project_id = $1" : "by_user = $1";
  const std::vector<Value> who = {Value(whole ? s.project_id : s.user_id), Value(most + 1)};
  QW_ASSIGN(
      const Rows said,
      c.run("SELECT " QW_FEEDBACK_COLUMNS " FROM feedback WHERE " + mine + " ORDER BY created_us, id LIMIT $2", who));
  for (const Row& r : said) out.feedback.push_back(feedback_of(r));
  QW_ASSIGN(const Rows sets,
            c.run("SELECT " QW_DATASET_COLUMNS " FROM datasets WHERE id IN (SELECT i.dataset_id FROM dataset_items i "
                  "JOIN feedback f ON f.id = i.feedback_id WHERE f." +
                      mine + ") ORDER BY created_us, id LIMIT $2",
                  who));
  for (const Row& r : sets) out.datasets.push_back(dataset_of(r));
  return {};
}

// Of the user himself, of the project, and of its keys that are nobody's: "" is nobody's id.
constexpr const char* kTheirs =
    " IN ($1, $2) OR subject IN (SELECT k.id FROM keys k WHERE k.project_id = $2 AND k.user_id IS NULL) OR "
    "($2 <> '' AND substr(subject, 1, length($2) + 2) = $2 || '.u')";

Status collect_conduct(Connection& c, const DataSubject& s, std::int64_t most, HeldData& out) {
  QW_ASSIGN(const Rows rows, c.run("SELECT " QW_CONDUCT_COLUMNS " FROM conduct WHERE subject" + std::string(kTheirs) +
                                       " ORDER BY subject LIMIT $3",
                                   {s.user_id, s.project_id, most}));
  for (const Row& r : rows) out.conduct.push_back(conduct_of(r));
  QW_ASSIGN(const Rows minors, c.run("SELECT subject, age, consent, created_us FROM minors WHERE subject" +
                                         std::string(kTheirs) + " ORDER BY subject LIMIT $3",
                                     {s.user_id, s.project_id, most}));
  for (const Row& r : minors) out.minors.push_back(minor_of(r));
  return {};
}

Status collect_contents(Connection& c, const DataSubject& s, std::int64_t most, HeldData& out) {
  QW_ASSIGN(const Rows rows,
            c.run("SELECT " QW_CONTENT_COLUMNS
                  " FROM contents WHERE erased_us = 0 AND ((user_id = $1 AND $1 <> '') OR (project_id = "
                  "$2 AND $2 <> '')) ORDER BY created_us, id LIMIT $3",
                  {s.user_id, s.project_id, most + 1}));
  for (const Row& r : rows) out.contents.push_back(content_of(r));
  return {};
}

// Somebody must be left who may do everything.
Status check_owner(Connection& c, const User& user) {
  if (std::find(user.roles.begin(), user.roles.end(), "owner") == user.roles.end()) return {};
  QW_ASSIGN(const Rows others,
            c.run("SELECT COUNT(*) FROM user_roles r JOIN users u ON u.id = r.user_id WHERE r.role = "
                  "'owner' AND u.disabled = 0 AND u.id <> $1",
                  {user.id}));
  if (others[0].integer(0) > 0) return {};
  return fail(ErrorKind::kRefused, user.name + " is the last owner; give somebody else that role first");
}

Status erase_user(Connection& c, const std::string& id, std::int64_t now, ErasedData& out) {
  QW_ASSIGN(const User user, find_user(c, id));
  QW_TRY(check_owner(c, user));
  QW_ASSIGN(const Rows sessions,
            c.run("DELETE FROM sessions WHERE key_id IN (SELECT k.id FROM keys k WHERE k.user_id = $1) "
                  "RETURNING hash",
                  {user.id}));
  out.sessions += count(sessions);
  QW_ASSIGN(const Rows keys,
            c.run("UPDATE keys SET name = '', networks = '', revoked_us = CASE WHEN revoked_us = 0 THEN $1 "
                  "ELSE revoked_us END WHERE user_id = $2 RETURNING id",
                  {now, user.id}));
  out.keys += count(keys);
  QW_TRY(
      c.run("UPDATE users SET name = $1, email = '', external_id = '', password = '', project_id = '', disabled = 1 "
            "WHERE id = $2",
            {"erased-" + user.id, user.id}));
  ++out.users;
  return {};
}

Status erase_project(Connection& c, const std::string& id, ErasedData& out) {
  QW_ASSIGN(
      const Rows open,
      c.run("SELECT COUNT(*) FROM jobs WHERE project_id = $1 AND status IN ('queued', 'running', 'paused')", {id}));
  if (open[0].integer(0) > 0)
    return fail(ErrorKind::kRefused,
                "the project has " + std::to_string(open[0].integer(0)) + " unfinished jobs; cancel them first");
  QW_TRY(c.run("DELETE FROM file_parts WHERE file_id IN (SELECT f.id FROM files f WHERE f.project_id = $1)", {id}));
  QW_ASSIGN(const Rows files, c.run("DELETE FROM files WHERE project_id = $1 RETURNING id", {id}));
  out.files += count(files);
  QW_ASSIGN(const Rows documents, c.run("DELETE FROM documents WHERE project_id = $1 RETURNING id", {id}));
  out.documents += count(documents);
  QW_TRY(c.run("DELETE FROM job_records WHERE job_id IN (SELECT j.id FROM jobs j WHERE j.project_id = $1)", {id}));
  QW_ASSIGN(const Rows jobs, c.run("DELETE FROM jobs WHERE project_id = $1 RETURNING id", {id}));
  out.jobs += count(jobs);
  return {};
}

// Of the user; of a project, all of it.
Status erase_kept_contents(Connection& c, const DataSubject& s, std::int64_t now, ErasedData& out) {
  QW_ASSIGN(out.contents, erase_contents(c, "((user_id = $2 AND $2 <> '') OR (project_id = $3 AND $3 <> ''))",
                                         {now, s.user_id, s.project_id}));
  return {};
}

// What the audit log has of his words can then be told from noise by nobody, whoever has the log's key.
Status erase_salts(Connection& c, const DataSubject& s, ErasedData& out) {
  for (const std::string& subject : {s.user_id, s.project_id}) {
    QW_ASSIGN(const Rows gone, c.run("DELETE FROM salts WHERE subject = $1 RETURNING subject", {subject}));
    out.salts += count(gone);
  }
  return {};
}

// The texts go; that there was something stays, by its digest, as with FeedbackBook::erase. A data set that had some of
// it loses its files: what is in them cannot be taken out line by line.
Status erase_feedback(Connection& c, const DataSubject& s, std::int64_t now, ErasedData& out) {
  std::string whose;
  std::vector<Value> who;
  const auto add = [&](const char* column, const std::string& id) {
    if (id.empty()) return;
    who.emplace_back(id);
    whose += (whose.empty() ? "" : " OR ") + std::string(column) + " = $" + std::to_string(who.size());
  };
  add("by_user", s.user_id);
  add("project_id", s.project_id);
  const std::string sets =
      " IN (SELECT i.dataset_id FROM dataset_items i JOIN feedback f ON f.id = i.feedback_id WHERE " + whose + ")";
  for (const char* file : {"examples_file", "pairs_file"}) {
    const std::string of = std::string(" IN (SELECT d.") + file + " FROM datasets d WHERE d.id" + sets + ")";
    QW_TRY(c.run("DELETE FROM file_parts WHERE file_id" + of, who));
    QW_ASSIGN(const Rows files, c.run("DELETE FROM files WHERE id" + of + " RETURNING id", who));
    out.files += count(files);
  }
  QW_ASSIGN(const Rows marked, c.run("UPDATE datasets SET erased = 1, examples_file = '', pairs_file = '' WHERE id" +
                                         sets + " RETURNING id",
                                     who));
  out.datasets += count(marked);
  who.emplace_back(now);
  QW_ASSIGN(const Rows said,
            c.run("UPDATE feedback SET status = 'erased', comment = '', correction = '', prompt = '', answer = '', "
                  "note = '', changed_us = $" +
                      std::to_string(who.size()) + " WHERE status <> 'erased' AND (" + whose + ") RETURNING id",
                  who));
  out.feedback += count(said);
  return {};
}

}  // namespace

Result<DataSubject> PersonalData::subject_of(const Key& key) {
  return work_.transact([&](Connection& c) -> Result<DataSubject> {
    if (key.user_id.empty()) return DataSubject{"", key.project_id};
    QW_ASSIGN(
        const Rows others,
        c.run(
            "SELECT COUNT(*) FROM keys WHERE project_id = $1 AND revoked_us = 0 AND (user_id IS NULL OR user_id <> $2)",
            {key.project_id, key.user_id}));
    QW_ASSIGN(const Rows homes, c.run("SELECT COUNT(*) FROM users WHERE project_id = $1 AND id <> $2 AND disabled = 0",
                                      {key.project_id, key.user_id}));
    const bool alone = others[0].integer(0) == 0 && homes[0].integer(0) == 0;
    return DataSubject{key.user_id, alone ? key.project_id : ""};
  });
}

Result<HeldData> PersonalData::collect(const DataSubject& subject, std::int64_t most) {
  return work_.transact([&](Connection& c) -> Result<HeldData> {
    HeldData out;
    if (!subject.user_id.empty()) QW_TRY(collect_user(c, subject.user_id, most, out));
    if (!subject.project_id.empty()) QW_TRY(collect_project(c, subject.project_id, most, out));
    QW_TRY(collect_complaints(c, subject, most, out));
    QW_TRY(collect_feedback(c, subject, most, out));
    QW_TRY(collect_conduct(c, subject, most, out));
    QW_TRY(collect_contents(c, subject, most, out));
    for (const bool more :
         {cut(out.keys, most), cut(out.complaints, most), cut(out.files, most), cut(out.documents, most),
          cut(out.jobs, most), cut(out.feedback, most), cut(out.datasets, most), cut(out.contents, most)})
      out.more = out.more || more;
    return out;
  });
}

Result<ErasedData> PersonalData::erase(const DataSubject& subject) {
  return work_.transact([&](Connection& c) -> Result<ErasedData> {
    ErasedData out;
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    if (subject.user_id.empty() && subject.project_id.empty()) return out;
    QW_TRY(erase_feedback(c, subject, now, out));
    QW_TRY(erase_salts(c, subject, out));
    QW_TRY(erase_kept_contents(c, subject, now, out));
    for (const char* table : {"conduct", "minors"})
      QW_TRY(c.run("DELETE FROM " + std::string(table) + " WHERE subject" + kTheirs,
                   {subject.user_id, subject.project_id}));
    if (!subject.project_id.empty()) QW_TRY(erase_project(c, subject.project_id, out));
    if (!subject.user_id.empty()) QW_TRY(erase_user(c, subject.user_id, now, out));
    const bool by_user = !subject.user_id.empty();
    // A complaint about whoever is erased may still be open: that it is, and until when, stays.
    QW_ASSIGN(const Rows complaints,
              c.run("UPDATE complaints SET text = '', contact = '', about = '', erased_us = $1 WHERE " +
                        std::string(by_user ? "user_id" : "project_id") + " = $2 AND erased_us = 0 RETURNING id",
                    {now, by_user ? subject.user_id : subject.project_id}));
    out.complaints = count(complaints);
    return out;
  });
}

}  // namespace qw::store
