// What a policy looks for in what is asked: told of, covered before the model sees it, or the request is refused.
#pragma once

#include <functional>
#include <memory>

#include "api/exchange.h"
#include "api/generation/answer.h"
#include "api/generation/request.h"
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

// Goes on with the request as the policy of whoever asks lets it be, and an answer's beginnings: the policy, what was
// found, and whether the service answers itself. At once, or from another thread where the store is asked first. If it
// is refused the exchange is answered instead, now or when that is on record.
template <class Request>
using LetIn = std::function<void(std::shared_ptr<const Request> request, AnswerSpec spec)>;
void let_in(const ModelLease& model, std::shared_ptr<const ChatRequest> asked,
            const std::shared_ptr<Exchange>& exchange, LetIn<ChatRequest> then);
void let_in(const ModelLease& model, std::shared_ptr<const TextRequest> asked,
            const std::shared_ptr<Exchange>& exchange, LetIn<TextRequest> then);

}  // namespace qw::api
