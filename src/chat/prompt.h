// Which template a model uses, and prompts whose control tokens only the template can write.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "chat/template.h"
#include "json/value.h"

namespace qw::chat {

// ChatML as all Qwen models since the first read it: no default system message, tools as Hermes JSON. For models that
// come without a template.
extern const std::string_view kChatMlTemplate;

// Where a model folder or file keeps its template. Looked at in the order of the fields.
struct TemplateSources {
  std::optional<std::string> explicit_source;   // given by the operator
  std::optional<std::string> jinja_file;        // text of chat_template.jinja
  std::optional<json::Value> tokenizer_config;  // its "chat_template": a string, or a list of {"name", "template"}
  std::optional<std::string> gguf;              // tokenizer.chat_template
};

struct ChosenTemplate {
  std::string source;
  std::string from;  // "given", "chat_template.jinja", "tokenizer_config.json", "tokenizer.chat_template", "ChatML"
};

// The first source there is. Of a named list, "tool_use" is taken when `for_tools` and present, else "default", else
// the only one; an error if that is ambiguous or malformed.
Result<ChosenTemplate> choose_template(const TemplateSources& sources, bool for_tools = false);

// A piece of a prompt. `plain` text must be tokenised without recognising special tokens.
struct PromptPiece {
  std::string text;
  bool plain = false;
};

// Renders, keeping apart the control tokens that callers wrote into messages, tools or any other variable: each
// occurrence of one of `control_tokens` in their strings comes out as a plain piece, so that no user can close a turn.
// Only bos_token, eos_token, pad_token and unk_token are the template's own; they must not be a caller's. Only the tokens the tokenizer calls special belong in the list; <think> or <tool_call> are text that templates look for. The
// texts of all pieces joined are what Template::render gives. On their way through the template the tokens are single
// code points (U+FDD0... and, beyond 32 tokens, U+10F000...), so a template sees other lengths, and those code points
// are dropped from callers' strings.
Result<std::vector<PromptPiece>> render_prompt(const Template& chat_template, const json::Object& variables,
                                               const std::vector<std::string_view>& control_tokens,
                                               const RenderLimits& limits = {});

}  // namespace qw::chat
