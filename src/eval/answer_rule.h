// What makes a generated answer right: steps that take the answer out of the text, and the comparison with the targets,
// as lm-evaluation-harness and the data sets' own scripts have them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::eval {

class Pattern;

struct Step {
  enum class Kind : std::uint8_t {
    kRegex,  // a match of `pattern`: its first group that is not empty, or all of it; white space at the ends goes
    kStrip,  // white space at the ends
    kLower,
    kFirstLine,
    kCodeBlock,  // what stands between the first two fences (```); without a second one, all after the first; without
                 // any, all
  };
  Kind kind = Kind::kStrip;
  std::shared_ptr<const Pattern> pattern;
  std::int64_t pick = 0;               // which match; negative: from the last
  std::string fallback = "[invalid]";  // where there is none
};

enum class Metric : std::uint8_t {
  kExactMatch,
  kSquadExact,
  kSquadF1,  // SQuAD v1.1 (answers in words)
  kMixedExact,
  kMixedF1,  // CMRC 2018 (answers in Chinese): the longest common run
  kMixedBagExact,
  kMixedBagF1,  // MLQA and XQuAD in Chinese: words as CMRC's, counted as SQuAD's
  kProgram,     // the program made of it ends with exit code 0 (run.h)
};
std::string_view metric_name(Metric metric);

struct AnswerRule {
  std::string name;
  Metric metric = Metric::kExactMatch;
  std::vector<Step> steps;
  // Of kExactMatch, done to answer and target in this order.
  std::vector<std::shared_ptr<const Pattern>> ignore;  // what matches is taken out
  bool ignore_case = false, ignore_punctuation = false, ignore_numbers = false;
};

// The text after the steps. kResource: an expression needs too many steps.
Result<std::string> extracted(const AnswerRule& rule, std::string_view text);
// 0 to 1; of several targets the best. Not of kProgram.
Result<double> score(const AnswerRule& rule, std::string_view extracted, std::span<const std::string> targets);

// The text behind the thinking of a model that thinks: after the last </think>, or as it is.
std::string_view without_thinking(std::string_view text);

}  // namespace qw::eval
