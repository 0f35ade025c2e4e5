// Limits, budgets, and the ledger of what was used.
//
// Money cannot be overspent: before a request is computed, the most it can cost is reserved in every budget it counts
// against; afterwards what it did cost is entered and the rest given back. Both are transactions, so neither
// concurrency nor a crash can lose or double an entry: a request is reserved, then exactly once settled. A reservation
// has a lease, which its service renews together with how far the request has come; when a lease runs out (its service
// died), any other settles it by that.
//
// Subjects: "key:ID", "user:ID", "project:ID", "org:ID". A request counts against all four of its own.
// Rates are generic cell rate algorithms with a minute's burst: a limit of N a minute admits N at once and then one
// every 60/N seconds; tokens that were reserved and not used are given back. Money is in billionths of a currency's
// unit. Times are microseconds since 1970.
//
// Errors: kBadInput for values that make no sense; kFailed where the database fails. Threads: any.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/contents.h"

namespace qw::store {

class Work;
class Connection;

struct Limits {
  std::string subject;
  std::int64_t requests_per_minute = 0, tokens_per_minute = 0, concurrency = 0;  // 0: no limit
  std::int64_t jobs = 0;     // of a project: unfinished jobs at once; 0: Jobs::kUsualMostOpen
  std::int64_t running = 0;  // now (read only)
};

struct Budget {
  std::string id, subject;
  std::string unit;         // "tokens", or a currency such as "CNY"
  std::string period;       // "total", "day" or "month" (UTC)
  std::int64_t amount = 0;  // tokens, or billionths of the currency's unit
  std::int64_t spent = 0, reserved = 0;
  std::int64_t period_us = 0;  // when the present period began; 0: total
  std::int64_t left() const { return amount - spent - reserved; }
};

// Billionths of the currency's unit for one token (1000 = one unit for a million tokens).
struct Price {
  std::string model;  // "*": every model without a price of its own
  std::string currency;
  std::int64_t prompt = 0, cached = 0, reasoning = 0, output = 0;  // cached <= prompt
  std::int64_t trained = 0;                                        // of a model that is trained from this one
};

struct Tokens {
  std::int64_t prompt = 0;  // cached ones included
  std::int64_t cached = 0;
  std::int64_t reasoning = 0;  // part of output
  std::int64_t output = 0;
  std::int64_t trained = 0;  // what fine-tuning learned from
  friend bool operator==(const Tokens&, const Tokens&) = default;
};
std::int64_t cost_of(const Price& price, const Tokens& tokens);

struct Asked {
  std::string request_id, instance;  // instance: the service that asks; it must renew the lease
  std::string key_id, user_id, project_id, organisation_id, model;
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;        // the most that will be made
  std::int64_t least_output_tokens = 0;  // fewer are granted rather than none, but not fewer than this
  // Above 0: this is training, which lasts for hours. It counts against budgets, not against rates or concurrency.
  std::int64_t trained_tokens = 0;
};

enum class Refusal : std::uint8_t {
  kNone,
  kRequests,     // a minute's requests
  kTokens,       // a minute's tokens
  kConcurrency,  // requests at once
  kBudget,       // money or tokens
  kNoPrice,      // there is a budget in money, and the model has no price in its currency
};
// How a limit stands after the decision; limit 0: there is none.
struct RateState {
  std::int64_t limit = 0, remaining = 0, reset_us = 0;  // reset: until all is there again
};
struct Admission {
  Refusal refusal = Refusal::kNone;
  std::string subject;               // of the limit that refused
  std::string why;                   // one line with numbers
  std::int64_t retry_after_us = -1;  // -1: waiting does not help
  std::string reservation;
  std::int64_t output_tokens = 0;  // granted
  RateState requests, tokens;      // of the tightest subject
};

struct Settlement {
  std::string reservation;
  std::string outcome;  // "stop", "length", "cancelled", "error", "interrupted", ...
  Tokens tokens;
  std::optional<Content> content{};  // kept in the same transaction; its created_us is set there
};
struct Progress {
  std::string reservation;
  Tokens tokens;  // what was acknowledged to the client so far
};

struct UsageRow {
  std::int64_t number = 0;
  std::string reservation_id, request_id, key_id, user_id, project_id, organisation_id, model, outcome;
  std::int64_t started_us = 0, ended_us = 0;
  Tokens tokens;
  std::string currency;  // "": the model had no price
  std::int64_t cost = 0;
};
struct UsageQuery {
  std::string key_id, user_id, project_id, organisation_id, model, request_id;  // "": any
  std::int64_t from_us = 0, to_us = 0;  // of the end of the request; to 0: no end
};
struct UsageSum {
  std::string group, currency;  // value of the grouping column; costs of different currencies stand apart
  std::int64_t requests = 0, cost = 0;
  Tokens tokens;
};

class Ledger {
 public:
  explicit Ledger(Work& work) : work_(work) {}

  // Zero everywhere removes the limits.
  Status set_limits(const Limits& limits);
  Result<std::vector<Limits>> limits();
  // Adds one, or changes the amount of the one with the same subject, unit and period.
  Result<Budget> set_budget(const std::string& subject, const std::string& unit, const std::string& period,
                            std::int64_t amount);
  Result<std::vector<Budget>> budgets(const std::string& subject = "");
  Status remove_budget(const std::string& id);  // kBadInput while something is reserved in it
  Status set_price(const Price& price);
  Result<std::vector<Price>> prices();
  Status remove_price(const std::string& model);

  // One transaction for all: answers stand in the order of the questions, each decided as if asked after the one
  // before.
  Result<std::vector<Admission>> admit(std::span<const Asked> asked);
  // What is not reserved (any more) is left alone, so an entry can be sent twice. Tokens beyond the reserved ones are a
  // bug of the caller: they are cut to it, so that no budget is overrun. Returns how many were entered.
  Result<std::int64_t> settle(std::span<const Settlement> settlements);
  Status renew(const std::string& instance, std::span<const Progress> progress);
  // Settles what died with its service by its last progress: all that other instances than `instance` hold if
  // `alone` (nobody else serves from this store), else those whose lease ran out. Returns how many.
  Result<std::int64_t> reclaim(const std::string& instance, bool alone);
  Result<std::int64_t> open_reservations(const std::string& request_id = "");  // "": of all requests

  // Rows in order, at most `most`, of numbers above `after`.
  Result<std::vector<UsageRow>> usage(const UsageQuery& query, std::int64_t after, std::int64_t most);
  // Sums by "key", "user", "project", "organisation", "model", "day" or "" (all in one).
  Result<std::vector<UsageSum>> usage_sums(const UsageQuery& query, const std::string& by);

  // How long a reservation lives without being renewed. Renew three times as often.
  static constexpr std::int64_t kLeaseUs = 30'000'000;

 private:
  Work& work_;
};

}  // namespace qw::store
