#include "store/ledger.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "store/internal/account_state.h"
#include "store/internal/content_rows.h"
#include "store/internal/work.h"

namespace qw::store {
namespace {

// Bounds that keep every product of tokens and prices within 64 bits.
constexpr std::int64_t kMostTokens = 1'000'000'000, kMostPrice = 1'000'000'000;
constexpr std::int64_t kMostAmount = std::int64_t{1} << 60;

Status check_subject(const std::string& subject) {
  for (const char* kind : {"key:", "user:", "project:", "org:"}) {
    if (subject.starts_with(kind) && subject.size() > std::string_view(kind).size()) return {};
  }
  return fail(ErrorKind::kBadInput, "a subject is key:ID, user:ID, project:ID or org:ID, not " + subject);
}

std::vector<std::string> subjects_of(const Asked& a) {
  std::vector<std::string> out{"key:" + a.key_id};
  if (!a.user_id.empty()) out.push_back("user:" + a.user_id);
  out.push_back("project:" + a.project_id);
  out.push_back("org:" + a.organisation_id);
  return out;
}

Status make_subject(Connection& c, const std::string& subject) {
  QW_TRY(
      c.run("INSERT INTO subjects (subject, requests_per_minute, tokens_per_minute, concurrency, request_tat_us, "
            "token_tat_us, "
            "running) VALUES ($1, 0, 0, 0, 0, 0, 0) ON CONFLICT (subject) DO NOTHING",
            {subject}));
  return {};
}

#define QW_PRICE_COLUMNS "model, currency, prompt, cached, reasoning, output, trained"
Price price_of(const Row& r) {
  return {r.text(0), r.text(1), r.integer(2), r.integer(3), r.integer(4), r.integer(5), r.integer(6)};
}
Budget budget_of(const Row& r) {
  return {r.text(0), r.text(1), r.text(2), r.text(3), r.integer(4), r.integer(5), r.integer(6), r.integer(7)};
}

Result<std::optional<Price>> find_price(Connection& c, const std::string& model) {
  QW_ASSIGN(
      const Rows rows,
      c.run("SELECT " QW_PRICE_COLUMNS " FROM prices WHERE model = $1 OR model = '*' "
            "ORDER BY CASE WHEN model = $1 THEN 0 ELSE 1 END LIMIT 1",
            {model}));
  if (rows.empty()) return std::optional<Price>();
  return std::optional<Price>(price_of(rows[0]));
}

Status insert_reservation(Connection& c, const Asked& a, const Decision& d, const Price* price, std::int64_t now) {
  const Price p = price == nullptr ? Price() : *price;
  QW_TRY(
      c.run("INSERT INTO reservations (id, request_id, instance, key_id, user_id, project_id, organisation_id, model, "
            "created_us, "
            "lease_us, prompt_tokens, output_tokens, prompt_done, cached_done, reasoning_done, output_done, currency, "
            "price_prompt, "
            "price_cached, price_reasoning, price_output, trained_tokens, price_trained, trained_done) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, 0, 0, $13, $14, $15, $16, $17, $18, $19, 0)",
            {d.admission.reservation, a.request_id, a.instance, a.key_id, a.user_id, a.project_id, a.organisation_id,
             a.model, now, now + Ledger::kLeaseUs, a.prompt_tokens, d.admission.output_tokens, p.currency, p.prompt,
             p.cached, p.reasoning, p.output, a.trained_tokens, p.trained}));
  for (const Share& share : d.shares) {
    QW_TRY(c.run("INSERT INTO reservation_shares (reservation_id, kind, target, amount) VALUES ($1, $2, $3, $4)",
                 {d.admission.reservation, share.kind, share.target, share.amount}));
  }
  return {};
}

// Tokens that were not reserved cannot be charged.
Tokens cut_to(const Tokens& t, std::int64_t prompt, std::int64_t output, std::int64_t trained) {
  Tokens out;
  out.prompt = std::clamp<std::int64_t>(t.prompt, 0, prompt);
  out.cached = std::clamp<std::int64_t>(t.cached, 0, out.prompt);
  out.output = std::clamp<std::int64_t>(t.output, 0, output);
  out.reasoning = std::clamp<std::int64_t>(t.reasoning, 0, out.output);
  out.trained = std::clamp<std::int64_t>(t.trained, 0, trained);
  return out;
}

void give_back(Subjects& subjects, const std::vector<Share>& shares, const Tokens& used, std::int64_t cost,
               std::int64_t reserved_tokens) {
  const std::int64_t used_tokens = used.prompt + used.output;
  for (const Share& share : shares) {
    if (share.kind == "subject") {
      SubjectState& s = subjects[share.target];
      s.running = std::max<std::int64_t>(0, s.running - 1);
      const auto used_us =
          reserved_tokens == 0
              ? 0
              : static_cast<std::int64_t>((static_cast<__int128>(share.amount) * used_tokens + reserved_tokens - 1) /
                                          reserved_tokens);
      s.tokens.tat_us -= share.amount - used_us;
      s.changed = true;
      continue;
    }
    for (auto& [name, s] : subjects) {
      for (Budget& b : s.budgets) {
        if (b.id != share.target) continue;
        b.reserved -= share.amount;
        b.spent += b.unit == "tokens" ? used_tokens + used.trained : cost;
        s.changed = true;
      }
    }
  }
}

// Enters one; false if it is not reserved any more. `expired_us`: only if its lease ends before (0: in any case).
Result<bool> settle_one(Connection& c, const Settlement& settlement, const std::vector<Share>& shares,
                        Subjects& subjects, std::int64_t now, std::int64_t expired_us) {
  QW_ASSIGN(
      const Rows rows,
      c.run("SELECT request_id, key_id, user_id, project_id, organisation_id, model, created_us, prompt_tokens, "
            "output_tokens, "
            "currency, price_prompt, price_cached, price_reasoning, price_output, lease_us, prompt_done, cached_done, "
            "reasoning_done, output_done, trained_tokens, trained_done, price_trained FROM reservations WHERE id = $1" +
                std::string(c.for_update()),
            {settlement.reservation}));
  if (rows.empty()) return false;
  const Row& r = rows[0];
  if (expired_us != 0 && r.integer(14) >= expired_us) return false;
  const Tokens done{r.integer(15), r.integer(16), r.integer(17), r.integer(18), r.integer(20)};
  const Tokens used = cut_to(expired_us != 0 ? done : settlement.tokens, r.integer(7), r.integer(8), r.integer(19));
  const Price price{"", r.text(9), r.integer(10), r.integer(11), r.integer(12), r.integer(13), r.integer(21)};
  const std::int64_t cost = cost_of(price, used);
  give_back(subjects, shares, used, cost, r.integer(7) + r.integer(8));
  QW_TRY(c.run(
      "INSERT INTO usage_ledger (reservation_id, request_id, key_id, user_id, project_id, organisation_id, model, "
      "outcome, "
      "started_us, ended_us, prompt_tokens, cached_tokens, reasoning_tokens, output_tokens, currency, cost, trained_tokens) "
      "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
      {settlement.reservation, r.text(0), r.text(1), r.text(2), r.text(3), r.text(4), r.text(5), settlement.outcome,
       r.integer(6), now, used.prompt, used.cached, used.reasoning, used.output, price.currency, cost, used.trained}));
  QW_TRY(c.run("DELETE FROM reservation_shares WHERE reservation_id = $1", {settlement.reservation}));
  QW_TRY(c.run("DELETE FROM reservations WHERE id = $1", {settlement.reservation}));
  return true;
}

Result<std::int64_t> settle_all(Connection& c, std::span<const Settlement> settlements, std::int64_t now,
                                std::int64_t expired_us) {
  std::vector<std::vector<Share>> shares(settlements.size());
  std::set<std::string> names;
  for (std::size_t i = 0; i < settlements.size(); ++i) {
    QW_ASSIGN(const Rows rows, c.run("SELECT kind, target, amount FROM reservation_shares WHERE reservation_id = $1",
                                     {settlements[i].reservation}));
    for (const Row& r : rows) {
      shares[i].push_back({r.text(0), r.text(1), r.integer(2)});
      if (shares[i].back().kind != "budget") names.insert(shares[i].back().target);
    }
  }
  QW_ASSIGN(Subjects subjects, load_subjects(c, names, now));
  std::int64_t entered = 0;
  for (std::size_t i = 0; i < settlements.size(); ++i) {
    QW_ASSIGN(const bool one, settle_one(c, settlements[i], shares[i], subjects, now, expired_us));
    entered += one ? 1 : 0;
    if (settlements[i].content) QW_TRY(insert_content(c, *settlements[i].content, now));
  }
  QW_TRY(save_subjects(c, subjects));
  return entered;
}

// The condition of a query, with its values put behind `values`.
std::string where_of(const UsageQuery& q, std::vector<Value>& values) {
  std::string out = "1 = 1";
  const auto add = [&](const char* test, Value value) {
    values.push_back(std::move(value));
    out += std::string(" AND ") + test + " $" + std::to_string(values.size());
  };
  if (!q.key_id.empty()) add("key_id =", q.key_id);
  if (!q.user_id.empty()) add("user_id =", q.user_id);
  if (!q.project_id.empty()) add("project_id =", q.project_id);
  if (!q.organisation_id.empty()) add("organisation_id =", q.organisation_id);
  if (!q.model.empty()) add("model =", q.model);
  if (!q.request_id.empty()) add("request_id =", q.request_id);
  if (q.from_us != 0) add("ended_us >=", q.from_us);
  if (q.to_us != 0) add("ended_us <", q.to_us);
  return out;
}

std::string date_of_day(const std::string& number) {
  using namespace std::chrono;
  const year_month_day date{sys_days(days(std::stoll(number)))};
  const auto two = [](unsigned n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  return std::to_string(static_cast<int>(date.year())) + "-" + two(static_cast<unsigned>(date.month())) + "-" +
         two(static_cast<unsigned>(date.day()));
}

}  // namespace

std::int64_t cost_of(const Price& p, const Tokens& t) {
  return (t.prompt - t.cached) * p.prompt + t.cached * p.cached + (t.output - t.reasoning) * p.output +
         t.reasoning * p.reasoning + t.trained * p.trained;
}

Status Ledger::set_limits(const Limits& limits) {
  QW_TRY(check_subject(limits.subject));
  for (const std::int64_t n : {limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency, limits.jobs}) {
    if (n < 0 || n > kMostTokens)
      return fail(ErrorKind::kBadInput, "a limit is 0 (none) to " + std::to_string(kMostTokens));
  }
  if (limits.jobs > 0 && !limits.subject.starts_with("project:"))
    return fail(ErrorKind::kBadInput, "a limit of jobs is a project's");
  return work_.transact([&](Connection& c) -> Status {
    QW_TRY(make_subject(c, limits.subject));
    QW_TRY(c.run(
        "UPDATE subjects SET requests_per_minute = $1, tokens_per_minute = $2, concurrency = $3, jobs = $4 "
        "WHERE subject = $5",
        {limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency, limits.jobs, limits.subject}));
    return {};
  });
}

Result<std::vector<Limits>> Ledger::limits() {
  return work_.transact([&](Connection& c) -> Result<std::vector<Limits>> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT subject, requests_per_minute, tokens_per_minute, concurrency, running, jobs FROM subjects "
                    "WHERE requests_per_minute + tokens_per_minute + concurrency + jobs > 0 ORDER BY subject",
                    {}));
    std::vector<Limits> out;
    for (const Row& r : rows) out.push_back({r.text(0), r.integer(1), r.integer(2), r.integer(3), r.integer(5), r.integer(4)});
    return out;
  });
}

Result<Budget> Ledger::set_budget(const std::string& subject, const std::string& unit, const std::string& period,
                                  std::int64_t amount) {
  QW_TRY(check_subject(subject));
  if (unit.empty() || unit.size() > 16) return fail(ErrorKind::kBadInput, "a budget's unit is tokens or a currency");
  if (period != "total" && period != "day" && period != "month")
    return fail(ErrorKind::kBadInput, "a budget's period is total, day or month");
  if (amount < 0 || amount > kMostAmount) return fail(ErrorKind::kBadInput, "a budget's amount is out of range");
  return work_.transact([&](Connection& c) -> Result<Budget> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_TRY(make_subject(c, subject));
    QW_TRY(load_subjects(c, {subject}, now));  // the lock that admissions take
    QW_TRY(
        c.run("INSERT INTO budgets (id, subject, unit, period, amount, spent, reserved, period_us) VALUES ($1, $2, $3, "
              "$4, $5, 0, 0, $6) "
              "ON CONFLICT (subject, unit, period) DO UPDATE SET amount = excluded.amount",
              {fresh_id("budget_"), subject, unit, period, amount, period_of(period, now).begin_us}));
    QW_ASSIGN(const Rows rows,
              c.run("SELECT id, subject, unit, period, amount, spent, reserved, period_us FROM budgets "
                    "WHERE subject = $1 AND unit = $2 AND period = $3",
                    {subject, unit, period}));
    return budget_of(rows[0]);
  });
}

Result<std::vector<Budget>> Ledger::budgets(const std::string& subject) {
  return work_.transact([&](Connection& c) -> Result<std::vector<Budget>> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(const Rows rows,
              c.run("SELECT id, subject, unit, period, amount, spent, reserved, period_us FROM budgets "
                    "WHERE $1 = '' OR subject = $1 ORDER BY subject, unit, period",
                    {subject}));
    std::vector<Budget> out;
    for (const Row& r : rows) {
      out.push_back(budget_of(r));
      Budget& b = out.back();
      if (const auto begin = period_of(b.period, now).begin_us; begin > b.period_us) {
        b.period_us = begin;
        b.spent = 0;
      }
    }
    return out;
  });
}

Status Ledger::remove_budget(const std::string& id) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Rows rows, c.run("SELECT subject FROM budgets WHERE id = $1", {id}));
    if (rows.empty()) return fail(ErrorKind::kBadInput, "there is no budget " + id);
    QW_TRY(load_subjects(c, {rows[0].text(0)}, 0));
    QW_ASSIGN(const Rows gone, c.run("DELETE FROM budgets WHERE id = $1 AND reserved = 0 RETURNING id", {id}));
    if (gone.empty())
      return fail(ErrorKind::kBadInput, "budget " + id + " has running requests: try again when they have ended");
    return {};
  });
}

Status Ledger::set_price(const Price& p) {
  if (p.model.empty() || p.currency.empty() || p.currency.size() > 16 || p.currency == "tokens")
    return fail(ErrorKind::kBadInput, "a price needs a model and a currency");
  for (const std::int64_t n : {p.prompt, p.cached, p.reasoning, p.output, p.trained}) {
    if (n < 0 || n > kMostPrice) return fail(ErrorKind::kBadInput, "a price is out of range");
  }
  if (p.cached > p.prompt) return fail(ErrorKind::kBadInput, "cached tokens cannot cost more than others");
  return work_.transact([&](Connection& c) -> Status {
    QW_TRY(
        c.run("INSERT INTO prices (" QW_PRICE_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7) "
              "ON CONFLICT (model) DO UPDATE SET currency = excluded.currency, prompt = excluded.prompt, cached = "
              "excluded.cached, "
              "reasoning = excluded.reasoning, output = excluded.output, trained = excluded.trained",
              {p.model, p.currency, p.prompt, p.cached, p.reasoning, p.output, p.trained}));
    return {};
  });
}
Result<std::vector<Price>> Ledger::prices() {
  return work_.transact([&](Connection& c) -> Result<std::vector<Price>> {
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " QW_PRICE_COLUMNS " FROM prices ORDER BY model", {}));
    std::vector<Price> out;
    for (const Row& r : rows) out.push_back(price_of(r));
    return out;
  });
}
Status Ledger::remove_price(const std::string& model) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const Rows gone, c.run("DELETE FROM prices WHERE model = $1 RETURNING model", {model}));
    if (gone.empty()) return fail(ErrorKind::kBadInput, "there is no price of " + model);
    return {};
  });
}

Result<std::vector<Admission>> Ledger::admit(std::span<const Asked> asked) {
  std::set<std::string> names;
  for (const Asked& a : asked) {
    for (const std::int64_t n : {a.prompt_tokens, a.output_tokens, a.least_output_tokens, a.trained_tokens}) {
      if (n < 0 || n > kMostTokens) return fail(ErrorKind::kBadInput, "a request's tokens are out of range");
    }
    for (auto& name : subjects_of(a)) names.insert(std::move(name));
  }
  return work_.transact([&](Connection& c) -> Result<std::vector<Admission>> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    QW_ASSIGN(Subjects subjects, load_subjects(c, names, now));
    std::map<std::string, std::optional<Price>> prices;
    std::vector<Admission> out;
    for (const Asked& a : asked) {
      auto price = prices.find(a.model);
      if (price == prices.end()) {
        QW_ASSIGN(auto found, find_price(c, a.model));
        price = prices.emplace(a.model, std::move(found)).first;
      }
      const Price* p = price->second ? &*price->second : nullptr;
      Decision decision = decide(a, subjects_of(a), p, subjects, now);
      if (decision.admission.refusal == Refusal::kNone) {
        decision.admission.reservation = fresh_id("rsv_");
        QW_TRY(insert_reservation(c, a, decision, p, now));
      }
      out.push_back(std::move(decision.admission));
    }
    QW_TRY(save_subjects(c, subjects));
    return out;
  });
}

Result<std::int64_t> Ledger::settle(std::span<const Settlement> settlements) {
  return work_.transact([&](Connection& c) -> Result<std::int64_t> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    return settle_all(c, settlements, now, 0);
  });
}

Status Ledger::renew(const std::string& instance, std::span<const Progress> progress) {
  return work_.transact([&](Connection& c) -> Status {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    for (const Progress& p : progress) {
      QW_TRY(
          c.run("UPDATE reservations SET lease_us = $1, prompt_done = $2, cached_done = $3, reasoning_done = $4, "
                "output_done = $5, trained_done = $6 "
                "WHERE id = $7 AND instance = $8",
                {now + kLeaseUs, p.tokens.prompt, p.tokens.cached, p.tokens.reasoning, p.tokens.output, p.tokens.trained,
                 p.reservation, instance}));
    }
    return {};
  });
}

Result<std::int64_t> Ledger::reclaim(const std::string& instance, bool alone) {
  return work_.transact([&](Connection& c) -> Result<std::int64_t> {
    QW_ASSIGN(const std::int64_t now, work_.now_us(c));
    const std::int64_t expired = alone ? now + kLeaseUs + 1 : now;  // alone: whatever its lease says
    QW_ASSIGN(const Rows rows, c.run("SELECT id FROM reservations WHERE lease_us < $1 AND instance <> $2 ORDER BY id",
                                     {expired, instance}));
    std::vector<Settlement> dead;
    for (const Row& r : rows) dead.push_back({r.text(0), "interrupted", {}});
    return settle_all(c, dead, now, expired);
  });
}

Result<std::int64_t> Ledger::open_reservations(const std::string& request_id) {
  return work_.transact([&](Connection& c) -> Result<std::int64_t> {
    QW_ASSIGN(const Rows rows, c.run("SELECT COUNT(*) FROM reservations WHERE $1 = '' OR request_id = $1", {request_id}));
    return rows[0].integer(0);
  });
}

Result<std::vector<UsageRow>> Ledger::usage(const UsageQuery& query, std::int64_t after, std::int64_t most) {
  return work_.transact([&](Connection& c) -> Result<std::vector<UsageRow>> {
    std::vector<Value> values;
    std::string sql =
        "SELECT number, reservation_id, request_id, key_id, user_id, project_id, organisation_id, model, outcome, "
        "started_us, "
        "ended_us, prompt_tokens, cached_tokens, reasoning_tokens, output_tokens, currency, cost, trained_tokens FROM usage_ledger "
        "WHERE " +
        where_of(query, values);
    values.emplace_back(after);
    sql += " AND number > $" + std::to_string(values.size());
    values.emplace_back(most);
    sql += " ORDER BY number LIMIT $" + std::to_string(values.size());
    QW_ASSIGN(const Rows rows, c.run(sql, values));
    std::vector<UsageRow> out;
    for (const Row& r : rows) {
      out.push_back({r.integer(0),
                     r.text(1),
                     r.text(2),
                     r.text(3),
                     r.text(4),
                     r.text(5),
                     r.text(6),
                     r.text(7),
                     r.text(8),
                     r.integer(9),
                     r.integer(10),
                     {r.integer(11), r.integer(12), r.integer(13), r.integer(14), r.integer(17)},
                     r.text(15),
                     r.integer(16)});
    }
    return out;
  });
}

Result<std::vector<UsageSum>> Ledger::usage_sums(const UsageQuery& query, const std::string& by) {
  static const std::map<std::string, std::string> kColumns = {{"", "''"},
                                                              {"key", "key_id"},
                                                              {"user", "user_id"},
                                                              {"project", "project_id"},
                                                              {"organisation", "organisation_id"},
                                                              {"model", "model"},
                                                              {"day", "CAST(ended_us / 86400000000 AS TEXT)"}};
  const auto column = kColumns.find(by);
  if (column == kColumns.end())
    return fail(ErrorKind::kBadInput, "usage is summed by key, user, project, organisation, model or day");
  return work_.transact([&](Connection& c) -> Result<std::vector<UsageSum>> {
    std::vector<Value> values;
    const std::string where = where_of(query, values);
    const auto sum = [](const char* name) { return std::string(", CAST(SUM(") + name + ") AS BIGINT)"; };
    QW_ASSIGN(const Rows rows,
              c.run("SELECT " + column->second + " AS grp, currency, COUNT(*)" + sum("cost") + sum("prompt_tokens") +
                        sum("cached_tokens") + sum("reasoning_tokens") + sum("output_tokens") +
                        sum("trained_tokens") +
                        " FROM usage_ledger WHERE " + where + " GROUP BY grp, currency ORDER BY grp, currency",
                    values));
    std::vector<UsageSum> out;
    for (const Row& r : rows) {
      out.push_back({by == "day" ? date_of_day(r.text(0)) : r.text(0),
                     r.text(1),
                     r.integer(2),
                     r.integer(3),
                     {r.integer(4), r.integer(5), r.integer(6), r.integer(7), r.integer(8)}});
    }
    return out;
  });
}

}  // namespace qw::store
