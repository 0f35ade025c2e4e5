// A task: where its items are, how they are worded, and how answers are counted. Tasks are TOML files, those that come
// with the program too (builtin.h, docs/evaluation.md).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "chat/template.h"
#include "eval/answer_rule.h"

namespace qw::eval {

enum class Kind : std::uint8_t {
  kChoice,      // which of several continuations is the most likely
  kLikelihood,  // how likely is one continuation, and is each of its tokens the most likely
  kPerplexity,  // how likely is a text
  kGenerate,    // what the model writes
};
std::string_view kind_name(Kind kind);

// A text made of an item.
struct Wording {
  std::string source;
  chat::Template form;
};

enum class Documents : std::uint8_t { kFile, kBlankLine, kLine, kHeading };

struct DataSpec {
  // Names below the data folder; of several the first that is there. One '*' in the last part of a name stands for
  // anything; each file is then a group of its own, called as what '*' stands for.
  std::vector<std::string> items, shots, answers;
  std::vector<std::string> labels, shot_labels;  // a line for each item: its field `label`; where there is such a file
  std::vector<std::string>
      columns;              // of a CSV file, by place; a first row that begins with the first of them is a head
  std::string answers_key;  // of an item: under what its answers stand in the file of answers, an object
  Documents documents = Documents::kFile;     // of a .txt file
  std::optional<Wording> where, shots_where;  // items for which it says "True"; absent: all
};

struct ReplaceRule {
  std::shared_ptr<const Pattern> pattern;
  std::string with;
};

struct Task {
  std::string name, title, source;
  Kind kind = Kind::kChoice;
  DataSpec data;

  std::optional<Wording> description;   // stands before everything
  std::optional<Wording> context;       // of kChoice, kLikelihood, kGenerate
  std::vector<Wording> contexts;        // of kChoice in place of `choices`: which of these goes before `continuation`
  std::optional<Wording> continuation;  // of those, and of kLikelihood
  std::vector<Wording> choices;         // of kChoice; one of them, or
  std::optional<Wording> choice_list;   // a JSON array
  std::optional<Wording> answer;        // of kChoice: the index of the right one, from 0, or its text, or its label
  std::vector<std::string> labels;
  std::optional<Wording> target;         // of kGenerate: the right answer; or
  std::optional<Wording> target_list;    // several, as a JSON array
  std::optional<Wording> shown_target;   // what stands in examples as the answer; absent: the (first) target
  std::optional<Wording> text, counted;  // of kPerplexity; of `counted`, if it is there, words and bytes are counted
  std::string separator = " ";           // between context and continuation; none in a conversation
  std::string shot_separator = "\n\n";   // after an example
  std::vector<ReplaceRule> rewrite;      // done to each text in turn

  std::int64_t shots = 0;
  bool random_shots = false;  // drawn anew for each item, always the same; else the first ones

  std::vector<std::string> stop;
  std::int64_t max_tokens = 256;
  std::vector<std::string> measures;  // of kinds that do not generate, by their names
  std::vector<AnswerRule> rules;      // of kGenerate
  std::optional<Wording> program;     // of rules with Metric::kProgram; sees `completion`
};

// `name`: of the file, for messages; the task is called as it is without folder and ending. kBadInput, one line which
// begins "NAME:LINE: ".
Result<Task> parse_task(std::string_view toml, const std::string& name);

}  // namespace qw::eval
