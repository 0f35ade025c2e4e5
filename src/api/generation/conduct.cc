#include "api/generation/conduct.h"

#include <algorithm>

#include "base/sha256.h"
#include "governance/audit/log_files.h"
#include "store/store.h"

namespace qw::api {
namespace {

std::string moment(std::int64_t us) { return governance::timestamp(us).substr(0, 19) + "Z"; }

}  // namespace

std::string subject_of(const Exchange& exchange) {
  if (exchange.who() == nullptr || exchange.accounts() == nullptr) return "";
  const store::Key& key = exchange.who()->key;
  return key.user_id.empty() ? key.id : key.user_id;
}

std::string end_user_of(const Exchange& exchange) {
  if (exchange.who() == nullptr || exchange.accounts() == nullptr || exchange.named_subject().empty()) return "";
  constexpr std::size_t kDigits = 24;
  const std::string& project = exchange.who()->key.project_id;
  return project + ".u" + base::sha256_hex(project + "\n" + exchange.named_subject()).substr(0, kDigits);
}

bool is_minor(const Exchange& exchange, const governance::Policy& policy) {
  return exchange.who() != nullptr && exchange.who()->minor && policy.is_minor(exchange.who()->minor->age);
}

bool needs_consent(const Exchange& exchange, const governance::Policy& policy) {
  return is_minor(exchange, policy) && !exchange.who()->minor->consent &&
         policy.needs_consent(exchange.who()->minor->age);
}

std::optional<ApiError> held_back(const store::Met& met, Exchange& exchange) {
  using Verdict = store::Met::Verdict;
  switch (met.verdict) {
    case Verdict::kGo:
      return std::nullopt;
    case Verdict::kSuspended:
      exchange.add_header("Retry-After", std::to_string(retry_after_of(met.wait_us)));
      return ApiError{403,
                      "permission_error",
                      "Requests are refused until " + moment(met.conduct.until_us) +
                          ": too many of them broke the rules of this service.",
                      "",
                      "suspended",
                      -1};
    case Verdict::kSlowed:
      return ApiError{429,
                      "rate_limit_error",
                      "Requests are slowed until " + moment(met.conduct.until_us) +
                          ": too many of them broke the rules of this service.",
                      "",
                      "slowed",
                      retry_after_of(met.wait_us)};
    case Verdict::kUsedUp:
      return ApiError{429, "rate_limit_error", "By the policy of this service, today's time of use is over.",
                      "",  "daily_time_used",  retry_after_of(met.wait_us)};
  }
  return std::nullopt;
}

std::string warning_of(const store::Conduct& c) {
  std::string out =
      " It is counted: " + std::to_string(c.in_a_row) + " in a row, " + std::to_string(c.today) + " today.";
  if (c.standing == "suspended") out += " Requests are refused until " + moment(c.until_us) + ".";
  if (c.standing == "slowed") out += " Requests are slowed until " + moment(c.until_us) + ".";
  return out;
}

json::Object conduct_note(const store::Conduct& c) {
  json::Object out{{"subject", c.subject},
                   {"standing", c.standing},
                   {"in_a_row", c.in_a_row},
                   {"today", c.today},
                   {"total", c.total}};
  if (c.until_us > 0) out.set("until", c.until_us / 1'000'000);
  return out;
}

json::Array helplines_of(const governance::CrisisRule& rule) {
  json::Array out;
  for (const governance::Helpline& line : rule.helplines) {
    json::Object one{{"name", line.name}, {"contact", line.contact}};
    if (!line.hours.empty()) one.set("hours", line.hours);
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace qw::api
