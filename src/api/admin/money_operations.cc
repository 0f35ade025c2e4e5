// Limits, budgets, prices, and what was used.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "api/admin/arguments.h"
#include "api/admin/operations.h"

namespace qw::api::admin {
namespace {

using json::Value;
using store::Store;

constexpr std::int64_t kUsualRows = 1000, kMostRows = 10'000;  // of the ledger at once

Result<Value> list_limits(Store* s, FieldReader& in) {
  QW_TRY(fine(in));
  return all(s->ledger().limits());
}
// Those that are not given stay.
Result<Value> set_limits(Store* s, FieldReader& in) {
  const std::string subject = needed(in, "subject");
  const auto requests = in.integer("requests_per_minute", 0, kUnbounded),
             tokens = in.integer("tokens_per_minute", 0, kUnbounded);
  const auto concurrency = in.integer("concurrency", 0, kUnbounded), jobs = in.integer("jobs", 0, kUnbounded);
  QW_TRY(fine(in));
  store::Limits limits;
  QW_ASSIGN(limits.subject, subject_of(*s, subject));
  QW_ASSIGN(const auto present, s->ledger().limits());
  for (const store::Limits& l : present)
    if (l.subject == limits.subject) limits = l;
  limits.requests_per_minute = requests.value_or(limits.requests_per_minute);
  limits.tokens_per_minute = tokens.value_or(limits.tokens_per_minute);
  limits.concurrency = concurrency.value_or(limits.concurrency);
  limits.jobs = jobs.value_or(limits.jobs);
  QW_TRY(s->ledger().set_limits(limits));
  return to_json(limits);
}

// As ISO 4217 has them. A budget of a currency that nothing is priced in would let everything through.
Status check_currency(const std::string& text) {
  const bool three =
      text.size() == 3 && std::all_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  return three ? Status()
               : fail(ErrorKind::kBadInput, "a currency has three capital letters, such as CNY, not " + text);
}

Result<Value> list_budgets(Store* s, FieldReader& in) {
  std::string subject = in.text("subject").value_or("");
  QW_TRY(fine(in));
  if (!subject.empty()) {
    QW_ASSIGN(subject, subject_of(*s, subject));
  }
  return all(s->ledger().budgets(subject));
}
Result<Value> set_budget(Store* s, FieldReader& in) {
  const std::string where = needed(in, "subject"), text = amount(in, "amount", true);
  const std::string unit = in.text("unit").value_or("tokens"), period = in.text("period").value_or("total");
  QW_TRY(fine(in));
  QW_ASSIGN(const std::string subject, subject_of(*s, where));
  QW_ASSIGN(std::int64_t most, billionths_of(text));
  if (unit == "tokens") {
    if (most % 1'000'000'000 != 0) return fail(ErrorKind::kBadInput, "a budget in tokens is a whole number");
    most /= 1'000'000'000;
  } else {
    QW_TRY(check_currency(unit));
  }
  return one(s->ledger().set_budget(subject, unit, period, most));
}
Result<Value> remove_budget(Store* s, FieldReader& in) {
  const std::string id = needed(in, "budget");
  QW_TRY(fine(in));
  return done(s->ledger().remove_budget(id));
}

// For a million tokens, in steps of a thousandth of the currency's unit (a billionth for each token).
Result<std::int64_t> price(const std::string& text) {
  QW_ASSIGN(const std::int64_t billionths, billionths_of(text));
  if (billionths % 1'000'000 != 0)
    return fail(ErrorKind::kBadInput, "a price has at most 3 decimals for a million tokens: " + text);
  return billionths / 1'000'000;
}
Result<Value> list_prices(Store* s, FieldReader& in) {
  QW_TRY(fine(in));
  return all(s->ledger().prices());
}
Result<Value> set_price(Store* s, FieldReader& in) {
  store::Price p;
  p.model = needed(in, "model");
  p.currency = needed(in, "currency");
  const std::string prompt = amount(in, "prompt", true), output = amount(in, "output", true);
  const std::string cached = amount(in, "cached");
  const std::string reasoning = amount(in, "reasoning"), trained = amount(in, "trained");
  QW_TRY(fine(in));
  QW_TRY(check_currency(p.currency));
  QW_ASSIGN(p.prompt, price(prompt));
  QW_ASSIGN(p.output, price(output));
  QW_ASSIGN(p.cached, cached.empty() ? Result<std::int64_t>(p.prompt) : price(cached));
  QW_ASSIGN(p.reasoning, reasoning.empty() ? Result<std::int64_t>(p.output) : price(reasoning));
  QW_ASSIGN(p.trained, trained.empty() ? Result<std::int64_t>(0) : price(trained));
  QW_TRY(s->ledger().set_price(p));
  return to_json(p);
}
Result<Value> remove_price(Store* s, FieldReader& in) {
  const std::string model = needed(in, "model");
  QW_TRY(fine(in));
  return done(s->ledger().remove_price(model));
}

// 2026-11-28, in UTC; 0 for "".
Result<std::int64_t> day(const std::string& text) {
  if (text.empty()) return 0;
  int y = 0, m = 0, d = 0, used = 0;
  using namespace std::chrono;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2d%n", &y, &m, &d, &used) != 3 ||
      static_cast<std::size_t>(used) != text.size())
    return fail(ErrorKind::kBadInput, text + " is no day (such as 2026-11-28)");
  const year_month_day date{year(y), month(static_cast<unsigned>(m)), std::chrono::day(static_cast<unsigned>(d))};
  if (!date.ok()) return fail(ErrorKind::kBadInput, "there is no day " + text);
  return duration_cast<microseconds>(sys_days(date).time_since_epoch()).count();
}

// The question of an export or a sum; the caller still asks `fine`.
struct Question {
  std::string key, user, project, organisation, from, to;
  explicit Question(FieldReader& in)
      : key(in.text("key").value_or("")),
        user(in.text("user").value_or("")),
        project(in.text("project").value_or("")),
        organisation(in.text("organisation").value_or("")),
        from(in.text("from").value_or("")),
        to(in.text("to").value_or("")) {}
  Result<store::UsageQuery> query(Store& s) const {
    store::UsageQuery out;
    const auto id = [](std::string& into, const auto& found) -> Status {
      if (!found) return tl::unexpected(found.error());
      into = found->id;
      return {};
    };
    if (!key.empty()) QW_TRY(id(out.key_id, s.tenants().key(key)));
    if (!user.empty()) QW_TRY(id(out.user_id, s.tenants().user(user)));
    if (!project.empty()) QW_TRY(id(out.project_id, s.tenants().project(project)));
    if (!organisation.empty()) QW_TRY(id(out.organisation_id, s.tenants().organisation(organisation)));
    QW_ASSIGN(out.from_us, day(from));
    QW_ASSIGN(out.to_us, day(to));
    return out;
  }
};
Result<Value> sum_usage(Store* s, FieldReader& in) {
  const Question question(in);
  const std::string by = in.text("by").value_or("");
  QW_TRY(fine(in));
  QW_ASSIGN(const auto query, question.query(*s));
  return all(s->ledger().usage_sums(query, by));
}
Result<Value> list_usage(Store* s, FieldReader& in) {
  const Question question(in);
  const auto after = count(in, "after", 0, kUnbounded), limit = count(in, "limit", 1, kMostRows);
  QW_TRY(fine(in));
  QW_ASSIGN(const auto query, question.query(*s));
  return all(s->ledger().usage(query, after.value_or(0), limit.value_or(kUsualRows)));
}

constexpr Operation kOperations[] = {
    {"limits.list", "GET", "/limits", "List limits", list_limits, example<store::Limits>, true},
    {"limits.set", "POST", "/limits", "Set limits", set_limits, example<store::Limits>},
    {"budgets.list", "GET", "/budgets", "List budgets", list_budgets, example<store::Budget>, true},
    {"budgets.set", "POST", "/budgets", "Set a budget", set_budget, example<store::Budget>},
    {"budgets.remove", "DELETE", "/budgets/{budget}", "Remove a budget", remove_budget, done_example},
    {"prices.list", "GET", "/prices", "List prices", list_prices, example<store::Price>, true},
    {"prices.set", "POST", "/prices", "Set a price", set_price, example<store::Price>},
    {"prices.remove", "DELETE", "/prices/{model*}", "Remove a price", remove_price, done_example},
    {"usage.sum", "GET", "/usage", "Sum what was used", sum_usage, example<store::UsageSum>, true},
    {"usage.list", "GET", "/usage/rows", "Export what was used", list_usage, example<store::UsageRow>, true},
};

}  // namespace

std::span<const Operation> money_operations() { return kOperations; }

}  // namespace qw::api::admin
