// Rewards of answers that can be verified.
//
//   number       1 if the last number in the answer equals the last one of what is expected ("1,234.50" is 1234.5)
//   exact        1 if the answer is what is expected, white space at the ends apart; with a pattern, what its last
//   match
//                takes out of the answer
//   regex        1 if the pattern, or without one what is expected, matches somewhere in the answer
//   json_schema  1 if the answer is JSON in the form that structured outputs under the schema have
//                (sampling/grammar/json_schema.h: members in the order in which they are declared); white space apart
//   program      1 if the answer, of which the first code block counts, and below it what is expected end as a Python
//                program without an error (eval/sandbox.h)
//   overlong     DAPO's soft punishment: 0, falling to -1 over the last `tokens` before the longest answer
//
// What a model thinks before it answers does not count, but for regex.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "train/config.h"

namespace qw::train {

struct JudgedAnswer {
  std::string_view text, expected;
  std::int64_t tokens = 0, max_tokens = 0;
};

class AnswerRewards {
 public:
  // kBadInput: a pattern or a schema that cannot be read.
  static Result<AnswerRewards> create(const std::vector<AnswerReward>& rewards);
  // One of each reward, without its weight. kBadInput: a pattern or schema of the prompt's own; kFailed: programs
  // cannot be confined on this machine.
  Result<std::vector<double>> judge(const JudgedAnswer& answer) const;
  double weighted(std::span<const double> values) const;
  // Kinds as a recipe names them, with a number behind the second one of a kind.
  const std::vector<std::string>& names() const { return names_; }

 private:
  struct Check;
  std::vector<std::shared_ptr<const Check>> checks_;
  std::vector<std::string> names_;
};

}  // namespace qw::train
