// The parts of an assessment that a machine does: answers of the model, and what rules and a guard model make of them.
// Each goes on where it ended; nothing is done twice.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "governance/assess/assessment.h"
#include "governance/keywords/keyword_list.h"

namespace qw::governance {

using AssessProgress = std::function<void(std::string_view what, std::size_t done, std::size_t total)>;

// An answer for each prompt; `first` numbers the first of them among the sample, for seeds.
using Asked = std::function<Result<std::vector<ItemAnswer>>(std::span<const std::size_t> items,
                                                            std::span<const std::string> prompts)>;
// Asks what was not answered yet, some at a time; those are on the disk before more are asked. Texts answer themselves.
Status ask_all(Assessment& assessment, const Asked& asked, const AssessProgress& progress);
// What the model is asked.
std::string prompt_of(const Assessment& assessment, std::size_t item);

// A list of keywords and what is known of it.
struct KeywordLibrary {
  const KeywordList* list = nullptr;
  json::Object about;  // "file", "sha256", "words", "updated", "categories": [{"category", "count"}]
};
// `bytes`: the file that `list` was read from. A line "# updated 2026-11-29" says when it was.
json::Object describe_library(const KeywordList& list, std::string_view bytes, const std::string& file);

// Rules judge all answers that they have not, in these words, judged yet. Null: no keywords are looked for.
Status judge_by_rules(Assessment& assessment, const KeywordLibrary* library);

struct GuardQuestion {
  std::string prompt;  // "": a text of its own
  std::string answer;  // what the model said; of a text, the text
};
struct GuardSays {
  std::optional<bool> acceptable, refused;
  std::string why;
};
using Guarding = std::function<Result<std::vector<GuardSays>>(std::span<const GuardQuestion> questions)>;
// `by`: the guard model with its hash. Judges what no guard of that name judged.
Status judge_by_guard(Assessment& assessment, const std::string& by, const Guarding& guarding,
                      const AssessProgress& progress);

// The text that is judged: without the model's thinking.
std::string_view judged_text(std::string_view answer);

}  // namespace qw::governance
