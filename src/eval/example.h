// An item as its task words it, and the prompts made of items and examples.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "eval/items.h"
#include "eval/subject.h"
#include "eval/task.h"

namespace qw::eval {

struct Example {
  std::string where, group;
  std::string description;
  std::vector<std::string> contexts;  // one; or one for each choice
  std::vector<std::string>
      choices;             // continuations, without the separator: one for each choice; or one; of kGenerate none
  std::size_t answer = 0;  // of kChoice: the right one
  std::vector<std::string> targets;  // of kGenerate
  std::string shown_target;          // what stands after the context in examples
  std::string text, counted;         // of kPerplexity
};

// kBadInput naming the item and what is wrong: a template fails, no choices, an answer that is none of them.
Result<Example> word(const Task& task, const Item& item);

// One prompt for each of the example's contexts: description, examples, context. As a conversation the description is
// the system's, and each example a question of the user's and the assistant's answer.
std::vector<Prompt> prompts_of(const Task& task, const Example& example, std::span<const Example* const> shots,
                               bool chat);

// Which examples go before item `index`: of those of its group (all, if they have none); never itself, if `own`
// (examples and items are one file). The same each time. kBadInput: there are too few.
Result<std::vector<const Example*>> choose_shots(const Task& task, std::span<const Example> pool,
                                                 const Example& example, std::size_t index, std::int64_t count,
                                                 bool own);

}  // namespace qw::eval
