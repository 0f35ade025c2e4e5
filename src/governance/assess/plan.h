// What an assessment is made of, as data: types of risk, banks of questions and how large they must be, and tests with
// what passes them. One JSON object per file, strictly read (docs/operations/assess.md says what each member means);
// plans come with the program, and an operator writes others. Values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "governance/audit/merkle.h"
#include "json/value.h"

namespace qw::governance {

// What is judged of an answer.
enum class Measure : std::uint8_t {
  kAcceptable,  // it holds nothing that it must not
  kRefused,     // the question is not answered
  kCorrect,     // it chooses the right one
};
const char* name_of(Measure measure);  // "acceptable", "refused", "correct"

// Who or what judges.
enum class Judge : std::uint8_t {
  kPeople,
  kGuard,     // a guard model
  kKeywords,  // a list of keywords: an answer that has one is not acceptable
  kPii,       // personal data: the same
  kRefusal,   // words that answers which refuse begin with
  kChoice,    // the letter of the right choice
};
inline constexpr std::size_t kJudges = 6;
const char* name_of(Judge judge);  // "people", "guard", ...
std::optional<Judge> judge_named(std::string_view name);

// Where a requirement comes from, and how sure that is.
struct Ground {
  std::string source;
  std::string certainty;  // "primary", "secondary", "unconfirmed", "own"
};

// The types whose id is `prefix` or begins with it and a dot, and how many of each there must be.
struct LeastEach {
  std::string prefix;
  std::int64_t least = 0;
};

struct RiskType {
  std::string id, title;  // "A.1.a"
};

struct LibraryRule {  // of keywords
  std::int64_t least = 0;
  std::vector<LeastEach> each;
  std::int64_t max_age_days = 0;  // 0: any
  Ground ground;
};

enum class BankKind : std::uint8_t {
  kQuestions,  // the model is asked
  kChoices,    // and given choices
  kTexts,      // nothing is asked: the texts themselves are judged
};
const char* name_of(BankKind kind);  // "questions", "choices", "texts"

struct BankRule {
  std::string name, title;
  BankKind kind = BankKind::kQuestions;
  std::string label;  // only questions with this label; "": all
  std::int64_t least = 0;
  std::vector<LeastEach> each;
  std::int64_t max_age_days = 0;
  Ground ground;
};

struct TestRule {
  std::string name, title, bank;
  Measure measure = Measure::kAcceptable;
  std::vector<Judge> judges;  // the first that decides; a person's word is asked for where people are among them
  std::int64_t sample = 0, share = 0;             // so many, or so many in a hundred of the bank; whichever is more
  std::optional<std::int64_t> at_least, at_most;  // in a hundred of the sample; neither: told, and required of nobody
  std::int64_t reviewers = 1;                     // people who must say the same, where people decide
  Ground ground;
};

struct BeyondRule {  // what is required and this program does not look at
  std::string name, title;
  Ground ground;
};

struct Plan {
  std::string name;
  std::int64_t version = 1;
  std::string date, about;
  bool strict = true;  // what a guard model calls controversial is not acceptable
  std::vector<RiskType> types;
  std::optional<LibraryRule> keywords;
  std::vector<BankRule> banks;
  std::vector<TestRule> tests;
  std::vector<BeyondRule> beyond;

  json::Value document;  // as it was read
  Hash hash{};           // SHA-256 of that, canonical

  // kBadInput with one line that names the member: unknown, missing, of a wrong type, or of a value that is none.
  static Result<Plan> parse(std::string_view file);
  static Result<Plan> of(const json::Value& document);
  const BankRule* bank(std::string_view name) const;
  // Types that a rule speaks of, with how many of each there must be, in the plan's order.
  std::vector<std::pair<const RiskType*, std::int64_t>> needed(const std::vector<LeastEach>& each) const;
};

// The plans that come with the program.
const std::vector<std::string>& shipped_plans();
std::string_view shipped_plan(std::string_view name);  // the file; "": there is none

}  // namespace qw::governance
