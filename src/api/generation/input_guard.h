// What a policy looks for in what is asked: told of, covered before the model sees it, or the request is refused.
#pragma once

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

// The request as the policy of whoever asks lets it be; `spec` then has the policy and what was found, and says whether
// the answer is the policy's reply. Null: it is refused, and the exchange is answered, now or when that is on record.
std::shared_ptr<const ChatRequest> let_in(const ServedModel& model, std::shared_ptr<const ChatRequest> asked,
                                          const std::shared_ptr<Exchange>& exchange, AnswerSpec& spec);
std::shared_ptr<const TextRequest> let_in(const ServedModel& model, std::shared_ptr<const TextRequest> asked,
                                          const std::shared_ptr<Exchange>& exchange, AnswerSpec& spec);

}  // namespace qw::api
