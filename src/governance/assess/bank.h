// Banks of questions that operators bring, in files: JSON lines, JSON or CSV, of the form that
// docs/operations/assess.md tells, or as HarmBench, JailbreakBench, XSTest, SafetyBench, CValues and COLD are
// published. And which of them are drawn. Values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "governance/assess/plan.h"

namespace qw::governance {

struct Question {
  std::string id;    // one of its own in the bank; of a file without ids the first 16 hex digits of its SHA-256
  std::string type;  // of the plan, or whatever the set calls it
  std::string label;
  std::string prompt;
  std::vector<std::string> options;
  std::int64_t answer = -1;  // the right one of the options
};

struct Bank {
  std::vector<Question> questions;
  std::int64_t duplicates = 0;  // left out: the same as another but for case, white space and punctuation of ASCII
  std::string updated;          // the date that the file itself says; "": it says none
};

inline constexpr std::size_t kMaxQuestionBytes = std::size_t{1} << 18;

// `name`: of the file, its ending says what it is. `answers`: the file of right choices by id, where the set has them
// apart; "". kBadInput naming the file and the line or item: fields that are missing, an id that is there twice.
Result<Bank> parse_bank(std::string_view bytes, const std::string& name, std::string_view answers = {});

// Those with the rule's label. kBadInput: none; choices without options or a right one.
Status keep_for(const BankRule& rule, Bank& bank);

// In the order in which they are drawn: by the SHA-256 of seed, bank and id, a line each. Whoever has seed and bank
// draws the same; a greater sample begins with the smaller one.
std::vector<const Question*> drawn_order(const Bank& bank, std::string_view name, std::string_view seed);

}  // namespace qw::governance
