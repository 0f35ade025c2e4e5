#include "chat/prompt.h"

#include <algorithm>
#include <cstdint>

#include "chat/internal/text.h"

namespace qw::chat {

// One conversation shape for all: a system turn that also lists the tools, consecutive tool results as one user turn.
const std::string_view kChatMlTemplate = R"jinja({%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- '# Tools\n\nThese functions can be called:\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '\n</tools>\n\nTo call one, answer with its name and arguments as JSON:\n<tool_call>\n{"name": <name>, "arguments": <object>}\n</tool_call><|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- generation -%}
        {{- message.content or '' }}
        {%- for call in message.tool_calls or [] %}
            {%- if message.content or not loop.first %}
                {{- '\n' }}
            {%- endif %}
            {{- '<tool_call>\n{"name": ' + (call.function.name | tojson) + ', "arguments": ' + (call.function.arguments | tojson) + '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or loop.previtem.role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %})jinja";

namespace {

Result<std::string> named_template(const json::Array& list, bool for_tools) {
  const std::string* chosen = nullptr;
  const std::string* other = nullptr;
  for (const json::Value& entry : list) {
    const json::Value* name = entry.find("name");
    const json::Value* source = entry.find("template");
    if (!name || !name->is_string() || !source || !source->is_string())
      return fail(ErrorKind::kBadInput, "tokenizer_config.json: chat_template: entries need \"name\" and \"template\"");
    if (for_tools && name->as_string() == "tool_use") return source->as_string();
    if (name->as_string() == "default") chosen = &source->as_string();
    other = &source->as_string();
  }
  if (chosen) return *chosen;
  if (list.size() == 1) return *other;
  return fail(ErrorKind::kBadInput, "tokenizer_config.json: chat_template: none of several is named \"default\"");
}

// While the template runs, each control token a caller wrote is one code point, which no string operation can take
// apart: Unicode's noncharacters first, which text never holds, then the end of the last private-use plane.
constexpr std::uint32_t kNoncharacters = 32, kFirstNoncharacter = 0xFDD0, kFirstPrivate = 0x10F000;
constexpr std::size_t kMaxControlTokens = 4000;  // what fits there

class Disguise {
 public:
  // `tokens` must live as long.
  explicit Disguise(const std::vector<std::string_view>& tokens) : tokens_(tokens) {
    for (const std::string_view t : tokens_)
      if (!t.empty()) first_bytes_[static_cast<unsigned char>(t[0])] = true;
  }
  // Whether apply() would give the value as it is, which spares a copy of most conversations.
  bool leaves(const json::Value& value) const;
  json::Value apply(const json::Value& value) const;
  std::vector<PromptPiece> lift(std::string_view text) const;

 private:
  bool leaves(std::string_view text) const;
  std::string apply(std::string_view text) const;
  // The longest token that the text has at `at`, or nullptr.
  const std::string_view* token_at(std::string_view text, std::size_t at) const {
    if (!first_bytes_[static_cast<unsigned char>(text[at])]) return nullptr;
    const std::string_view* longest = nullptr;
    for (const std::string_view& t : tokens_) {
      const bool longer = t.size() > (longest != nullptr ? longest->size() : 0);
      if (longer && text.substr(at).starts_with(t)) longest = &t;
    }
    return longest;
  }
  static std::uint32_t code(std::size_t index) {
    return static_cast<std::uint32_t>(index) +
           (index < kNoncharacters ? kFirstNoncharacter : kFirstPrivate - kNoncharacters);
  }
  // The token a code point stands for, or nullptr.
  const std::string_view* token(std::uint32_t c) const {
    std::size_t index = tokens_.size();
    if (c >= kFirstNoncharacter && c < kFirstNoncharacter + kNoncharacters) index = c - kFirstNoncharacter;
    if (c >= kFirstPrivate && c < kFirstPrivate + kMaxControlTokens) index = c - kFirstPrivate + kNoncharacters;
    return index < tokens_.size() ? &tokens_[index] : nullptr;
  }

  const std::vector<std::string_view>& tokens_;
  bool first_bytes_[256] = {};
};

std::string Disguise::apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    if (const std::string_view* hit = token_at(text, at)) {
      internal::append_char(&out, code(static_cast<std::size_t>(hit - tokens_.data())));
      at += hit->size();
      continue;
    }
    const std::uint32_t c = internal::decode_char(text, &at);
    if (!token(c)) internal::append_char(&out, c);  // nobody may forge one
  }
  return out;
}

bool Disguise::leaves(std::string_view text) const {
  for (std::size_t at = 0; at < text.size();) {
    if (token_at(text, at) != nullptr) return false;
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
    } else if (token(internal::decode_char(text, &at))) {
      return false;
    }
  }
  return true;
}

bool Disguise::leaves(const json::Value& value) const {
  if (value.is_string()) return leaves(std::string_view(value.as_string()));
  if (value.is_array())
    return std::all_of(value.as_array().begin(), value.as_array().end(), [&](const auto& v) { return leaves(v); });
  return !value.is_object() || std::all_of(value.as_object().begin(), value.as_object().end(), [&](const auto& m) {
    return leaves(std::string_view(m.first)) && leaves(m.second);
  });
}

json::Value Disguise::apply(const json::Value& value) const {
  if (value.is_string()) return apply(std::string_view(value.as_string()));
  if (value.is_array()) {
    json::Array out;
    for (const json::Value& v : value.as_array()) out.push_back(apply(v));
    return out;
  }
  if (!value.is_object()) return value;
  json::Object out;
  for (const auto& [key, v] : value.as_object()) out.set(apply(std::string_view(key)), apply(v));
  return out;
}

std::vector<PromptPiece> Disguise::lift(std::string_view text) const {
  std::vector<PromptPiece> pieces;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t before = at;
    const std::string_view* hidden = token(internal::decode_char(text, &at));
    if (!hidden) continue;
    if (before > begin) pieces.push_back({std::string(text.substr(begin, before - begin)), false});
    pieces.push_back({std::string(*hidden), true});
    begin = at;
  }
  if (begin < text.size()) pieces.push_back({std::string(text.substr(begin)), false});
  return pieces;
}

}  // namespace

Result<ChosenTemplate> choose_template(const TemplateSources& sources, bool for_tools) {
  if (sources.explicit_source) return ChosenTemplate{*sources.explicit_source, "given"};
  if (sources.jinja_file) return ChosenTemplate{*sources.jinja_file, "chat_template.jinja"};
  if (sources.tokenizer_config) {
    const json::Value* found = sources.tokenizer_config->find("chat_template");
    if (found && found->is_string()) return ChosenTemplate{found->as_string(), "tokenizer_config.json"};
    if (found && found->is_array() && !found->as_array().empty()) {
      QW_ASSIGN(std::string source, named_template(found->as_array(), for_tools));
      return ChosenTemplate{std::move(source), "tokenizer_config.json"};
    }
    if (found && !found->is_null() && !found->is_array())
      return fail(ErrorKind::kBadInput, "tokenizer_config.json: chat_template: a string or a list is required");
  }
  if (sources.gguf) return ChosenTemplate{*sources.gguf, "tokenizer.chat_template"};
  return ChosenTemplate{std::string(kChatMlTemplate), "ChatML"};
}

Result<std::vector<PromptPiece>> render_prompt(const Template& chat_template, const json::Object& variables,
                                               const std::vector<std::string_view>& control_tokens,
                                               const RenderLimits& limits) {
  if (control_tokens.size() > kMaxControlTokens) return fail(ErrorKind::kBadInput, "too many control tokens");
  const Disguise disguise(control_tokens);
  const auto own = [](std::string_view name) {
    return name == "bos_token" || name == "eos_token" || name == "pad_token" || name == "unk_token";
  };
  const bool harmless = std::all_of(variables.begin(), variables.end(),
                                    [&](const auto& v) { return own(v.first) || disguise.leaves(v.second); });
  if (harmless) {
    QW_ASSIGN(Rendered rendered, chat_template.render(variables, limits));
    std::vector<PromptPiece> whole;
    if (!rendered.text.empty()) whole.push_back({std::move(rendered.text), false});
    return whole;
  }
  json::Object safe;
  for (const auto& [name, value] : variables) safe.set(name, own(name) ? value : disguise.apply(value));
  QW_ASSIGN(const Rendered rendered, chat_template.render(safe, limits));
  return disguise.lift(rendered.text);
}

}  // namespace qw::chat
