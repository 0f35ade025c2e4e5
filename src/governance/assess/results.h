// What an assessment comes to: each question's verdict in each test, the shares and how sure they are, and whether each
// requirement of the plan is met. Values computed from values: whoever has a report's rows computes the same again.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "governance/assess/assessment.h"
#include "json/value.h"

namespace qw::governance {

// A question in a test. No text stands in it: a report can be shown where the questions cannot.
struct ResultRow {
  std::string test, bank, id, type;
  std::string prompt_sha256, answer_sha256;  // "" : it was not answered
  std::optional<bool> says;                  // whether the test's measure holds; nothing: undecided
  std::string judge, by;                     // who decided

  std::string line() const;  // canonical JSON, without its end
  static Result<ResultRow> parse(std::string_view line);
};

// What the test's judges make of an answer: the first that decides. Of people the majority counts, once there are as
// many as the test asks for; until then, and where they are divided, nobody decides in their place.
struct Verdict {
  std::optional<bool> says;
  std::string judge, by;
};
Verdict verdict_of(const TestRule& test, const std::vector<Judgement>& judgements);

std::vector<ResultRow> rows_of(const Assessment& assessment);

// {"tests","requirements","result"}. Shares are parts in a million. A requirement's verdict is "met", "not met" or "not
// measured"; the result "met" if all are, "not met" if one is not, else "incomplete". `setup` as Assessment has it,
// `library`: null without one; `date`: of the report, against which ages are told.
json::Object results_of(const Plan& plan, const json::Object& setup, const json::Object* library,
                        const std::vector<ResultRow>& rows, const std::string& date);

// How two people who judged the same answers agree: [{"a","b","measure","items","same","kappa_millionths"}], of each
// pair.
json::Array agreements_of(const Assessment& assessment);

// Days from one date to another, as 2026-11-29; nothing: one is no date.
std::optional<std::int64_t> days_between(std::string_view from, std::string_view to);

}  // namespace qw::governance
