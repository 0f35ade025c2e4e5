#include "sampling/grammar/schema_merge.h"

#include <algorithm>
#include <array>
#include <utility>

namespace qw::sampling::grammar {

tl::unexpected<Error> bad_schema(const std::string& where, const std::string& what) {
  // Places are made of names that clients choose.
  constexpr std::size_t kMostShown = 400;
  std::size_t end = std::min(where.size(), kMostShown);
  while (end < where.size() && end > 0 && (static_cast<unsigned char>(where[end]) & 0xC0) == 0x80) --end;
  return fail(ErrorKind::kBadInput, where.substr(0, end) + (end < where.size() ? "...: " : ": ") + what);
}

bool describes_only(std::string_view key) {
  constexpr std::array<std::string_view, 13> kWords = {
      "title", "description", "default",     "examples",   "example",  "$comment", "$schema",
      "$id",   "$defs",       "definitions", "deprecated", "readOnly", "writeOnly"};
  return std::find(kWords.begin(), kWords.end(), key) != kWords.end();
}

bool restricts(const json::Object& o) {
  return std::any_of(o.begin(), o.end(), [](const json::Member& m) { return !describes_only(m.first); });
}

std::size_t weight_of(const json::Object& object) {
  std::size_t weight = 128;
  for (const auto& [key, value] : object) weight += key.size() + weight_of(value);
  return weight;
}

std::size_t weight_of(const json::Value& value) {
  constexpr std::size_t kEach = 64;  // to make and let go
  if (value.is_string()) return kEach + value.as_string().size();
  if (value.is_object()) return weight_of(value.as_object());
  if (!value.is_array()) return kEach;
  std::size_t weight = kEach;
  for (const json::Value& item : value.as_array()) weight += weight_of(item);
  return weight;
}

json::Object without(const json::Object& o, std::string_view key) {
  json::Object out = o;
  out.erase(key);
  return out;
}

Result<const json::Value*> resolve_reference(const json::Value& root, const json::Value& ref,
                                             const std::string& where) {
  if (!ref.is_string()) return bad_schema(where, "'$ref' must be a string");
  const std::string& pointer = ref.as_string();
  if (pointer.empty() || pointer[0] != '#')
    return bad_schema(where, "'$ref' to '" + pointer + "': only places in the same document");
  const json::Value* at = &root;
  for (std::size_t i = 1; i < pointer.size();) {
    if (pointer[i] != '/') return bad_schema(where, "'$ref' to '" + pointer + "': only pointers such as #/$defs/name");
    const std::size_t end = std::min(pointer.find('/', i + 1), pointer.size());
    std::string key = pointer.substr(i + 1, end - i - 1);
    for (const auto& [code, text] : {std::pair{"~1", "/"}, std::pair{"~0", "~"}})
      for (std::size_t p = key.find(code); p != std::string::npos; p = key.find(code, p + 1)) key.replace(p, 2, text);
    const json::Value* next = at->find(key);
    if (at->is_array() && !key.empty() && key.find_first_not_of("0123456789") == std::string::npos && key.size() < 9) {
      const auto n = static_cast<std::size_t>(std::stoul(key));
      next = n < at->as_array().size() ? &at->as_array()[n] : nullptr;
    }
    if (next == nullptr) return bad_schema(where, "'$ref' to '" + pointer + "', which is not there");
    at = next;
    i = end;
  }
  return at;
}

namespace {

// Makes `mine` say what both values of `key` say.
Status unite(const std::string& key, json::Value& mine, const json::Value& other, const std::string& where,
             const Source& source) {
  if (key == "properties" && mine.is_object() && other.is_object()) {
    for (const auto& [name, schema] : other.as_object()) {
      json::Value* same = mine.as_object().find(name);
      if (same == nullptr)
        mine.as_object().set(name, schema);
      else if (!(*same == schema))
        *same = json::Object{{"allOf", json::Array{*same, schema}}};
    }
    return {};
  }
  if (key == "required" && mine.is_array() && other.is_array()) {
    for (const json::Value& name : other.as_array()) mine.as_array().push_back(name);
    return {};
  }
  if (key == "allOf" && mine.is_array() && other.is_array()) {
    for (const json::Value& s : other.as_array()) mine.as_array().push_back(s);
    return {};
  }
  if (key == "type" || key == "enum") {
    json::Array both;
    const auto list = [](const json::Value& v) { return v.is_array() ? v.as_array() : json::Array{v}; };
    const json::Array ours = list(mine), theirs = list(other);
    for (const json::Value& v : ours) {
      if (!source.spend(16 * theirs.size())) return source.effort()->error();
      for (const json::Value& w : theirs) {
        if (v == w)
          both.push_back(v);
        else if (key == "type" && ((v == json::Value("number") && w == json::Value("integer")) ||
                                   (w == json::Value("number") && v == json::Value("integer"))))
          both.push_back(json::Value("integer"));
      }
    }
    if (both.empty()) return bad_schema(where, "the schemas together allow no '" + key + "'");
    mine = std::move(both);
    return {};
  }
  const bool lower = key == "minimum" || key == "exclusiveMinimum" || key == "minLength" || key == "minItems" ||
                     key == "minProperties";
  const bool upper = key == "maximum" || key == "exclusiveMaximum" || key == "maxLength" || key == "maxItems" ||
                     key == "maxProperties";
  if ((lower || upper) && mine.is_number() && other.is_number()) {
    if (lower ? other.as_double() > mine.as_double() : other.as_double() < mine.as_double()) mine = other;
    return {};
  }
  return bad_schema(where, "schemas that both have '" + key + "' are not merged");
}

}  // namespace

Result<json::Object> merge_schemas(const json::Value& root, json::Object a, const json::Value& b,
                                   const std::string& where, int depth, const Source& source) {
  if (depth > kMaxSchemaDepth) return bad_schema(where, "references go round in a circle");
  if (b.is_bool() && b.as_bool()) return a;
  if (!b.is_object()) return bad_schema(where, "a schema must be an object");
  if (!source.spend(weight_of(b))) return source.effort()->error();
  if (const json::Value* ref = b.find("$ref")) {
    QW_ASSIGN(const json::Value* const target, resolve_reference(root, *ref, where));
    QW_ASSIGN(json::Object deeper, merge_schemas(root, std::move(a), *target, where, depth + 1, source));
    return merge_schemas(root, std::move(deeper), without(b.as_object(), "$ref"), where, depth + 1, source);
  }
  for (const auto& [key, value] : b.as_object()) {
    if (describes_only(key)) continue;
    json::Value* mine = a.find(key);
    if (mine == nullptr) {
      a.set(key, value);
    } else if (!(*mine == value)) {
      QW_TRY(unite(key, *mine, value, where, source));
    }
  }
  return a;
}

}  // namespace qw::sampling::grammar
