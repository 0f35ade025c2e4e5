#include "data/conversation.h"

#include <cmath>
#include <string>
#include <string_view>

namespace qw::data {
namespace {

constexpr double kLargestMargin = 1e6;  // of rewards, which are some units; far from what a float cannot hold

tl::unexpected<Error> wrong(std::string_view member, const char* why) {
  return fail(ErrorKind::kBadInput, "\"" + std::string(member) + "\" " + why);
}

json::Value message(std::string_view role, std::string_view text) {
  json::Object out;
  out.set("role", role);
  out.set("content", text);
  return json::Value(std::move(out));
}

// A text member; absent and null are "".
Result<std::string> text_of(const json::Value& line, const char* member, bool required) {
  const json::Value* v = line.find(member);
  if (v == nullptr || v->is_null()) {
    if (required) return wrong(member, "is missing");
    return std::string();
  }
  if (!v->is_string()) return wrong(member, "is not a text");
  return v->as_string();
}

// A text, which `role` says, or messages.
Result<json::Array> part_of(const json::Value& line, const char* member, std::string_view role) {
  const json::Value* v = line.find(member);
  if (v == nullptr) return wrong(member, "is missing");
  if (v->is_string()) return json::Array{message(role, v->as_string())};
  if (!v->is_array()) return wrong(member, "is neither a text nor messages");
  return v->as_array();
}

json::Object as_chat(json::Array messages, const json::Value& line) {
  json::Object out;
  out.set("messages", std::move(messages));
  if (const json::Value* tools = line.find("tools"); tools != nullptr && tools->is_array()) out.set("tools", *tools);
  return out;
}

json::Array joined(const json::Array& a, const json::Array& b, std::size_t from = 0) {
  json::Array out = a;
  out.insert(out.end(), b.begin() + static_cast<std::ptrdiff_t>(from), b.end());
  return out;
}

Result<std::string_view> role_of(std::string_view from) {
  if (from == "human" || from == "user") return "user";
  if (from == "gpt" || from == "assistant" || from == "model" || from == "chatgpt") return "assistant";
  if (from == "system") return "system";
  if (from == "tool" || from == "observation") return "tool";
  return fail(ErrorKind::kBadInput, "\"from\" says '" + std::string(from.substr(0, 64)) + "', which nobody is called");
}

Result<Conversation> share_gpt(const json::Value& line) {
  const json::Value* turns = line.find("conversations");
  if (turns == nullptr || !turns->is_array() || turns->as_array().empty())
    return wrong("conversations", "is not an array with entries");
  json::Array messages;
  QW_ASSIGN(const std::string system, text_of(line, "system", false));
  if (!system.empty()) messages.push_back(message("system", system));
  for (const json::Value& turn : turns->as_array()) {
    if (!turn.is_object()) return wrong("conversations", "has an entry that is no object");
    QW_ASSIGN(const std::string from, text_of(turn, "from", true));
    QW_ASSIGN(const std::string value, text_of(turn, "value", true));
    QW_ASSIGN(const std::string_view role, role_of(from));
    messages.push_back(message(role, value));
  }
  return Conversation{as_chat(std::move(messages), line), {}, 0, 0, {}, {}};
}

Result<Conversation> alpaca(const json::Value& line) {
  QW_ASSIGN(const std::string instruction, text_of(line, "instruction", true));
  QW_ASSIGN(const std::string input, text_of(line, "input", false));
  QW_ASSIGN(const std::string output, text_of(line, "output", true));
  QW_ASSIGN(const std::string system, text_of(line, "system", false));
  json::Array messages;
  if (!system.empty()) messages.push_back(message("system", system));
  if (const json::Value* history = line.find("history"); history != nullptr && !history->is_null()) {
    if (!history->is_array()) return wrong("history", "is not an array");
    for (const json::Value& turn : history->as_array()) {
      const bool pair = turn.is_array() && turn.as_array().size() == 2 && turn.as_array()[0].is_string() &&
                        turn.as_array()[1].is_string();
      if (!pair) return wrong("history", "has an entry that is no pair of texts");
      messages.push_back(message("user", turn.as_array()[0].as_string()));
      messages.push_back(message("assistant", turn.as_array()[1].as_string()));
    }
  }
  messages.push_back(message("user", input.empty() ? instruction : instruction + "\n" + input));
  messages.push_back(message("assistant", output));
  return Conversation{as_chat(std::move(messages), line), {}, 0, 0, {}, {}};
}

Result<Conversation> prompt_completion(const json::Value& line) {
  QW_ASSIGN(const json::Array prompt, part_of(line, "prompt", "user"));
  QW_ASSIGN(const json::Array completion, part_of(line, "completion", "assistant"));
  return Conversation{as_chat(joined(prompt, completion), line), {}, prompt.size(), 0, {}, {}};
}

Result<Conversation> rated(const json::Value& line) {
  QW_ASSIGN(Conversation out, prompt_completion(line));
  if (out.context == 0 || out.context == out.chat.find("messages")->as_array().size())
    return fail(ErrorKind::kBadInput, "a rated answer needs a prompt and an answer");
  const json::Value* label = line.find("label");
  const bool number = label != nullptr && label->is_int() && (label->as_int() == 0 || label->as_int() == 1);
  if (!number && (label == nullptr || !label->is_bool())) return wrong("label", "is neither true nor false");
  out.value = (number ? label->as_int() == 1 : label->as_bool()) ? 1 : 0;
  return out;
}

Result<Conversation> preference(const json::Value& line) {
  const json::Value* input = line.find("input");
  const bool openai = input != nullptr && input->is_object();
  QW_ASSIGN(json::Array chosen, part_of(line, openai ? "preferred_output" : "chosen", "assistant"));
  QW_ASSIGN(json::Array rejected, part_of(line, openai ? "non_preferred_output" : "rejected", "assistant"));
  json::Array prompt;
  std::size_t shared = 0;
  if (openai) {
    QW_ASSIGN(prompt, part_of(*input, "messages", "user"));
  } else if (line.find("prompt") != nullptr) {
    QW_ASSIGN(prompt, part_of(line, "prompt", "user"));
  } else {
    while (shared < chosen.size() && shared < rejected.size() && chosen[shared] == rejected[shared]) ++shared;
    prompt.assign(chosen.begin(), chosen.begin() + static_cast<std::ptrdiff_t>(shared));
  }
  if (prompt.empty() || chosen.size() == shared || rejected.size() == shared)
    return fail(ErrorKind::kBadInput, "a pair needs a prompt and two answers to it that differ");
  const json::Value& tools_of = openai ? *input : line;
  float margin = 0;
  if (const json::Value* asked = line.find("margin"); asked != nullptr && !asked->is_null()) {
    if (!asked->is_number() || !(std::abs(asked->as_double()) <= kLargestMargin)) return wrong("margin", "is not a number");
    margin = static_cast<float>(asked->as_double());
  }
  return Conversation{as_chat(joined(prompt, chosen, shared), tools_of),
                      as_chat(joined(prompt, rejected, shared), tools_of), prompt.size(), margin, {}, {}};
}

Result<Conversation> classified(const json::Value& line) {
  const bool text = line.find("text") != nullptr;
  QW_ASSIGN(json::Array messages, part_of(line, text ? "text" : "messages", "user"));
  const json::Value* label = line.find("label");
  if (label == nullptr || (!label->is_string() && !label->is_int())) return wrong("label", "is neither a name nor a number");
  return Conversation{as_chat(std::move(messages), line), {}, 0, 0, *label, {}};
}

// What is expected stands where the assistant answers.
Result<Conversation> verified(const json::Value& line) {
  QW_ASSIGN(json::Array messages, part_of(line, "prompt", "user"));
  if (messages.empty()) return wrong("prompt", "is empty");
  const std::size_t context = messages.size();
  const json::Value* answer = line.find("answer");
  std::string expected;
  if (answer != nullptr && answer->is_number())
    expected = json::dump(*answer);
  else {
    QW_ASSIGN(expected, text_of(line, "answer", false));
  }
  messages.push_back(message("assistant", expected));
  return Conversation{as_chat(std::move(messages), line), {}, context, 0, {}, {}};
}

Result<Conversation> retrieval(const json::Value& line) {
  Conversation out;
  for (const char* member : {"query", "positive"}) {
    QW_ASSIGN(const std::string text, text_of(line, member, true));
    if (text.empty()) return wrong(member, "is empty");
    out.texts.push_back(text);
  }
  const json::Value* negatives = line.find("negatives");
  if (negatives == nullptr || negatives->is_null()) return out;
  if (!negatives->is_array()) return wrong("negatives", "is not an array");
  for (const json::Value& text : negatives->as_array()) {
    if (!text.is_string() || text.as_string().empty()) return wrong("negatives", "must hold texts");
    out.texts.push_back(text.as_string());
  }
  return out;
}

}  // namespace

Result<Conversation> conversation_of(const json::Value& line, ConversationForm form) {
  if (!line.is_object()) return fail(ErrorKind::kBadInput, "is not an object");
  switch (form) {
    case ConversationForm::kShareGpt:
      return share_gpt(line);
    case ConversationForm::kAlpaca:
      return alpaca(line);
    case ConversationForm::kPromptCompletion:
      return prompt_completion(line);
    case ConversationForm::kPreference:
      return preference(line);
    case ConversationForm::kRated:
      return rated(line);
    case ConversationForm::kClassified:
      return classified(line);
    case ConversationForm::kVerified:
      return verified(line);
    case ConversationForm::kRetrieval:
    case ConversationForm::kRanking:
      return retrieval(line);
  }
  return fail(ErrorKind::kBadInput, "unknown form");
}

}  // namespace qw::data
