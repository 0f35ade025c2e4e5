#include "api/generation/screening.h"

#include <algorithm>
#include <utility>

#include "tokenizer/prompt.h"

namespace qw::api {
namespace {

// What rules find in texts.
class Screening {
 public:
  explicit Screening(const governance::GuardRules& rules) : rules_(rules) {}
  Screened done() {
    Screened out;
    add_counts(out.counts, findings_);
    out.blocked = blocked_;
    return out;
  }

 protected:
  const governance::GuardRules& rules_;
  std::vector<governance::GuardFinding> findings_;
  bool blocked_ = false;
};

class Screen : public Screening {
 public:
  using Screening::Screening;
  std::string text(const std::string& in) { return taken(guard_text(rules_, in, findings_)); }

  // What a message says stands in these members, at any depth; the others name and point.
  void message(json::Value& value) {
    if (value.is_array()) {
      for (json::Value& item : value.as_array()) message(item);
    } else if (value.is_object()) {
      for (auto& [key, member] : value.as_object()) {
        if (key == "arguments")
          arguments(member);
        else if (member.is_string() && (key == "content" || key == "text" || key == "reasoning_content"))
          member = text(member.as_string());
        else
          message(member);
      }
    }
  }

 private:
  void arguments(json::Value& value) {
    if (value.is_string()) {
      value = taken(guard_json(rules_, value.as_string(), findings_));
    } else {
      auto shown = json::parse(taken(guard_json(rules_, json::dump(value), findings_)));
      if (shown) value = std::move(*shown);  // what JSON was is JSON
    }
  }
  std::string taken(governance::Guarded guarded) {
    blocked_ = blocked_ || guarded.blocked;
    return std::move(guarded.text);
  }
};

bool is_tools(const json::Value& message) {
  const json::Value* role = message.find("role");
  return role != nullptr && (*role == json::Value("tool") || *role == json::Value("function"));
}

// Texts that somebody else wrote, and that nobody who asks or answers stands for.
class RetrievalScreen : public Screening {
 public:
  RetrievalScreen(const governance::GuardRules& rules, const std::string& instead)
      : Screening(rules), instead_(instead) {}

  void all_in(json::Value& value) {
    if (value.is_array()) {
      for (json::Value& item : value.as_array()) all_in(item);
    } else if (value.is_object()) {
      for (auto& [key, member] : value.as_object())
        if (key != "type") all_in(member);
    } else if (value.is_string()) {
      value = text(value.as_string());
    }
  }

 private:
  // What escapes hide in JSON, the model may read.
  static bool is_json(const std::string& text) {
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    return first != std::string::npos && (text[first] == '{' || text[first] == '[') && json::parse(text).has_value();
  }
  std::string text(const std::string& in) {
    governance::Guarded guarded = is_json(in) ? guard_json(rules_, in, findings_) : guard_text(rules_, in, findings_);
    if (!guarded.blocked) return std::move(guarded.text);
    blocked_ = blocked_ || instead_.empty();
    return instead_;
  }

  const std::string& instead_;
};

}  // namespace

bool makes_companion(const governance::GuardRules& rules, const ChatRequest& request) {
  Screen screen(rules);
  for (const json::Value& message : request.messages) {
    const json::Value* role = message.find("role");
    if (role == nullptr || (*role != json::Value("system") && *role != json::Value("developer"))) continue;
    json::Value copy = message;
    screen.message(copy);
  }
  return screen.done().blocked;
}
bool speaks_of(const governance::GuardRules& rules, const ChatRequest& request, const ServedModel&) {
  Screen screen(rules);
  for (auto message = request.messages.rbegin(); message != request.messages.rend(); ++message) {
    const json::Value* role = message->find("role");
    if (role != nullptr && *role == json::Value("assistant")) break;
    if (role == nullptr || *role != json::Value("user")) continue;
    json::Value copy = *message;
    screen.message(copy);
  }
  return screen.done().blocked;
}
bool speaks_of(const governance::GuardRules& rules, const TextRequest& request, const ServedModel& model) {
  TextRequest copy = request;
  return screen(rules, copy, *model.tokenizer).blocked;
}

bool has_retrieved(const ChatRequest& request) {
  return std::any_of(request.messages.begin(), request.messages.end(), is_tools) ||
         request.template_variables.find_set("documents") != nullptr;
}

Screened screen_retrieved(const governance::GuardRules& rules, const std::string& instead, ChatRequest& request) {
  RetrievalScreen screen(rules, instead);
  for (json::Value& message : request.messages)
    if (is_tools(message))
      if (json::Value* content = message.as_object().find("content"); content != nullptr) screen.all_in(*content);
  if (json::Value* documents = request.template_variables.find("documents"); documents != nullptr)
    screen.all_in(*documents);
  return screen.done();
}

Screened screen(const governance::GuardRules& rules, ChatRequest& request) {
  Screen screen(rules);
  for (json::Value& message : request.messages) screen.message(message);
  request.prefix = screen.text(request.prefix);
  return screen.done();
}

Screened screen(const governance::GuardRules& rules, TextRequest& request, const tokenizer::Tokenizer& tokenizer) {
  Screen screen(rules);
  for (std::string& text : request.prompts) text = screen.text(text);
  if (request.suffix) request.suffix = screen.text(*request.suffix);
  for (auto& ids : request.prompt_ids) {
    const std::string text = tokenizer.decode(ids, false);
    const std::string shown = screen.text(text);
    if (shown != text) ids = tokenizer::encode_prompt(tokenizer, shown, false);
  }
  return screen.done();
}

}  // namespace qw::api
