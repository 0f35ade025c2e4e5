#include <string>

#include "governance/guard/text_guard.h"
#include "json/value.h"

namespace qw::governance {
namespace {

class JsonGuard {
 public:
  JsonGuard(const GuardRules& rules, std::vector<GuardFinding>& findings) : rules_(rules), findings_(findings) {}
  bool blocked() const { return blocked_; }
  bool changed() const { return changed_; }

  json::Value value(const json::Value& in, std::string_view name) {
    if (in.is_object()) {
      json::Object out;
      for (const auto& [key, member] : in.as_object()) out.set(text(key, ""), value(member, key));
      return out;
    }
    if (in.is_array()) {
      json::Array out;
      for (const json::Value& item : in.as_array()) out.push_back(value(item, name));
      return out;
    }
    if (in.is_string()) return text(in.as_string(), name);
    if (!in.is_number()) return in;
    const std::string digits = json::dump(in);
    std::string shown = text(digits, name);
    return shown == digits ? in : json::Value(std::move(shown));
  }

  std::string text(std::string_view in, std::string_view name) {
    Guarded out = guard_text(rules_, in, findings_, name);
    blocked_ = blocked_ || out.blocked;
    changed_ = changed_ || out.text != in;
    return std::move(out.text);
  }

 private:
  const GuardRules& rules_;
  std::vector<GuardFinding>& findings_;
  bool blocked_ = false, changed_ = false;
};

void append_code_point(std::string& out, unsigned code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 63));
  } else {
    out += static_cast<char>(0xE0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 63));
    out += static_cast<char>(0x80 | (code & 63));
  }
}

// What a reader of the beginning of a JSON text sees in it; pairs of surrogates are left as two.
std::string without_escapes(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char kind = text[++i];
    if (kind == 'u' && i + 4 < text.size() &&
        text.substr(i + 1, 4).find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos) {
      append_code_point(out, static_cast<unsigned>(std::stoul(std::string(text.substr(i + 1, 4)), nullptr, 16)));
      i += 4;
    } else {
      out += std::string_view("bfnrt").find(kind) != std::string_view::npos ? ' ' : kind;
    }
  }
  return out;
}

}  // namespace

Guarded guard_json(const GuardRules& rules, std::string_view text, std::vector<GuardFinding>& findings) {
  if (rules.classes.model != nullptr) {  // which is asked about all of it at once
    GuardRules one;
    one.classes = rules.classes;
    if (guard_text(one, text, findings).blocked) return {"", true};
    one = rules;
    one.classes.model = nullptr;
    return guard_json(one, text, findings);
  }
  JsonGuard guard(rules, findings);
  if (const auto whole = json::parse(text)) {
    const json::Value shown = guard.value(*whole, "");
    return {guard.changed() ? json::dump(shown) : std::string(text), guard.blocked()};
  }
  guard.text(without_escapes(text), "");
  return {guard.changed() ? std::string() : std::string(text), guard.blocked()};
}

}  // namespace qw::governance
