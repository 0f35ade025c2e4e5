#include "data/chat_tokens.h"

#include <algorithm>

namespace qw::data {
namespace {

constexpr std::string_view kTurnEnd = "<|im_end|>";

bool has_assistant(const json::Object& variables) {
  const json::Value* messages = variables.find("messages");
  if (messages == nullptr || !messages->is_array()) return false;
  for (const auto& message : messages->as_array())
    if (const json::Value* role = message.find("role"); role != nullptr && role->is_string() && role->as_string() == "assistant")
      return true;
  return false;
}

void append(std::string_view piece, bool kept, const tokenizer::Tokenizer& tokenizer, ChatTokens& out) {
  if (piece.empty()) return;
  for (const auto id : tokenizer.encode(piece, /*parse_special=*/true)) {
    out.ids.push_back(id);
    out.kept.push_back(kept ? 1 : 0);
    if (kept && !tokenizer.is_special(id)) out.text_bytes += static_cast<std::uint32_t>(tokenizer.token_bytes(id).size());
  }
}

}  // namespace

ChatTokens tokenize_rendered(const chat::Rendered& rendered, const tokenizer::Tokenizer& tokenizer) {
  const std::string_view text = rendered.text;
  ChatTokens out;
  std::size_t at = 0;
  for (const auto& span : rendered.generation) {
    const std::size_t begin = std::max(span.begin, at);
    std::size_t end = std::max(span.end, begin);
    if (text.substr(end).starts_with(kTurnEnd)) end += kTurnEnd.size();
    if (text.substr(0, end).ends_with(kTurnEnd) && text.substr(end).starts_with('\n')) ++end;
    append(text.substr(at, begin - at), false, tokenizer, out);
    append(text.substr(begin, end - begin), true, tokenizer, out);
    at = end;
  }
  append(text.substr(at), false, tokenizer, out);
  return out;
}

Result<ChatTokens> tokenize_chat(const chat::Template& chat_template, const json::Object& variables,
                                 const tokenizer::Tokenizer& tokenizer, std::size_t context) {
  QW_ASSIGN(chat::Rendered rendered, chat_template.render(variables));
  if (rendered.generation.empty() && has_assistant(variables))
    return fail(ErrorKind::kBadInput,
                "the chat template has no {% generation %} marks, so nothing would be learnt; use a training template");
  if (context > 0) {
    json::Object before = variables;
    json::Array& messages = before.find("messages")->as_array();
    messages.resize(std::min(messages.size(), context));
    QW_ASSIGN(const chat::Rendered prompt, chat_template.render(before));
    const std::size_t said = std::min(prompt.generation.size(), rendered.generation.size());
    rendered.generation.erase(rendered.generation.begin(), rendered.generation.begin() + static_cast<std::ptrdiff_t>(said));
  }
  return tokenize_rendered(rendered, tokenizer);
}

}  // namespace qw::data
