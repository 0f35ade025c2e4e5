#include "store/complaints.h"

#include "base/sha256.h"
#include "base/utf8.h"
#include "store/internal/complaint_rows.h"

namespace qw::store {
namespace {

constexpr std::int64_t kDayUs = 86'400'000'000, kMostDays = 3650;

tl::unexpected<Error> missing(const std::string& id) {
  return fail(ErrorKind::kBadInput, "there is no complaint " + id);
}

Status check_text(const char* what, const std::string& text, std::size_t most, bool needed) {
  if (needed && text.empty()) return fail(ErrorKind::kBadInput, std::string(what) + " is missing");
  if (text.size() > most)
    return fail(ErrorKind::kBadInput, std::string(what) + " is longer than " + std::to_string(most) + " bytes");
  if (!base::is_valid_utf8(text) || text.find('\0') != std::string::npos)
    return fail(ErrorKind::kBadInput, std::string(what) + " is no text");
  return {};
}

Status check(const NewComplaint& c) {
  QW_TRY(check_text("the text", c.text, Complaints::kMostText, true));
  QW_TRY(check_text("what it is about", c.about, Complaints::kMostShort, false));
  QW_TRY(check_text("the contact", c.contact, Complaints::kMostShort, false));
  if (c.days < 1 || c.days > kMostDays) return fail(ErrorKind::kBadInput, "a deadline is 1 to 3650 days away");
  return {};
}

Result<Complaint> find_row(Connection& c, const std::string& id, bool to_change = false) {
  QW_ASSIGN(const Rows rows, c.run("SELECT " QW_COMPLAINT_COLUMNS " FROM complaints WHERE id = $1" +
                                       std::string(to_change ? c.for_update() : ""),
                                   {id}));
  if (rows.empty()) return missing(id);
  return complaint_of(rows[0]);
}

Result<FiledComplaint> insert(Connection& c, const NewComplaint& n, const char* kind, const std::string& appeal_of,
                              std::int64_t now) {
  QW_ASSIGN(const Rows open, c.run("SELECT COUNT(*) FROM complaints WHERE status = 'open'", {}));
  if (open[0].integer(0) >= Complaints::kMostOpen) return fail(ErrorKind::kResource, "too many complaints are open");
  FiledComplaint out;
  out.receipt = random_hex(16);
  Complaint& made = out.complaint;
  made.id = fresh_id("cmp_");
  made.project_id = n.project_id;
  made.user_id = n.user_id;
  made.kind = kind;
  made.appeal_of = appeal_of;
  made.about = n.about;
  made.contact = n.contact;
  made.text = n.text;
  made.status = "open";
  made.created_us = now;
  made.due_us = now + n.days * kDayUs;
  QW_TRY(
      c.run("INSERT INTO complaints (id, project_id, user_id, receipt, kind, appeal_of, about, contact, text, status, "
            "answer, answered_by, created_us, due_us, answered_us, closed_us, erased_us) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'open', '', '', $10, $11, 0, 0, 0)",
            {made.id, made.project_id, made.user_id, base::sha256_hex(out.receipt), made.kind, made.appeal_of,
             made.about, made.contact, made.text, made.created_us, made.due_us}));
  return out;
}

}  // namespace

Complaint complaint_of(const Row& r) {
  return {r.text(0), r.text(1), r.text(2),  r.text(3),     r.text(4),     r.text(5),     r.text(6),     r.text(7),
          r.text(8), r.text(9), r.text(10), r.integer(11), r.integer(12), r.integer(13), r.integer(14), r.integer(15)};
}

Result<FiledComplaint> Complaints::add(const NewComplaint& complaint) {
  QW_TRY(check(complaint));
  return work_.transact([&](Connection& c) -> Result<FiledComplaint> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    return insert(c, complaint, "complaint", "", now);
  });
}

Result<FiledComplaint> Complaints::appeal(const std::string& id, const NewComplaint& appeal) {
  QW_TRY(check(appeal));
  return work_.transact([&](Connection& c) -> Result<FiledComplaint> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Complaint of, find_row(c, id, true));
    if (of.kind != "complaint") return fail(ErrorKind::kRefused, "what was appealed against is final here");
    if (of.status == "open") return fail(ErrorKind::kRefused, "it is not answered yet");
    QW_ASSIGN(const Rows before, c.run("SELECT id FROM complaints WHERE appeal_of = $1", {id}));
    if (!before.empty()) return fail(ErrorKind::kRefused, "there is an appeal already: " + before[0].text(0));
    NewComplaint whose = appeal;
    whose.project_id = of.project_id;
    whose.user_id = of.user_id;
    if (whose.about.empty()) whose.about = of.about;
    if (whose.contact.empty()) whose.contact = of.contact;
    return insert(c, whose, "appeal", id, now);
  });
}

Result<Complaint> Complaints::find(const std::string& id) {
  return work_.transact([&](Connection& c) { return find_row(c, id); });
}

Result<Complaint> Complaints::find_by_receipt(const std::string& id, const std::string& receipt) {
  return work_.transact([&](Connection& c) -> Result<Complaint> {
    QW_ASSIGN(const Rows rows, c.run("SELECT " QW_COMPLAINT_COLUMNS " FROM complaints WHERE id = $1 AND receipt = $2",
                                     {id, base::sha256_hex(receipt)}));
    if (rows.empty()) return missing(id);  // whether there is one is not told
    return complaint_of(rows[0]);
  });
}

Result<std::vector<Complaint>> Complaints::list(const ComplaintFilter& f, const std::string& after, std::int64_t most) {
  return work_.transact([&](Connection& c) -> Result<std::vector<Complaint>> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " QW_COMPLAINT_COLUMNS
                    " FROM complaints WHERE ($1 = '' OR status = $1) AND ($2 = '' OR project_id = $2) AND "
                    "($3 = '' OR user_id = $3) AND ($4 = 0 OR (status = 'open' AND due_us < $5)) AND ($6 = '' OR "
                    "created_us > (SELECT d.created_us FROM complaints d WHERE d.id = $6) OR (created_us = (SELECT "
                    "d.created_us FROM complaints d WHERE d.id = $6) AND id > $6)) ORDER BY created_us, id LIMIT $7",
                    {f.status, f.project_id, f.user_id, std::int64_t{f.overdue}, now, after, most}));
    std::vector<Complaint> out;
    for (const Row& r : rows) out.push_back(complaint_of(r));
    return out;
  });
}

Result<ComplaintCounts> Complaints::count() {
  return work_.transact([&](Connection& c) -> Result<ComplaintCounts> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows rows,
              c.run("SELECT status, COUNT(*), COUNT(CASE WHEN kind = 'appeal' THEN 1 END), COUNT(CASE WHEN status = "
                    "'open' AND due_us < $1 THEN 1 END), COUNT(CASE WHEN erased_us <> 0 THEN 1 END) FROM complaints "
                    "GROUP BY status",
                    {now}));
    ComplaintCounts out;
    for (const Row& r : rows) {
      (r.text(0) == "open" ? out.open : r.text(0) == "answered" ? out.answered : out.closed) += r.integer(1);
      out.appeals += r.integer(2);
      out.overdue += r.integer(3);
      out.erased += r.integer(4);
    }
    return out;
  });
}

Result<Complaint> Complaints::answer(const std::string& id, const std::string& text, const std::string& by) {
  QW_TRY(check_text("the answer", text, kMostText, true));
  QW_TRY(check_text("who answers", by, kMostShort, false));
  return work_.transact([&](Connection& c) -> Result<Complaint> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Complaint before, find_row(c, id, true));
    if (before.status != "open") return fail(ErrorKind::kRefused, id + " is " + before.status + " already");
    QW_TRY(c.run(
        "UPDATE complaints SET status = 'answered', answer = $1, answered_by = $2, answered_us = $3 WHERE id = $4",
        {text, by, now, id}));
    return find_row(c, id);
  });
}

Result<Complaint> Complaints::close(const std::string& id, const std::string& why, const std::string& by) {
  QW_TRY(check_text("why it is closed", why, kMostText, true));
  QW_TRY(check_text("who closes", by, kMostShort, false));
  return work_.transact([&](Connection& c) -> Result<Complaint> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Complaint before, find_row(c, id, true));
    if (before.status == "closed") return fail(ErrorKind::kRefused, id + " is closed already");
    // An answer that was given stays; what closes an open one is its answer.
    const bool open = before.status == "open";
    QW_TRY(c.run("UPDATE complaints SET status = 'closed', answer = $1, answered_by = $2, closed_us = $3 WHERE id = $4",
                 {open ? why : before.answer, open ? by : before.answered_by, now, id}));
    return find_row(c, id);
  });
}

}  // namespace qw::store
