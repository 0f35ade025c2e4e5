// Conversations to token ids with a loss mask: what the assistant says counts, everything else is context.
//
// The template marks assistant turns with {% generation %}; a mark is extended over the "<|im_end|>" and the newline
// that follow it, so that a model learns to stop. The text is encoded piece by piece, cut where the mask changes, as
// it will be when the model answers: the prompt first, then the reply token by token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "chat/prompt.h"
#include "chat/template.h"
#include "json/value.h"
#include "tokenizer/tokenizer.h"

namespace qw::data {

// Models made here are trained and served with the one ChatML of the chat room: it carries the generation marks.
using chat::kChatMlTemplate;
inline constexpr const std::string_view& kChatMlTrainingTemplate = chat::kChatMlTemplate;

struct ChatTokens {
  std::vector<tokenizer::TokenId> ids;
  std::vector<std::uint8_t> kept;  // one entry an id
  std::uint32_t text_bytes = 0;    // of the rendered text that is kept, special tokens out
};

// `variables` are the template's (messages, tools). Of the first `context` messages nothing counts. Errors: kBadInput when
// the template fails or marks nothing although there is an assistant message.
Result<ChatTokens> tokenize_chat(const chat::Template& chat_template, const json::Object& variables,
                                 const tokenizer::Tokenizer& tokenizer, std::size_t context = 0);

// The part after the template: kept for the spans of `rendered`, extended as above. Exposed for tests.
ChatTokens tokenize_rendered(const chat::Rendered& rendered, const tokenizer::Tokenizer& tokenizer);

}  // namespace qw::data
