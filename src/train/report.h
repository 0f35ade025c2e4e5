// The curves of a run, from its log.jsonl (docs/formats/train_config.md): as text for a terminal, and as one HTML page
// that needs no script, no font and no other file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace qw::train {

struct Curve {
  std::string name;                                     // "loss", "eval_loss", "lr", ...
  std::vector<std::pair<std::int64_t, double>> points;  // step, value; steps ascend, values are finite
};

struct RunLog {
  std::vector<Curve> curves;                              // those that have points, steps' first
  std::vector<std::int64_t> rollbacks;                    // steps that broke
  std::int64_t last_step = 0, tokens = 0, best_step = 0;  // best: of the evaluations; 0: there was none
  double best_loss = 0, seconds_left = 0;
  std::int64_t lines = 0;

  const Curve* find(std::string_view name) const;
};

// `name`: of the file, for messages. A step that is told twice, by a run that was resumed, counts as it was told last.
// A last line that was not written to its end is passed over, as a run that was killed leaves one. kBadInput: another
// line is no JSON object, or there is no step in it all.
Result<RunLog> parse_run_log(std::string_view text, const std::string& name);

// Plots of the loss and of what else there is, `width` columns wide, each `height` lines; UTF-8.
std::string report_text(const RunLog& log, std::int64_t width, std::int64_t height);
// `title`: plain text.
std::string report_html(const RunLog& log, const std::string& title);

}  // namespace qw::train
