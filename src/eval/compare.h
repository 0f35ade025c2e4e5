// Two models side by side, question by question.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "eval/statistics.h"
#include "json/value.h"

namespace qw::eval {

struct Comparison {
  std::string task, measure;
  std::int64_t items = 0;
  double a = 0, b = 0;                     // means
  PairedEstimate paired;                   // of b - a
  std::vector<std::string> better, worse;  // ids of the items where b is above a, below it
};

// Records as run_task makes them (Sample::record), of A and of B. kBadInput: a record that is none; the two share no
// question, or one asks otherwise than the other (another digest).
Result<std::vector<Comparison>> compare_samples(const std::vector<json::Object>& a, const std::vector<json::Object>& b);
// Records of a file of JSON lines. kBadInput naming the line.
Result<std::vector<json::Object>> parse_samples(std::string_view text, const std::string& name);

}  // namespace qw::eval
