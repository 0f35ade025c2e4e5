#include "store/documents.h"

#include "store/internal/work.h"

namespace qw::store {
namespace {

#define QW_DOCUMENT_COLUMNS "id, project_id, kind, parent, created_us, expires_us, body"

Document document_of(const Row& r) {
  return {r.text(0), r.text(1), r.text(2), r.text(3), r.integer(4), r.integer(5), r.text(6)};
}
tl::unexpected<Error> missing(const std::string& id) { return fail(ErrorKind::kBadInput, "there is no " + id); }

}  // namespace

Result<Document> Documents::add(Document d) {
  return work_.transact([&](Connection& c) -> Result<Document> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows rows,
              c.run("INSERT INTO documents (id, project_id, kind, parent, created_us, expires_us, body) "
                    "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING RETURNING " QW_DOCUMENT_COLUMNS,
                    {d.id, d.project_id, d.kind, d.parent, now, d.expires_us, d.body}));
    if (rows.empty()) return fail(ErrorKind::kBadInput, d.id + " exists already");
    return document_of(rows[0]);
  });
}

Status Documents::change(const std::string& project_id, const std::string& id, const std::string& body) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Rows rows, c.run("UPDATE documents SET body = $1 WHERE id = $2 AND project_id = $3 RETURNING id",
                                     {body, id, project_id}));
    if (rows.empty()) return missing(id);
    return {};
  });
}

Result<Document> Documents::find(const std::string& project_id, const std::string& kind, const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<Document> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " QW_DOCUMENT_COLUMNS " FROM documents WHERE id = $1 AND project_id = $2 AND kind = $3 "
                    "AND (expires_us = 0 OR expires_us > $4)",
                    {id, project_id, kind, now}));
    if (rows.empty()) return missing(id);
    return document_of(rows[0]);
  });
}

Result<std::vector<Document>> Documents::children(const std::string& project_id, const std::string& parent,
                                                  const std::string& after, std::int64_t most) {
  return work_.transact([&](Connection& c) -> Result<std::vector<Document>> {
    QW_ASSIGN(const Rows rows, c.run("SELECT " QW_DOCUMENT_COLUMNS
                                     " FROM documents WHERE project_id = $1 AND parent = $2 AND ($3 = '' OR "
                                     "created_us > (SELECT d.created_us FROM documents d WHERE d.id = $3) OR "
                                     "(created_us = (SELECT d.created_us FROM "
                                     "documents d WHERE d.id = $3) AND id > $3)) ORDER BY created_us, id LIMIT $4",
                                     {project_id, parent, after, most}));
    std::vector<Document> out;
    for (const Row& r : rows) out.push_back(document_of(r));
    return out;
  });
}

Status Documents::remove(const std::string& project_id, const std::string& id) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Rows rows,
              c.run("DELETE FROM documents WHERE id = $1 AND project_id = $2 RETURNING id", {id, project_id}));
    if (rows.empty()) return missing(id);
    QW_TRY(c.run("DELETE FROM documents WHERE parent = $1 AND project_id = $2", {id, project_id}));
    return {};
  });
}

Result<std::int64_t> Documents::sweep() {
  return work_.transact([&](Connection& c) -> Result<std::int64_t> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows rows,
              c.run("DELETE FROM documents WHERE expires_us <> 0 AND expires_us <= $1 RETURNING id", {now}));
    return static_cast<std::int64_t>(rows.size());
  });
}

}  // namespace qw::store
