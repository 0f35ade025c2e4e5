#include "store/contents.h"

#include "store/internal/content_rows.h"

namespace qw::store {

Content content_of(const Row& r) {
  return {r.text(0), r.text(1), r.text(2), r.text(3), r.bytes(4), r.bytes(5), r.integer(6), r.integer(7), r.integer(8)};
}

Status insert_content(Connection& c, const Content& content, std::int64_t now) {
  QW_TRY(c.run("INSERT INTO contents (" QW_CONTENT_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)",
               {content.id, content.project_id, content.user_id, content.key_id, Bytes{content.wrapped},
                Bytes{content.body}, now, content.expires_us}));
  return {};
}

Result<std::int64_t> erase_contents(Connection& c, const std::string& where, std::vector<Value> values) {
  values.emplace_back(Bytes{});
  const std::string nothing = "$" + std::to_string(values.size());
  QW_ASSIGN(const Rows rows, c.run("UPDATE contents SET wrapped = " + nothing + ", body = " + nothing +
                                       ", erased_us = $1 WHERE erased_us = 0 AND " + where + " RETURNING id",
                                   values));
  return static_cast<std::int64_t>(rows.size());
}

Status Contents::add(std::span<const Content> contents) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    for (const Content& content : contents) QW_TRY(insert_content(c, content, now));
    return {};
  });
}

Result<Content> Contents::find(const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<Content> {
    QW_ASSIGN(const Rows rows, c.run("SELECT " QW_CONTENT_COLUMNS " FROM contents WHERE id = $1", {id}));
    if (rows.empty()) return fail(ErrorKind::kBadInput, "there is no content " + id);
    return content_of(rows[0]);
  });
}

Result<std::vector<Content>> Contents::list(const ContentFilter& f, const std::string& after, std::int64_t most) {
  return work_.transact([&](Connection& c) -> Result<std::vector<Content>> {
    QW_ASSIGN(
        const Rows rows,
        c.run("SELECT " QW_CONTENT_COLUMNS
              " FROM contents WHERE erased_us = 0 AND ($1 = '' OR project_id = $1) AND ($2 = '' OR user_id = $2) "
              "AND ($3 = '' OR key_id <> $3) AND created_us >= $4 AND (created_us < $5 OR $5 = 0) AND ($6 = '' OR "
              "created_us > (SELECT d.created_us FROM contents d WHERE d.id = $6) OR (created_us = (SELECT "
              "d.created_us FROM contents d WHERE d.id = $6) AND id > $6)) ORDER BY created_us, id LIMIT $7",
              {f.project_id, f.user_id, f.not_under, f.from_us, f.to_us, after, most}));
    std::vector<Content> out;
    for (const Row& r : rows) out.push_back(content_of(r));
    return out;
  });
}

Result<bool> Contents::rewrap(const Content& before, const std::string& key_id, const std::string& wrapped) {
  return work_.transact([&](Connection& c) -> Result<bool> {
    QW_ASSIGN(const Rows rows,
              c.run("UPDATE contents SET key_id = $1, wrapped = $2 WHERE id = $3 AND erased_us = 0 AND "
                    "key_id = $4 RETURNING id",
                    {key_id, Bytes{wrapped}, before.id, before.key_id}));
    return !rows.empty();
  });
}

Status Contents::erase(const std::string& id) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows there, c.run("SELECT id FROM contents WHERE id = $1", {id}));
    if (there.empty()) return fail(ErrorKind::kBadInput, "there is no content " + id);
    return erase_contents(c, "id = $2", {now, id}).map([](std::int64_t) {});
  });
}

Result<std::int64_t> Contents::sweep() {
  return work_.transact([&](Connection& c) -> Result<std::int64_t> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    return erase_contents(c, "expires_us > 0 AND expires_us <= $1", {now});
  });
}

}  // namespace qw::store
