// What a policy looks for in what is asked: told of, covered before the model sees it, or the request is refused.
#pragma once

#include <string>

#include "api/generation/guard_counts.h"
#include "api/generation/request.h"
#include "api/served_model.h"
#include "governance/guard/text_guard.h"
#include "tokenizer/tokenizer.h"

namespace qw::api {

struct Screened {
  GuardCounts counts;
  bool blocked = false;
};

// All that messages say, whoever is said to have said it: contents and their parts, reasoning, arguments of calls. What
// is to be covered is, in place.
Screened screen(const governance::GuardRules& rules, ChatRequest& request);
// Prompts of token ids are read as the text that they are, and written anew where something in it is covered.
Screened screen(const governance::GuardRules& rules, TextRequest& request, const tokenizer::Tokenizer& tokenizer);

// What tools and searches brought: messages of tools, in whatever protocol they came, and documents for the template,
// by the rules of that stage. In what is JSON, names and texts are read as they are meant. `instead` takes the place of
// a text with something that they block; "": the request is blocked.
bool has_retrieved(const ChatRequest& request);
Screened screen_retrieved(const governance::GuardRules& rules, const std::string& instead, ChatRequest& request);

// Whether what was said last (of a conversation: by its user, since it was last answered) speaks of something that
// these rules block.
bool speaks_of(const governance::GuardRules& rules, const ChatRequest& request, const ServedModel& model);
bool speaks_of(const governance::GuardRules& rules, const TextRequest& request, const ServedModel& model);

// Whether what the model is told to be, by its instructions, is something that these rules block.
bool makes_companion(const governance::GuardRules& rules, const ChatRequest& request);

}  // namespace qw::api
