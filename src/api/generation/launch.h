// From a request to running choices: the model is loaded, the prompt made, the output's rules compiled, the cost
// reserved, and the choices submitted. Whatever is wrong is answered in the exchange's own shape of errors.
#pragma once

#include <functional>
#include <memory>

#include "api/exchange.h"
#include "api/generation/request.h"
#include "api/generation/writer.h"
#include "api/prompt.h"
#include "api/served_model.h"

namespace qw::api {

// Makes the writer of an answer, when its prompts are known. `prompts`: the text of each, as far as the tokenizer gives
// it back.
struct LaunchedPrompts {
  const ServedModel& model;
  const std::vector<std::vector<engine::TokenId>>& ids;
};
using WriterFactory = std::function<std::unique_ptr<AnswerWriter>(const LaunchedPrompts& prompts)>;

void start_chat(const ModelList& models, const std::shared_ptr<Exchange>& exchange, ChatRequest request,
                WriterFactory writer);
void start_text(const ModelList& models, const std::shared_ptr<Exchange>& exchange, TextRequest request,
                WriterFactory writer);

// What is asked of others before and beside generation
// ------------------------------------------------------------------

// The prompt of a conversation; an error of the request.
ApiResult<ChatPrompt> prompt_of(const ServedModel& model, const ChatRequest& request);

}  // namespace qw::api
