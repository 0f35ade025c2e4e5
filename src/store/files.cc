#include "store/files.h"

#include <algorithm>

#include "store/internal/work.h"

namespace qw::store {
namespace {

constexpr std::int64_t kDayUs = 86'400'000'000;
#define QW_FILE_COLUMNS "id, project_id, name, purpose, bytes, complete, created_us, expires_us"

File file_of(const Row& r) {
  return {r.text(0), r.text(1), r.text(2), r.text(3), r.integer(4), r.integer(5) != 0, r.integer(6), r.integer(7)};
}
tl::unexpected<Error> missing(const std::string& id) { return fail(ErrorKind::kBadInput, "there is no file " + id); }

Status erase(Connection& c, const std::string& id) {
  QW_TRY(c.run("DELETE FROM file_parts WHERE file_id = $1", {id}));
  QW_TRY(c.run("DELETE FROM files WHERE id = $1", {id}));
  return {};
}

}  // namespace

Result<File> Files::begin(const std::string& project_id, const std::string& name, const std::string& purpose,
                          std::int64_t expires_us) {
  return work_.transact([&](Connection& c) -> Result<File> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    File file{fresh_id("file-"), project_id, name, purpose, 0, false, now, expires_us};
    QW_TRY(
        c.run("INSERT INTO files (id, project_id, name, purpose, bytes, parts, complete, created_us, expires_us) "
              "VALUES ($1, $2, $3, $4, 0, 0, 0, $5, $6)",
              {file.id, project_id, name, purpose, now, expires_us}));
    return file;
  });
}

Status Files::append(const std::string& id, std::string_view bytes) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT parts, complete FROM files WHERE id = $1" + std::string(c.for_update()), {id}));
    if (rows.empty()) return missing(id);
    if (rows[0].integer(1) != 0) return fail(ErrorKind::kBadInput, "file " + id + " is complete");
    std::int64_t part = rows[0].integer(0);
    // Parts are full, but for the last: so a part's number follows from an offset.
    std::string rest;
    if (part > 0) {
      QW_ASSIGN(const Rows last, c.run("SELECT data FROM file_parts WHERE file_id = $1 AND part = $2", {id, part - 1}));
      if (last.empty()) return fail(ErrorKind::kFailed, "file " + id + " lacks part " + std::to_string(part - 1));
      rest = last[0].bytes(0);
      if (static_cast<std::int64_t>(rest.size()) < kPartBytes) {
        QW_TRY(c.run("DELETE FROM file_parts WHERE file_id = $1 AND part = $2", {id, --part}));
      } else {
        rest.clear();
      }
    }
    const auto added = static_cast<std::int64_t>(bytes.size());
    while (!bytes.empty() || !rest.empty()) {
      const std::size_t take = std::min(bytes.size(), static_cast<std::size_t>(kPartBytes) - rest.size());
      rest.append(bytes.substr(0, take));
      bytes.remove_prefix(take);
      QW_TRY(c.run("INSERT INTO file_parts (file_id, part, data) VALUES ($1, $2, $3)",
                   {id, part++, Bytes{std::move(rest)}}));
      rest.clear();
    }
    QW_TRY(c.run("UPDATE files SET bytes = bytes + $1, parts = $2 WHERE id = $3", {added, part, id}));
    return {};
  });
}

Result<File> Files::complete(const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<File> {
    QW_ASSIGN(const Rows rows, c.run("UPDATE files SET complete = 1 WHERE id = $1 RETURNING " QW_FILE_COLUMNS, {id}));
    if (rows.empty()) return missing(id);
    return file_of(rows[0]);
  });
}

Result<File> Files::find(const std::string& project_id, const std::string& id) {
  return work_.transact([&](Connection& c) -> Result<File> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " QW_FILE_COLUMNS " FROM files WHERE id = $1 AND project_id = $2", {id, project_id}));
    if (rows.empty()) return missing(id);
    return file_of(rows[0]);
  });
}

Result<std::vector<File>> Files::list(const std::string& project_id, const std::string& purpose,
                                      const std::string& after, std::int64_t most, bool oldest_first) {
  const std::string behind = oldest_first ? ">" : "<", order = oldest_first ? "ASC" : "DESC";
  const std::string its_time = "(SELECT f.created_us FROM files f WHERE f.id = $3)";
  return work_.transact([&](Connection& c) -> Result<std::vector<File>> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " QW_FILE_COLUMNS
                    " FROM files WHERE project_id = $1 AND complete = 1 AND ($2 = '' OR purpose = $2) AND ($3 = '' OR "
                    "created_us " + behind + " " + its_time + " OR (created_us = " + its_time + " AND id " + behind +
                        " $3)) ORDER BY created_us " + order + ", id " + order + " LIMIT $4",
                    {project_id, purpose, after, most}));
    std::vector<File> out;
    for (const Row& r : rows) out.push_back(file_of(r));
    return out;
  });
}

Result<std::string> Files::read(const std::string& id, std::int64_t offset) {
  if (offset < 0) return fail(ErrorKind::kBadInput, "an offset is not negative");
  return work_.transact([&](Connection& c) -> Result<std::string> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT data FROM file_parts WHERE file_id = $1 AND part = $2", {id, offset / kPartBytes}));
    if (rows.empty()) return std::string();
    std::string data = rows[0].bytes(0);
    const auto skip = std::min(static_cast<std::size_t>(offset % kPartBytes), data.size());
    return data.substr(skip);
  });
}

Status Files::remove(const std::string& project_id, const std::string& id) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Rows rows, c.run("SELECT id FROM files WHERE id = $1 AND project_id = $2", {id, project_id}));
    if (rows.empty()) return missing(id);
    return erase(c, id);
  });
}

Result<std::int64_t> Files::sweep() {
  return work_.transact([&](Connection& c) -> Result<std::int64_t> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(
        const Rows rows,
        c.run("SELECT id FROM files WHERE (expires_us <> 0 AND expires_us <= $1) OR (complete = 0 AND created_us < $2)",
              {now, now - kDayUs}));
    for (const Row& r : rows) QW_TRY(erase(c, r.text(0)));
    return static_cast<std::int64_t>(rows.size());
  });
}

}  // namespace qw::store
