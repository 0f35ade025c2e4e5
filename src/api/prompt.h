// A conversation as token ids: what a chat template makes of it, encoded so that only the template writes control
// tokens. The one way from messages to a model, for the protocols and for the terminal.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "chat/messages.h"
#include "chat/template.h"
#include "tokenizer/tokenizer.h"

namespace qw::api {

struct ChatPrompt {
  std::vector<tokenizer::TokenId> ids;
  bool opens_reasoning = false;  // the prompt ends inside an open thinking block
};

// Special tokens which callers wrote (in messages, tools, documents, or variables of their own) are ordinary text. The
// template sees bos_token, eos_token and pad_token as transformers gives them. Errors: kBadInput naming the message, or
// what the template refused.
// `prefix`: how the answer begins, after what the template writes; ordinary text.
Result<ChatPrompt> chat_prompt(const chat::Template& chat_template, chat::Conversation conversation,
                               const tokenizer::Tokenizer& tokenizer, std::string_view prefix = {});

// The part after the checks: for variables that are taken as they are. `marker`: a control token which callers may
// write all the same, such as the one that ends a step for a model of step rewards; "": none.
Result<ChatPrompt> chat_prompt(const chat::Template& chat_template, json::Object variables,
                               const tokenizer::Tokenizer& tokenizer, std::string_view marker = {},
                               std::string_view prefix = {});

}  // namespace qw::api
