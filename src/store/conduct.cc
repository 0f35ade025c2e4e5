#include "store/conduct.h"

#include <algorithm>

#include "store/internal/conduct_rows.h"

namespace qw::store {
namespace {

constexpr std::int64_t kMinuteUs = 60'000'000, kDayUs = 86'400'000'000;

// What the row has beside what is told of it.
struct Kept {
  Conduct c;
  std::int64_t reminded_us = 0, slow_tat_us = 0, day = 0;
};
Kept kept_of(const Row& r) { return {conduct_of(r), r.integer(11), r.integer(12), r.integer(13)}; }

Result<Kept> locked(Connection& c, const std::string& subject) {
  QW_TRY(c.run("INSERT INTO conduct (" QW_CONDUCT_COLUMNS
               ") VALUES ($1, '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) ON CONFLICT (subject) DO NOTHING",
               {subject}));
  QW_ASSIGN(const Rows rows, c.run("SELECT " QW_CONDUCT_COLUMNS " FROM conduct WHERE subject = $1" +
                                       std::string(c.for_update()),
                                   {subject}));
  return kept_of(rows[0]);
}

Status write(Connection& c, const Kept& k) {
  return c
      .run("UPDATE conduct SET standing = $2, until_us = $3, per_minute = $4, in_a_row = $5, today = $6, total = $7, "
           "last_us = $8, used_us = $9, since_us = $10, seen_us = $11, reminded_us = $12, slow_tat_us = $13, day = $14 "
           "WHERE subject = $1",
           {k.c.subject, k.c.standing, k.c.until_us, k.c.per_minute, k.c.in_a_row, k.c.today, k.c.total, k.c.last_us,
            k.c.used_us, k.c.since_us, k.c.seen_us, k.reminded_us, k.slow_tat_us, k.day})
      .map([](const Rows&) {});
}

// What a day and a measure's time leave behind.
void age(Kept& k, const ConductRules& rules, std::int64_t now) {
  const std::int64_t day = (now + rules.utc_offset_min * kMinuteUs) / kDayUs;
  if (k.day != day) k.c.today = k.c.used_us = 0;
  k.day = day;
  if (k.c.until_us == 0 || k.c.until_us > now) return;
  k.c.standing.clear();
  k.c.until_us = k.c.per_minute = k.c.in_a_row = k.slow_tat_us = 0;
}

// Whether they have to wait; of those who are slowed, one request every so often goes on.
bool waits(Kept& k, std::int64_t now, Met& out) {
  if (k.c.standing == "suspended") {
    out.verdict = Met::Verdict::kSuspended;
    out.wait_us = k.c.until_us - now;
    return true;
  }
  if (k.c.standing != "slowed") return false;
  if (k.slow_tat_us > now) {
    out.verdict = Met::Verdict::kSlowed;
    out.wait_us = k.slow_tat_us - now;
    return true;
  }
  k.slow_tat_us = now + kMinuteUs / std::max<std::int64_t>(1, k.c.per_minute);
  return false;
}

// False: today's time is used up, and this is none of it.
bool use(Kept& k, const Meeting& m, std::int64_t now, Met& out) {
  const bool goes_on = k.c.seen_us != 0 && now - k.c.seen_us <= m.rules.pause_min * kMinuteUs;
  const std::int64_t used = k.c.used_us + (goes_on ? now - k.c.seen_us : 0);
  if (m.rules.minutes_a_day > 0 && used >= m.rules.minutes_a_day * kMinuteUs) {
    out.verdict = Met::Verdict::kUsedUp;
    out.wait_us = (k.day + 1) * kDayUs - m.rules.utc_offset_min * kMinuteUs - now;
    return false;
  }
  k.c.used_us = used;
  k.c.seen_us = now;
  if (!goes_on) k.c.since_us = k.reminded_us = now;
  if (m.rules.reminder_min == 0 || !m.may_remind || now - k.reminded_us < m.rules.reminder_min * kMinuteUs) return true;
  k.reminded_us = now;
  out.reminds = true;
  return true;
}

void strike(Kept& k, const ConductRules& rules, std::int64_t now, Met& out) {
  ++k.c.in_a_row, ++k.c.today, ++k.c.total;
  k.c.last_us = now;
  const StrikeStep* reached = nullptr;
  for (const StrikeStep& step : rules.strikes) {
    const bool there = (step.in_a_row > 0 && k.c.in_a_row >= step.in_a_row) || (step.a_day > 0 && k.c.today >= step.a_day);
    if (there && (reached == nullptr || step.measure >= reached->measure)) reached = &step;
  }
  if (reached == nullptr) return;
  out.measured = true;
  if (reached->measure == Measure::kWarn) {
    if (k.c.standing.empty()) k.c.standing = "warned";
    return;
  }
  k.c.standing = reached->measure == Measure::kSlow ? "slowed" : "suspended";
  k.c.until_us = now + reached->minutes * kMinuteUs;
  k.c.per_minute = reached->measure == Measure::kSlow ? reached->per_minute : 0;
}

}  // namespace

const char* name_of(Measure measure) {
  return measure == Measure::kWarn ? "warn" : measure == Measure::kSlow ? "slow" : "suspend";
}

Conduct conduct_of(const Row& r) {
  return {r.text(0),    r.text(1),    r.integer(2), r.integer(3), r.integer(4), r.integer(5),
          r.integer(6), r.integer(7), r.integer(8), r.integer(9), r.integer(10)};
}
Minor minor_of(const Row& r) { return {r.text(0), r.integer(1), r.integer(2) != 0, r.integer(3)}; }

Result<Met> ConductBook::meet(const Meeting& m) {
  return work_.transact([&](Connection& c) -> Result<Met> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(Kept k, locked(c, m.subject));
    Met out;
    age(k, m.rules, now);
    if (!waits(k, now, out) && use(k, m, now, out)) {
      if (m.violates) {
        strike(k, m.rules, now, out);
      } else {
        k.c.in_a_row = 0;
        if (k.c.standing == "warned") k.c.standing.clear();
      }
    }
    QW_TRY(write(c, k));
    out.conduct = k.c;
    return out;
  });
}

Result<std::vector<Conduct>> ConductBook::list(const std::string& standing, std::int64_t most) {
  return work_.transact([&](Connection& c) -> Result<std::vector<Conduct>> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    // A measure whose time is over is none, though its row says so only after the next request.
    QW_ASSIGN(const Rows rows, c.run("SELECT " QW_CONDUCT_COLUMNS
                                     " FROM conduct WHERE last_us > 0 AND ($1 = '' OR (standing = $1 AND (until_us = 0 OR "
                                     "until_us > $2))) ORDER BY last_us DESC, subject LIMIT $3",
                                     {standing, now, most}));
    std::vector<Conduct> out;
    for (const Row& r : rows) out.push_back(conduct_of(r));
    return out;
  });
}

Result<Conduct> ConductBook::find(const std::string& subject) {
  return work_.transact([&](Connection& c) -> Result<Conduct> {
    QW_ASSIGN(const Rows rows, c.run("SELECT " QW_CONDUCT_COLUMNS " FROM conduct WHERE subject = $1", {subject}));
    if (rows.empty()) return fail(ErrorKind::kBadInput, "nothing was counted of " + subject);
    return conduct_of(rows[0]);
  });
}

Result<Conduct> ConductBook::lift(const std::string& subject) {
  return work_.transact([&](Connection& c) -> Result<Conduct> {
    QW_ASSIGN(const Rows rows,
              c.run("UPDATE conduct SET standing = '', until_us = 0, per_minute = 0, slow_tat_us = 0, in_a_row = 0, "
                    "today = 0 WHERE subject = $1 RETURNING " QW_CONDUCT_COLUMNS,
                    {subject}));
    if (rows.empty()) return fail(ErrorKind::kBadInput, "nothing was counted of " + subject);
    return conduct_of(rows[0]);
  });
}

Result<Minor> ConductBook::set_minor(const std::string& subject, std::int64_t age, bool consent) {
  if (age < 0 || age > 120) return fail(ErrorKind::kBadInput, "an age is 0 (not known) to 120");
  return work_.transact([&](Connection& c) -> Result<Minor> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows rows,
              c.run("INSERT INTO minors (subject, age, consent, created_us) VALUES ($1, $2, $3, $4) ON CONFLICT "
                    "(subject) DO UPDATE SET age = $2, consent = $3 RETURNING subject, age, consent, created_us",
                    {subject, age, static_cast<std::int64_t>(consent), now}));
    return minor_of(rows[0]);
  });
}

Result<std::vector<Minor>> ConductBook::minors() {
  return work_.transact([&](Connection& c) -> Result<std::vector<Minor>> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT subject, age, consent, created_us FROM minors ORDER BY created_us, subject", {}));
    std::vector<Minor> out;
    for (const Row& r : rows) out.push_back(minor_of(r));
    return out;
  });
}

Status ConductBook::unset_minor(const std::string& subject) {
  return work_.transact([&](Connection& c) -> Status {
    QW_TRY(c.run("DELETE FROM minors WHERE subject = $1", {subject}));
    return {};
  });
}

}  // namespace qw::store
