// A conversation as the OpenAI API carries it, made into the variables of a chat template.
//
// Checked here: every message has a known role and text content; errors name the place ("messages[2].content: ...") and
// are of kind kBadInput. Fields this room does not know pass through untouched, in the caller's order.
#pragma once

#include <optional>
#include <string_view>

#include "base/result.h"
#include "json/value.h"

namespace qw::chat {

// Messages as templates expect them:
//   role       system, user, assistant, tool; "developer" becomes system, "function" becomes tool
//   content    a string: parts {"type": "text", "text": ...} are joined by newlines; null or absent is "" for an
//              assistant and an error for others. Images, audio and files are an error: these are text models
//   reasoning_content  also filled from "reasoning" or "thinking"
//   tool_calls function.arguments given as a string becomes the object it spells ("" is {}), because templates print or
//              walk it; a string that is no JSON object is an error
Result<json::Array> template_messages(json::Array messages);

// Tools of type "function", each with a name; passed through otherwise. null gives an empty list.
Result<json::Array> template_tools(json::Value tools);

struct Conversation {
  json::Array messages;              // as the client sent them
  std::optional<json::Value> tools;  // as the client sent them
  bool add_generation_prompt = true;
  json::Object variables;  // further template variables: enable_thinking, bos_token, ...
};

// All variables of one rendering: messages, tools (null if there are none), documents (null), add_generation_prompt and
// `variables`, which may not repeat those names except `documents`.
Result<json::Object> template_variables(Conversation conversation);

}  // namespace qw::chat
