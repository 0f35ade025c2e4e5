#include "store/feedback.h"

#include "store/internal/feedback_rows.h"

namespace qw::store {
namespace {

tl::unexpected<Error> missing(const std::string& id) {
  return fail(ErrorKind::kBadInput, "there is no feedback " + id);
}

Result<Feedback> locked(Connection& c, const std::string& project, const std::string& id) {
  QW_ASSIGN(const Rows rows, c.run("SELECT " QW_FEEDBACK_COLUMNS " FROM feedback WHERE id = $1 AND project_id = $2" +
                                       std::string(c.for_update()),
                                   {id, project}));
  if (rows.empty()) return missing(id);
  return feedback_of(rows[0]);
}

Result<Feedback> open_one(Connection& c, const std::string& project, const std::string& id) {
  QW_ASSIGN(Feedback f, locked(c, project, id));
  if (f.status != "open") return fail(ErrorKind::kRefused, "feedback " + id + " is " + f.status);
  return f;
}

template <class T>
std::vector<T> each(const Rows& rows, T (*one)(const Row&)) {
  std::vector<T> out;
  for (const Row& r : rows) out.push_back(one(r));
  return out;
}

}  // namespace

Feedback feedback_of(const Row& r) {
  return {r.text(0), r.text(1),  r.text(2),  r.text(3),  r.text(4),  r.text(5),  r.text(6),     r.text(7),    r.text(8),
          r.text(9), r.text(10), r.text(11), r.text(12), r.text(13), r.text(14), r.integer(15), r.integer(16)};
}
DatasetVersion dataset_of(const Row& r) {
  return {r.text(0), r.text(1), r.text(2), r.integer(3), r.text(4),  r.integer(5),       r.integer(6),
          r.text(7), r.text(8), r.text(9), r.text(10),   r.text(11), r.integer(12) != 0, r.integer(13)};
}

Result<Feedback> FeedbackBook::add(Feedback f) {
  if (f.rating != "up" && f.rating != "down") return fail(ErrorKind::kBadInput, "a rating is up or down");
  return work_.transact([&](Connection& c) -> Result<Feedback> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows rows, c.run("INSERT INTO feedback (" QW_FEEDBACK_COLUMNS
                                     ") VALUES ($1, $2, $3, $4, $5, $6, $7, 'open', $8, $9, "
                                     "'', '', $10, $11, '', $12, $12) RETURNING " QW_FEEDBACK_COLUMNS,
                                     {fresh_id("fb-"), f.project_id, f.answer_id, f.model, f.rating, f.comment,
                                      f.correction, f.by_key, f.by_user, f.prompt, f.answer, now}));
    return feedback_of(rows[0]);
  });
}

Result<Feedback> FeedbackBook::find(const std::string& project_id, const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<Feedback> {
    QW_ASSIGN(const Rows rows, c.run("SELECT " QW_FEEDBACK_COLUMNS " FROM feedback WHERE id = $1 AND project_id = $2",
                                     {id, project_id}));
    if (rows.empty()) return missing(id);
    return feedback_of(rows[0]);
  });
}

Result<std::vector<Feedback>> FeedbackBook::list(const std::string& project_id, const std::string& status,
                                                 const std::string& after, std::int64_t most) {
  return work_.transact([&](Connection& c) -> Result<std::vector<Feedback>> {
    QW_ASSIGN(
        const Rows rows,
        c.run("SELECT " QW_FEEDBACK_COLUMNS " FROM feedback WHERE project_id = $1 AND ($2 = '' OR status = $2) AND "
              "($3 = '' OR created_us > (SELECT f.created_us FROM feedback f WHERE f.id = $3) OR (created_us = "
              "(SELECT f.created_us FROM feedback f WHERE f.id = $3) AND id > $3)) ORDER BY created_us, id LIMIT $4",
              {project_id, status, after, most}));
    return each(rows, &feedback_of);
  });
}

Result<Feedback> FeedbackBook::edit(const std::string& project_id, const std::string& id, const std::string& correction,
                                    const std::string& reviewer) {
  return work_.transact([&](Connection& c) -> Result<Feedback> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_TRY(open_one(c, project_id, id));
    QW_ASSIGN(const Rows rows,
              c.run("UPDATE feedback SET correction = $1, reviewer = $2, changed_us = $3 WHERE id = $4 "
                    "RETURNING " QW_FEEDBACK_COLUMNS,
                    {correction, reviewer, now, id}));
    return feedback_of(rows[0]);
  });
}

Result<Feedback> FeedbackBook::decide(const std::string& project_id, const std::string& id, const std::string& status,
                                      const std::string& reviewer, const std::string& note, const std::string& digest) {
  if (status != "accepted" && status != "rejected")
    return fail(ErrorKind::kBadInput, "feedback is accepted or rejected");
  return work_.transact([&](Connection& c) -> Result<Feedback> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_TRY(open_one(c, project_id, id));
    QW_ASSIGN(const Rows rows,
              c.run("UPDATE feedback SET status = $1, reviewer = $2, note = $3, digest = $4, changed_us = $5 "
                    "WHERE id = $6 RETURNING " QW_FEEDBACK_COLUMNS,
                    {status, reviewer, note, digest, now, id}));
    return feedback_of(rows[0]);
  });
}

Result<std::vector<DatasetVersion>> FeedbackBook::erase(const std::string& project_id, const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<std::vector<DatasetVersion>> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_TRY(locked(c, project_id, id));
    QW_TRY(c.run(
        "UPDATE feedback SET status = 'erased', comment = '', correction = '', prompt = '', answer = '', note = '', "
        "changed_us = $1 WHERE id = $2",
        {now, id}));
    QW_ASSIGN(const Rows rows, c.run("SELECT " QW_DATASET_COLUMNS " FROM datasets WHERE project_id = $1 AND id IN "
                                     "(SELECT dataset_id FROM dataset_items WHERE feedback_id = $2)",
                                     {project_id, id}));
    QW_TRY(
        c.run("UPDATE datasets SET erased = 1, examples_file = '', pairs_file = '' WHERE project_id = $1 AND id IN "
              "(SELECT dataset_id FROM dataset_items WHERE feedback_id = $2)",
              {project_id, id}));
    return each(rows, &dataset_of);
  });
}

Result<DatasetVersion> FeedbackBook::add_dataset(DatasetVersion d, const std::vector<DatasetItem>& items) {
  if (d.name.empty() || items.empty()) return fail(ErrorKind::kBadInput, "a data set has a name and items");
  return work_.transact([&](Connection& c) -> Result<DatasetVersion> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_TRY(c.run("SELECT id FROM projects WHERE id = $1" + std::string(c.for_update()), {d.project_id}));  // numbers it
    QW_ASSIGN(const Rows last,
              c.run("SELECT COALESCE(MAX(number), 0) FROM datasets WHERE project_id = $1 AND name = $2",
                    {d.project_id, d.name}));
    QW_ASSIGN(const Rows rows,
              c.run("INSERT INTO datasets (" QW_DATASET_COLUMNS
                    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, "
                    "0, $13) RETURNING " QW_DATASET_COLUMNS,
                    {fresh_id("dset-"), d.project_id, d.name, last[0].integer(0) + 1, d.sha256, d.examples, d.pairs,
                     d.examples_file, d.pairs_file, d.examples_sha256, d.pairs_sha256, d.by_key, now}));
    const DatasetVersion made = dataset_of(rows[0]);
    std::int64_t number = 0;
    for (const DatasetItem& item : items)
      QW_TRY(c.run("INSERT INTO dataset_items (dataset_id, number, feedback_id, digest) VALUES ($1, $2, $3, $4)",
                   {made.id, number++, item.feedback_id, item.digest}));
    return made;
  });
}

Result<DatasetVersion> FeedbackBook::dataset(const std::string& project_id, const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<DatasetVersion> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " QW_DATASET_COLUMNS " FROM datasets WHERE id = $1 AND project_id = $2", {id, project_id}));
    if (rows.empty()) return fail(ErrorKind::kBadInput, "there is no data set " + id);
    return dataset_of(rows[0]);
  });
}

Result<DatasetVersion> FeedbackBook::dataset_of_file(const std::string& project_id, const std::string& file_id) {
  return work_.transact([&](Connection& c) -> Result<DatasetVersion> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " QW_DATASET_COLUMNS " FROM datasets WHERE project_id = $1 AND $2 <> '' AND "
                    "(examples_file = $2 OR pairs_file = $2)",
                    {project_id, file_id}));
    if (rows.empty()) return fail(ErrorKind::kBadInput, "no data set has the file " + file_id);
    return dataset_of(rows[0]);
  });
}

Result<std::vector<DatasetVersion>> FeedbackBook::datasets(const std::string& project_id, const std::string& after,
                                                           std::int64_t most) {
  return work_.transact([&](Connection& c) -> Result<std::vector<DatasetVersion>> {
    QW_ASSIGN(
        const Rows rows,
        c.run(
            "SELECT " QW_DATASET_COLUMNS " FROM datasets WHERE project_id = $1 AND ($2 = '' OR created_us < (SELECT "
            "d.created_us FROM datasets d WHERE d.id = $2) OR (created_us = (SELECT d.created_us FROM datasets d WHERE "
            "d.id = $2) AND id < $2)) ORDER BY created_us DESC, id DESC LIMIT $3",
            {project_id, after, most}));
    return each(rows, &dataset_of);
  });
}

Result<std::vector<DatasetItem>> FeedbackBook::items(const std::string& dataset_id) {
  return work_.transact([&](Connection& c) -> Result<std::vector<DatasetItem>> {
    QW_ASSIGN(
        const Rows rows,
        c.run("SELECT feedback_id, digest FROM dataset_items WHERE dataset_id = $1 ORDER BY number", {dataset_id}));
    std::vector<DatasetItem> out;
    for (const Row& r : rows) out.push_back({r.text(0), r.text(1)});
    return out;
  });
}

}  // namespace qw::store
