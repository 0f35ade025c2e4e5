#include "store/internal/account_state.h"

#include <algorithm>

namespace qw::store {
namespace {

constexpr std::size_t kNamesAtOnce = 8;  // two requests' subjects in one statement
#define QW_EIGHT "($1, $2, $3, $4, $5, $6, $7, $8)"

// What one token of output can cost at most.
std::int64_t dearest(const Price& price) { return std::max(price.output, price.reasoning); }

std::string money(std::int64_t nano, const std::string& unit) {
  if (unit == "tokens") return std::to_string(nano) + " tokens";
  std::string fraction = std::to_string(nano % 1'000'000'000);
  fraction.insert(0, 9 - fraction.size(), '0');
  while (fraction.size() > 2 && fraction.back() == '0') fraction.pop_back();
  return std::to_string(nano / 1'000'000'000) + "." + fraction + " " + unit;
}

class Decider {
 public:
  Decider(const Asked& asked, const Price* price, Subjects& subjects, std::int64_t now)
      : asked_(asked), price_(price), subjects_(subjects), now_(now) {
    grant_ = asked.output_tokens;
  }

  Decision run(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      if (const auto found = subjects_.find(name); found != subjects_.end()) mine_.emplace_back(name, &found->second);
    }
    for (const auto& [name, state] : mine_) {
      if (!look(name, *state)) {
        out_.shares.clear();
        states(0);
        return std::move(out_);
      }
    }
    for (const auto& [name, state] : mine_) take(name, *state);
    out_.admission.output_tokens = grant_;
    states(grant_);
    return std::move(out_);
  }

 private:
  bool refuse(Refusal refusal, const std::string& subject, std::string why, std::int64_t retry_us) {
    out_.admission.refusal = refusal;
    out_.admission.subject = subject;
    out_.admission.why = std::move(why);
    out_.admission.retry_after_us = retry_us;
    return false;
  }
  bool trains() const { return asked_.trained_tokens > 0; }
  std::int64_t least() const { return asked_.prompt_tokens + asked_.least_output_tokens; }

  // Lowers the grant to what `name` has; false (and the refusal) if that is too little.
  bool look(const std::string& name, SubjectState& s) {
    if (!trains() && !look_at_rates(name, s)) return false;
    for (const Budget& budget : s.budgets) {
      if (!look_at_budget(name, budget)) return false;
    }
    return true;
  }

  bool look_at_rates(const std::string& name, SubjectState& s) {
    if (s.concurrency > 0 && s.running >= s.concurrency)
      return refuse(Refusal::kConcurrency, name,
                    name + " has " + std::to_string(s.concurrency) + " requests running, its limit", 1'000'000);
    if (s.requests.limit > 0) {
      if (const auto wait = s.requests.wait_us(1, now_); wait != 0)
        return refuse(Refusal::kRequests, name,
                      name + " is limited to " + std::to_string(s.requests.limit) + " requests a minute", wait);
    }
    if (s.tokens.limit > 0) {
      if (const auto wait = s.tokens.wait_us(least(), now_); wait != 0)
        return refuse(Refusal::kTokens, name,
                      name + " is limited to " + std::to_string(s.tokens.limit) +
                          " tokens a minute; this request may take " + std::to_string(least()),
                      wait);
      grant_ = std::min(grant_, s.tokens.available(now_) - asked_.prompt_tokens);
    }
    return true;
  }

  bool look_at_budget(const std::string& name, const Budget& budget) {
    std::int64_t prompt = 1, output = 1, trained = 1;
    if (budget.unit != "tokens") {
      if (price_ == nullptr || price_->currency != budget.unit)
        return refuse(
            Refusal::kNoPrice, name,
            name + " has a budget in " + budget.unit + ", and the model " + asked_.model + " has no price in it", -1);
      prompt = price_->prompt;
      output = dearest(*price_);
      trained = price_->trained;
    }
    const std::int64_t needed =
        asked_.prompt_tokens * prompt + asked_.least_output_tokens * output + asked_.trained_tokens * trained;
    if (needed > budget.left()) {
      const auto period = period_of(budget.period, now_);
      // What others have reserved may come back; what is spent does so with the next period only.
      const std::int64_t retry = needed <= budget.amount - budget.spent        ? 1'000'000
                                 : period.end_us < 0 || needed > budget.amount ? -1
                                                                               : period.end_us - now_;
      return refuse(Refusal::kBudget, name,
                    name + " has " + money(std::max<std::int64_t>(budget.left(), 0), budget.unit) + " left of " +
                        money(budget.amount, budget.unit) + " (" + budget.period + "); this request may cost " +
                        money(needed, budget.unit),
                    retry);
    }
    if (output > 0) grant_ = std::min(grant_, (budget.left() - asked_.prompt_tokens * prompt) / output);
    return true;
  }

  void take(const std::string& name, SubjectState& s) {
    Share share{trains() ? "payer" : "subject", name, 0};
    if (!trains()) ++s.running;
    if (!trains() && s.requests.limit > 0) s.requests.take(1, now_);
    if (!trains() && s.tokens.limit > 0) {
      share.amount = s.tokens.cost_us(asked_.prompt_tokens + grant_);
      s.tokens.take(asked_.prompt_tokens + grant_, now_);
    }
    s.changed = true;
    out_.shares.push_back(std::move(share));
    for (Budget& budget : s.budgets) {
      const std::int64_t amount = budget.unit == "tokens"
                                      ? asked_.prompt_tokens + grant_ + asked_.trained_tokens
                                      : asked_.prompt_tokens * price_->prompt + grant_ * dearest(*price_) +
                                            asked_.trained_tokens * price_->trained;
      budget.reserved += amount;
      out_.shares.push_back({"budget", budget.id, amount});
    }
  }

  // For the reply's headers: the subject with the least left.
  void states(std::int64_t) {
    const auto tightest = [&](Rate SubjectState::*rate, RateState& out) {
      for (const auto& [name, state] : mine_) {
        const Rate& r = state->*rate;
        if (r.limit == 0) continue;
        const RateState here{r.limit, r.available(now_), r.ahead_us(now_)};
        if (out.limit == 0 || here.remaining < out.remaining) out = here;
      }
    };
    tightest(&SubjectState::requests, out_.admission.requests);
    tightest(&SubjectState::tokens, out_.admission.tokens);
  }

  const Asked& asked_;
  const Price* price_;
  Subjects& subjects_;
  std::int64_t now_, grant_;
  std::vector<std::pair<std::string, SubjectState*>> mine_;
  Decision out_;
};

}  // namespace

Decision decide(const Asked& asked, const std::vector<std::string>& names, const Price* price, Subjects& subjects,
                std::int64_t now_us) {
  return Decider(asked, price, subjects, now_us).run(names);
}

Result<Subjects> load_subjects(Connection& c, const std::set<std::string>& names, std::int64_t now_us) {
  static const std::string kSubjects =
      "SELECT subject, requests_per_minute, tokens_per_minute, concurrency, request_tat_us, token_tat_us, running FROM "
      "subjects "
      "WHERE subject IN " QW_EIGHT " ORDER BY subject";
  static const std::string kBudgets =
      "SELECT id, subject, unit, period, amount, spent, reserved, period_us FROM budgets WHERE subject IN " QW_EIGHT
      " ORDER BY id";
  Subjects out;
  auto at = names.begin();
  while (at != names.end()) {
    std::vector<Value> eight;
    while (eight.size() < kNamesAtOnce) eight.emplace_back(at == names.end() ? std::string() : *at++);
    QW_ASSIGN(const Rows rows, c.run(kSubjects + std::string(c.for_update()), eight));
    if (rows.empty()) continue;
    for (const Row& r : rows) {
      SubjectState& s = out[r.text(0)];
      s.requests = {r.integer(1), r.integer(4)};
      s.tokens = {r.integer(2), r.integer(5)};
      s.concurrency = r.integer(3);
      s.running = r.integer(6);
    }
    QW_ASSIGN(const Rows budgets, c.run(kBudgets, eight));
    for (const Row& r : budgets) {
      Budget b{r.text(0), r.text(1), r.text(2), r.text(3), r.integer(4), r.integer(5), r.integer(6), r.integer(7)};
      SubjectState& s = out[b.subject];
      if (const auto begin = period_of(b.period, now_us).begin_us; begin > b.period_us) {
        b.period_us = begin;
        b.spent = 0;
        s.changed = true;
      }
      s.budgets.push_back(std::move(b));
    }
  }
  return out;
}

Status save_subjects(Connection& c, const Subjects& subjects) {
  for (const auto& [name, s] : subjects) {
    if (!s.changed) continue;
    QW_TRY(c.run("UPDATE subjects SET request_tat_us = $1, token_tat_us = $2, running = $3 WHERE subject = $4",
                 {s.requests.tat_us, s.tokens.tat_us, s.running, name}));
    for (const Budget& b : s.budgets) {
      QW_TRY(c.run("UPDATE budgets SET spent = $1, reserved = $2, period_us = $3 WHERE id = $4",
                   {b.spent, b.reserved, b.period_us, b.id}));
    }
  }
  return {};
}

}  // namespace qw::store
