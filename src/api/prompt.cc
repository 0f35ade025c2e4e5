#include "api/prompt.h"

#include "chat/output_parser.h"
#include "chat/prompt.h"
#include "tokenizer/prompt.h"

namespace qw::api {

Result<ChatPrompt> chat_prompt(const chat::Template& chat_template, json::Object variables,
                               const tokenizer::Tokenizer& tokenizer, std::string_view marker,
                               std::string_view prefix) {
  const tokenizer::TokenizerSpec& spec = tokenizer.spec();
  const auto name = [&](const char* variable, std::optional<tokenizer::TokenId> id) {
    variables.erase(variable);  // a caller's would count as the template's own
    if (id) variables.set(variable, std::string(tokenizer.token_bytes(*id)));
  };
  name("bos_token", spec.bos);
  name("eos_token", spec.eos);
  name("pad_token", spec.pad);
  variables.erase("unk_token");
  std::vector<std::string_view> guarded = tokenizer::control_tokens(tokenizer);
  std::erase(guarded, marker);
  auto pieces = chat::render_prompt(chat_template, variables, guarded);
  if (!pieces) return in_context("the chat template refused", std::move(pieces).error());
  std::vector<tokenizer::PromptPart> parts;
  for (const chat::PromptPiece& piece : *pieces) parts.push_back({piece.text, piece.plain});
  std::string joined;
  if (pieces->size() > 1)
    for (const chat::PromptPiece& piece : *pieces) joined += piece.text;
  const bool opens_reasoning = chat::prompt_opens_reasoning(pieces->size() == 1 ? pieces->front().text : joined);
  if (!prefix.empty()) {
    if (opens_reasoning)
      return fail(ErrorKind::kBadInput, "an answer that is begun for the model goes with thinking switched off");
    parts.push_back({prefix, true});
  }
  return ChatPrompt{tokenizer::encode_prompt(tokenizer, parts), opens_reasoning};
}

Result<ChatPrompt> chat_prompt(const chat::Template& chat_template, chat::Conversation conversation,
                               const tokenizer::Tokenizer& tokenizer, std::string_view prefix) {
  QW_ASSIGN(json::Object variables, chat::template_variables(std::move(conversation)));
  return chat_prompt(chat_template, std::move(variables), tokenizer, {}, prefix);
}

}  // namespace qw::api
