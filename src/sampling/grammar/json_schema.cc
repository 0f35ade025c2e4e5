#include "sampling/grammar/json_schema.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sampling/grammar/json_text.h"
#include "sampling/grammar/regex.h"
#include "sampling/grammar/schema_merge.h"

namespace qw::sampling::grammar {
namespace {

constexpr std::size_t kMaxNodes = 1'000'000;  // expressions; a schema that merges itself again and again ends here
constexpr std::int64_t kMaxCount = 100'000;   // as a bound of lengths and numbers of items
constexpr double kMaxWhole = 9e15;            // bounds of numbers: exact in a double
constexpr std::int32_t kMaxIndent = 40;       // columns; a model that only indents must end

constexpr std::array<std::string_view, 19> kRefused = {"not",
                                                       "if",
                                                       "then",
                                                       "else",
                                                       "dependentRequired",
                                                       "dependentSchemas",
                                                       "dependencies",
                                                       "patternProperties",
                                                       "propertyNames",
                                                       "contains",
                                                       "minContains",
                                                       "maxContains",
                                                       "multipleOf",
                                                       "unevaluatedProperties",
                                                       "unevaluatedItems",
                                                       "additionalItems",
                                                       "$dynamicRef",
                                                       "$recursiveRef",
                                                       "extends"};

struct Format {
  std::string_view name;
  std::string_view pattern;  // all its characters stand for themselves in a JSON string
};
#define QW_DATE \
  "\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))"
#define QW_TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"
#define QW_LASTING "(T(\\d{1,9}H(\\d{1,9}M(\\d{1,9}S)?)?|\\d{1,9}M(\\d{1,9}S)?|\\d{1,9}S))"
#define QW_LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define QW_HOST QW_LABEL "(\\." QW_LABEL "){0,2}"
#define QW_OCTET "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define QW_H "[0-9A-Fa-f]{1,4}"
// RFC 3339 (dates without 29 February, so that every one exists), RFC 4122, RFC 5321 (dot-atoms), RFC 1123, RFC 4291,
// RFC 3986.
constexpr std::array<Format, 10> kFormats = {{
    {"date", QW_DATE},
    {"time", QW_TIME},
    {"date-time", QW_DATE "T" QW_TIME},
    {"duration",
     "P((\\d{1,9}Y(\\d{1,9}M(\\d{1,9}D)?)?|\\d{1,9}M(\\d{1,9}D)?|\\d{1,9}D)" QW_LASTING "?|" QW_LASTING "|\\d{1,9}W)"},
    {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
    {"email", "[A-Za-z0-9_+-]{1,20}(\\.[A-Za-z0-9_+-]{1,20}){0,2}@" QW_HOST},
    {"hostname", QW_HOST},
    {"ipv4", QW_OCTET "(\\." QW_OCTET "){3}"},
    {"ipv6", "(" QW_H ":){7}" QW_H "|::(" QW_H "(:" QW_H "){0,5})?|" QW_H "::(" QW_H "(:" QW_H "){0,4})?|" QW_H ":" QW_H
             "::(" QW_H "(:" QW_H "){0,3})?"},
    {"uri",
     "[a-z][a-z0-9+.-]{0,10}://" QW_HOST "(:\\d{1,4})?(/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*(\\?[A-Za-z0-9._~=&-]*)?"},
}};

class Reader {
 public:
  Reader(const json::Value& root, Source& source, JsonLayout layout) : root_(root), s_(source), layout_(layout) {}

  Result<Rule> read() { return rule_at("#", root_, 0); }

  Result<Rule> read_part(const json::Value& part, const std::string& where) { return rule_for(part, where, 0); }

  Rule object() { return value_part(object_); }
  Rule value() { return value_part(value_); }

 private:
  // ---- pieces that schemas share ----
  Node space() {
    if (layout_ == JsonLayout::kOneLine) return s_.optional(s_.bytes(" "));
    if (!space_)
      space_ = s_.add_rule(
          "space",
          s_.choice({s_.empty(), s_.bytes(" "),
                     s_.sequence({s_.bytes("\n"), s_.repeat(s_.set({{' ', ' '}, {'\t', '\t'}}), 0, kMaxIndent)})}));
    return s_.rule(*space_);
  }
  Node colon() { return s_.sequence({s_.bytes(":"), s_.optional(s_.bytes(" "))}); }
  Node comma() { return s_.sequence({s_.bytes(","), space()}); }
  Node any_string() {
    if (!string_)
      string_ = s_.add_rule(
          "string", s_.sequence({s_.bytes("\""), s_.repeat(any_json_character(s_), 0, kNoLimit), s_.bytes("\"")}));
    return s_.rule(*string_);
  }
  // Items between brackets, min to max of them.
  Node list(char open, Node item, char close, std::int32_t min, std::int32_t max) {
    std::vector<Node> parts{s_.bytes(std::string(1, open)), space()};
    if (max != 0) {
      const Node rest =
          s_.repeat(s_.sequence({comma(), item}), std::max(0, min - 1), max == kNoLimit ? kNoLimit : max - 1);
      const Node items = s_.sequence({item, rest, space()});
      parts.push_back(min == 0 ? s_.optional(items) : items);
    }
    parts.push_back(s_.bytes(std::string(1, close)));
    return s_.sequence(std::move(parts));
  }
  Rule value_part(std::optional<Rule>& which) {
    if (!value_) {
      value_ = s_.declare("value");
      object_ = s_.declare("object");
      const Node any = s_.rule(*value_);
      s_.define(*object_, list('{', s_.sequence({any_string(), colon(), any}), '}', 0, kNoLimit));
      const Rule array = s_.add_rule("array", list('[', any, ']', 0, kNoLimit));
      s_.define(*value_, s_.choice({s_.rule(*object_), s_.rule(array), any_string(), *json_number(s_, {}, {}),
                                    s_.bytes("true"), s_.bytes("false"), s_.bytes("null")}));
    }
    return *which;
  }

  // ---- schemas ----
  // A schema at its own place. Each is read once, so it needs no memory.
  Result<Rule> rule_for(const json::Value& schema, const std::string& where, int depth) {
    const Rule rule = s_.declare(where);
    QW_ASSIGN(const Node body, node_for(schema, where, depth));
    s_.define(rule, body);
    return rule;
  }

  // What a reference points to: one rule however often, so that it may come round to itself.
  Result<Rule> rule_at(const std::string& pointer, const json::Value& schema, int depth) {
    const auto known = places_.find(pointer);
    if (known != places_.end()) return known->second;
    const Rule rule = s_.declare(pointer);
    places_.emplace(pointer, rule);
    QW_ASSIGN(const Node body, node_for(schema, pointer, depth));
    s_.define(rule, body);
    return rule;
  }

  Result<Node> node_for(const json::Value& schema, const std::string& where, int depth) {
    if (depth > kMaxSchemaDepth) return bad_schema(where, "schemas are nested too deep");
    if (!s_.spend(512 + where.size())) return s_.effort()->error();
    if (s_.size() > kMaxNodes) return bad_schema(where, "the schema is too large");
    if (schema.is_bool()) {
      if (!schema.as_bool()) return bad_schema(where, "false allows nothing");
      return s_.rule(value());
    }
    if (!schema.is_object()) return bad_schema(where, "a schema must be an object, true or false");
    const json::Object& o = schema.as_object();
    for (const std::string_view word : kRefused)
      if (o.find_set(word) != nullptr) return bad_schema(where, "'" + std::string(word) + "' is not supported");
    if (const json::Value* unique = o.find("uniqueItems"); unique != nullptr && !(*unique == json::Value(false)))
      return bad_schema(where, "'uniqueItems' is not supported");
    if (const json::Value* ref = o.find("$ref")) return reference(o, *ref, where, depth);
    if (o.find("allOf") != nullptr) return all_of(o, where, depth);
    for (const char* word : {"anyOf", "oneOf"})
      if (const json::Value* list = o.find(word)) return any_of(o, word, *list, where, depth);
    if (o.find("const") != nullptr || o.find("enum") != nullptr) return literals(o, where);
    return by_type(o, where, depth);
  }

  Result<Node> reference(const json::Object& o, const json::Value& ref, const std::string& where, int depth) {
    QW_ASSIGN(const json::Value* const target, resolve_reference(root_, ref, where));
    if (!s_.spend(weight_of(o))) return s_.effort()->error();
    const json::Object rest = without(o, "$ref");
    if (!restricts(rest)) {
      QW_ASSIGN(const Rule rule, rule_at(ref.as_string(), *target, depth + 1));
      return s_.rule(rule);
    }
    QW_ASSIGN(json::Object merged, merge_schemas(root_, rest, *target, where, depth + 1, s_));
    return node_for(std::move(merged), where, depth + 1);
  }

  Result<Node> all_of(const json::Object& o, const std::string& where, int depth) {
    if (!s_.spend(2 * weight_of(o))) return s_.effort()->error();
    const json::Value list = *o.find("allOf");
    if (!list.is_array() || list.as_array().empty()) return bad_schema(where, "'allOf' must be a list of schemas");
    json::Object merged = without(o, "allOf");
    const bool several = list.as_array().size() > 1 || restricts(merged);
    for (const json::Value& part : list.as_array()) {
      const json::Value* closed = part.find("additionalProperties");
      if (several && closed != nullptr && !(*closed == json::Value(true)))
        return bad_schema(where, "'additionalProperties' inside 'allOf' is not supported");
      QW_ASSIGN(merged, merge_schemas(root_, std::move(merged), part, where, depth + 1, s_));
    }
    return node_for(std::move(merged), where, depth + 1);
  }

  Result<Node> any_of(const json::Object& o, const char* word, const json::Value& list, const std::string& where,
                      int depth) {
    if (!list.is_array() || list.as_array().empty())
      return bad_schema(where, std::string("'") + word + "' must be a list of schemas");
    if (!s_.spend(weight_of(o))) return s_.effort()->error();
    const json::Object rest = without(o, word);
    const bool merges = restricts(rest);
    const std::size_t weight = merges ? weight_of(rest) : 0;
    std::vector<Node> choices;
    for (std::size_t i = 0; i < list.as_array().size(); ++i) {
      const std::string place = where + "/" + word + "/" + std::to_string(i);
      const json::Value& part = list.as_array()[i];
      if (!s_.spend(weight)) return s_.effort()->error();
      if (merges) {
        QW_ASSIGN(json::Object merged, merge_schemas(root_, rest, part, place, depth + 1, s_));
        QW_ASSIGN(const Node node, node_for(std::move(merged), place, depth + 1));
        choices.push_back(node);
      } else {
        QW_ASSIGN(const Rule rule, rule_for(part, place, depth + 1));
        choices.push_back(s_.rule(rule));
      }
    }
    return s_.choice(std::move(choices));
  }

  // ---- values as they are ----
  static bool has_type(const json::Value& v, const std::string& type) {
    if (type == "number") return v.is_number();
    if (type == "integer") return v.is_int() || (v.is_double() && v.as_double() == std::floor(v.as_double()));
    return v.type_name() == type;
  }

  Result<std::vector<std::string>> types(const json::Object& o, const std::string& where) const {
    std::vector<std::string> out;
    const json::Value* type = o.find("type");
    if (type == nullptr) return out;
    const json::Array list = type->is_array() ? type->as_array() : json::Array{*type};
    for (const json::Value& t : list) {
      constexpr std::array<std::string_view, 7> kTypes = {"null",   "boolean", "integer", "number",
                                                          "string", "array",   "object"};
      if (!t.is_string() || std::find(kTypes.begin(), kTypes.end(), t.as_string()) == kTypes.end())
        return bad_schema(where, "'type' names no type of JSON");
      if (std::find(out.begin(), out.end(), t.as_string()) == out.end()) out.push_back(t.as_string());
    }
    if (out.empty()) return bad_schema(where, "'type' is empty");
    return out;
  }

  Result<Node> literals(const json::Object& o, const std::string& where) {
    for (const auto& [key, value] : o)
      if (key != "const" && key != "enum" && key != "type" && !describes_only(key) && restricting(key))
        return bad_schema(where, "'" + key + "' beside 'const' or 'enum' is not supported");
    QW_ASSIGN(const std::vector<std::string> allowed, types(o, where));
    const json::Value* one = o.find("const");
    const json::Value* list = o.find("enum");
    if (list != nullptr && (!list->is_array() || list->as_array().empty()))
      return bad_schema(where, "'enum' must be a list of values");
    const json::Array values = one != nullptr ? json::Array{*one} : list->as_array();
    std::vector<Node> choices;
    for (const json::Value& v : values) {
      if (!s_.spend(256)) return s_.effort()->error();
      if (!allowed.empty() &&
          std::none_of(allowed.begin(), allowed.end(), [&](const auto& t) { return has_type(v, t); }))
        continue;
      if (one != nullptr && list != nullptr &&
          std::find(list->as_array().begin(), list->as_array().end(), v) == list->as_array().end())
        continue;
      const std::string tight = json::dump(v, json::WriteStyle::compact()), wide = json::dump(v);
      choices.push_back(s_.bytes(tight));
      if (wide != tight) choices.push_back(s_.bytes(wide));
    }
    if (choices.empty()) return bad_schema(where, "no value is allowed");
    return s_.choice(std::move(choices));
  }

  static bool restricting(std::string_view key) { return !words_of(key).empty(); }

  // The type that a word is about; "" for words that mean nothing here.
  static std::string_view words_of(std::string_view key) {
    for (const char* w : {"properties", "required", "additionalProperties", "minProperties", "maxProperties"})
      if (key == w) return "object";
    for (const char* w : {"items", "prefixItems", "minItems", "maxItems"})
      if (key == w) return "array";
    for (const char* w : {"minLength", "maxLength", "pattern", "format"})
      if (key == w) return "string";
    for (const char* w : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
      if (key == w) return "number";
    return "";
  }

  // ---- by type ----
  Result<Node> by_type(const json::Object& o, const std::string& where, int depth) {
    QW_ASSIGN(std::vector<std::string> wanted, types(o, where));
    if (wanted.empty()) {  // the words that are there tell what is meant
      for (const auto& [key, value] : o) {
        const std::string type(words_of(key));
        if (!type.empty() && key != "format" && std::find(wanted.begin(), wanted.end(), type) == wanted.end())
          wanted.push_back(type);
      }
      if (wanted.empty()) return s_.rule(value());
    }
    std::vector<Node> choices;
    for (const std::string& type : wanted) {
      QW_ASSIGN(const Node node, of_type(type, o, where, depth));
      choices.push_back(node);
    }
    return s_.choice(std::move(choices));
  }

  Result<Node> of_type(const std::string& type, const json::Object& o, const std::string& where, int depth) {
    if (type == "null") return s_.bytes("null");
    if (type == "boolean") return s_.choice({s_.bytes("true"), s_.bytes("false")});
    if (type == "string") return string(o, where);
    if (type == "integer") return integer(o, where);
    if (type == "number") return number(o, where);
    if (type == "array") return array(o, where, depth);
    return object(o, where, depth);
  }

  Result<std::optional<std::int32_t>> count(const json::Object& o, const char* word, const std::string& where) const {
    const json::Value* v = o.find_set(word);
    if (v == nullptr) return std::nullopt;
    const bool whole = v->is_int() || (v->is_double() && v->as_double() == std::floor(v->as_double()));
    if (!whole || v->as_double() < 0)
      return bad_schema(where, std::string("'") + word + "' must be a whole number of 0 or more");
    if (v->as_double() > static_cast<double>(kMaxCount))
      return bad_schema(where, std::string("'") + word + "' is above " + std::to_string(kMaxCount));
    return static_cast<std::int32_t>(v->as_double());
  }

  struct Counts {
    std::int32_t min = 0, max = kNoLimit;
    bool bounded() const { return min > 0 || max != kNoLimit; }
  };
  Result<Counts> counts(const json::Object& o, const char* min, const char* max, const std::string& where) const {
    QW_ASSIGN(const std::optional<std::int32_t> low, count(o, min, where));
    QW_ASSIGN(const std::optional<std::int32_t> high, count(o, max, where));
    if (high && *high < low.value_or(0)) return bad_schema(where, std::string("'") + max + "' is below '" + min + "'");
    return Counts{low.value_or(0), high.value_or(kNoLimit)};
  }

  Result<Node> string(const json::Object& o, const std::string& where) {
    QW_ASSIGN(const Counts length, counts(o, "minLength", "maxLength", where));
    const json::Value* pattern = o.find_set("pattern");
    const json::Value* format = o.find_set("format");
    const Format* known = nullptr;
    if (format != nullptr && format->is_string())
      for (const Format& f : kFormats)
        if (f.name == format->as_string()) known = &f;
    if ((pattern != nullptr) + (known != nullptr) + (length.bounded() ? 1 : 0) > 1)
      return bad_schema(where, "only one of 'pattern', 'format' and lengths at a time is supported");
    Node text = -1;
    if (pattern != nullptr) {
      if (!pattern->is_string()) return bad_schema(where, "'pattern' must be a string");
      auto node = parse_regex(pattern->as_string(), s_, Anchoring::kSearch, json_characters);
      if (!node) return bad_schema(where, "'pattern': " + node.error().message);
      text = *node;
    } else if (known != nullptr) {
      auto node = parse_regex(known->pattern, s_);
      QW_CHECK(node.has_value());
      text = *node;
    } else if (length.bounded()) {
      text = s_.repeat(any_json_character(s_), length.min, length.max);
    } else {
      return any_string();
    }
    return s_.sequence({s_.bytes("\""), text, s_.bytes("\"")});
  }

  // The bound that `word` or its exclusive form gives. Drafts before 6 have a boolean for the latter.
  Result<std::optional<std::pair<double, bool>>> bound(const json::Object& o, const char* word,
                                                       const char* exclusive_word, bool lower,
                                                       const std::string& where) const {
    const json::Value* inclusive = o.find_set(word);
    const json::Value* exclusive = o.find_set(exclusive_word);
    std::optional<std::pair<double, bool>> out;
    if (inclusive != nullptr) {
      if (!inclusive->is_number()) return bad_schema(where, std::string("'") + word + "' must be a number");
      out = {inclusive->as_double(), exclusive != nullptr && *exclusive == json::Value(true)};
    }
    if (exclusive != nullptr && !exclusive->is_bool()) {
      if (!exclusive->is_number()) return bad_schema(where, std::string("'") + exclusive_word + "' must be a number");
      const double e = exclusive->as_double();
      if (!out || (lower ? e >= out->first : e <= out->first)) out = {e, true};
    }
    if (out && !(std::abs(out->first) <= kMaxWhole))
      return bad_schema(where, std::string("'") + word + "' is beyond 9e15");
    return out;
  }

  Result<Node> integer(const json::Object& o, const std::string& where) {
    QW_ASSIGN(const auto low, bound(o, "minimum", "exclusiveMinimum", true, where));
    QW_ASSIGN(const auto high, bound(o, "maximum", "exclusiveMaximum", false, where));
    std::optional<std::int64_t> min, max;
    if (low)
      min = static_cast<std::int64_t>(std::ceil(low->first)) +
            (low->second && std::ceil(low->first) == low->first ? 1 : 0);
    if (high)
      max = static_cast<std::int64_t>(std::floor(high->first)) -
            (high->second && std::floor(high->first) == high->first ? 1 : 0);
    if (min && max && *min > *max) return bad_schema(where, "no integer is between the bounds");
    return json_integer(s_, min, max);
  }

  Result<Node> number(const json::Object& o, const std::string& where) {
    QW_ASSIGN(const auto low, bound(o, "minimum", "exclusiveMinimum", true, where));
    QW_ASSIGN(const auto high, bound(o, "maximum", "exclusiveMaximum", false, where));
    for (const auto& b : {low, high})
      if (b && b->first != std::floor(b->first)) return bad_schema(where, "bounds of numbers must be whole");
    const auto whole = [](const auto& b) {
      return b ? std::optional(NumberBound{static_cast<std::int64_t>(b->first), b->second}) : std::nullopt;
    };
    const auto node = json_number(s_, whole(low), whole(high));
    if (!node) return bad_schema(where, "no number is between the bounds");
    return *node;
  }

  Result<Node> array(const json::Object& o, const std::string& where, int depth) {
    QW_ASSIGN(const Counts length, counts(o, "minItems", "maxItems", where));
    const json::Value* items = o.find("items");
    const json::Value* prefix = o.find("prefixItems");
    if (items != nullptr && items->is_array()) {  // drafts before 2020-12
      prefix = items;
      items = nullptr;
    }
    const bool closed = items != nullptr && items->is_bool() && !items->as_bool();
    Node item = -1;
    if (!closed) {
      if (items == nullptr) {
        item = s_.rule(value());
      } else {
        QW_ASSIGN(const Rule rule, rule_for(*items, where + "/items", depth + 1));
        item = s_.rule(rule);
      }
    }
    if (prefix == nullptr) {
      if (closed && length.min > 0) return bad_schema(where, "'items' false leaves no item");
      return list('[', item, ']', length.min, closed ? 0 : length.max);
    }
    if (!prefix->is_array()) return bad_schema(where, "'prefixItems' must be a list of schemas");
    return tuple(prefix->as_array(), item, length, where, depth);
  }

  // Items with a schema each, then `item` (-1: nothing more). Written from the back: [a(,b(,c(,item)*)?)?].
  Result<Node> tuple(const json::Array& prefix, Node item, Counts length, const std::string& where, int depth) {
    const auto n = static_cast<std::int32_t>(prefix.size());
    if (item < 0 && length.min > n) return bad_schema(where, "fewer items are described than 'minItems' asks for");
    const std::int32_t max = length.max == kNoLimit ? kNoLimit : length.max;
    Node tail = s_.empty();
    if (item >= 0 && (max == kNoLimit || max > n))
      tail = s_.repeat(s_.sequence({comma(), item}), std::max(0, length.min - n), max == kNoLimit ? kNoLimit : max - n);
    const std::int32_t used = max == kNoLimit ? n : std::min(n, max);
    if (used < n) tail = s_.empty();
    for (std::int32_t i = used; i-- > 0;) {
      QW_ASSIGN(const Rule rule,
                rule_for(prefix[static_cast<std::size_t>(i)], where + "/prefixItems/" + std::to_string(i), depth + 1));
      std::vector<Node> parts;
      if (i > 0) parts.push_back(comma());
      parts.push_back(s_.rule(rule));
      parts.push_back(tail);
      const Rule from_here = s_.add_rule(where + " from item " + std::to_string(i), s_.sequence(std::move(parts)));
      tail = i >= length.min ? s_.optional(s_.rule(from_here)) : s_.rule(from_here);
    }
    return s_.sequence({s_.bytes("["), space(), tail, space(), s_.bytes("]")});
  }

  struct Property {
    std::string name;
    Node member;  // "name": value
    bool required = false;
  };

  Result<Node> object(const json::Object& o, const std::string& where, int depth) {
    const json::Value* properties = o.find_set("properties");
    const json::Value* additional = o.find_set("additionalProperties");
    QW_ASSIGN(const Counts size, counts(o, "minProperties", "maxProperties", where));
    if (properties != nullptr && !properties->is_object()) return bad_schema(where, "'properties' must be an object");
    const bool closed = additional != nullptr && additional->is_bool() && !additional->as_bool();
    std::set<std::string> required;
    if (const json::Value* list = o.find_set("required")) {
      if (!list->is_array()) return bad_schema(where, "'required' must be a list of names");
      for (const json::Value& name : list->as_array()) {
        if (!name.is_string()) return bad_schema(where, "'required' must be a list of names");
        required.insert(name.as_string());
      }
    }
    std::vector<Property> members;
    if (properties != nullptr)
      for (const auto& [name, schema] : properties->as_object()) {
        QW_ASSIGN(const Rule rule, rule_for(schema, where + "/properties/" + name, depth + 1));
        members.push_back({name, member(name, s_.rule(rule)), required.erase(name) > 0});
      }
    for (const std::string& name : required) {
      if (closed) return bad_schema(where, "'" + name + "' is required and not among the properties");
      QW_ASSIGN(const Node any, additional_value(additional, where, depth));
      members.push_back({name, member(name, any), true});
    }
    const bool open = !closed && (additional != nullptr || members.empty());
    if (members.empty()) {
      if (!open) {
        if (size.min > 0) return bad_schema(where, "no property is allowed");
        return list('{', -1, '}', 0, 0);
      }
      QW_ASSIGN(const Node any, additional_value(additional, where, depth));
      return list('{', s_.sequence({any_string(), colon(), any}), '}', size.min, size.max);
    }
    if (size.bounded())
      return bad_schema(where, "'minProperties' and 'maxProperties' beside 'properties' are not supported");
    Node extra = -1;
    if (open) {
      std::vector<std::string> names;
      for (const Property& p : members) names.push_back(p.name);
      QW_ASSIGN(const Node any, additional_value(additional, where, depth));
      extra = s_.sequence({json_string_except(s_, names), colon(), any});
    }
    return members_of(members, extra, where);
  }

  Result<Node> additional_value(const json::Value* schema, const std::string& where, int depth) {
    if (schema == nullptr || schema->is_bool()) return s_.rule(value());
    QW_ASSIGN(const Rule rule, rule_for(*schema, where + "/additionalProperties", depth + 1));
    return s_.rule(rule);
  }

  Node member(const std::string& name, Node value) {
    return s_.sequence({s_.bytes(json::dump(json::Value(name))), colon(), value});
  }

  // In the order of declaration; one rule for each place and for whether something stands before it.
  Node members_of(const std::vector<Property>& members, Node extra, const std::string& where) {
    Node behind_first = s_.empty(), behind_others = s_.empty();  // what follows, with nothing and with something before
    if (extra >= 0) {
      behind_others = s_.rule(s_.add_rule(where + " others", s_.repeat(s_.sequence({comma(), extra}), 0, kNoLimit)));
      behind_first = s_.optional(s_.sequence({extra, behind_others}));
    }
    for (std::size_t i = members.size(); i-- > 0;) {
      const Property& p = members[i];
      const auto from_here = [&](bool first) {
        const Node taken =
            first ? s_.sequence({p.member, behind_others}) : s_.sequence({comma(), p.member, behind_others});
        const Node body = p.required ? taken : s_.choice({taken, first ? behind_first : behind_others});
        return s_.rule(s_.add_rule(where + " from " + p.name, body));
      };
      const Node with_first = from_here(true), with_others = from_here(false);
      behind_first = with_first;
      behind_others = with_others;
    }
    return s_.sequence({s_.bytes("{"), space(), behind_first, space(), s_.bytes("}")});
  }

  const json::Value& root_;
  Source& s_;
  JsonLayout layout_;
  std::map<std::string, Rule> places_;  // by pointer
  std::optional<Rule> space_, string_, value_, object_;
};

}  // namespace

Result<Rule> add_json_schema(const json::Value& schema, Source& source, JsonLayout layout) {
  return Reader(schema, source, layout).read();
}

Result<Rule> add_json_schema_part(const json::Value& root, const json::Value& part, const std::string& where,
                                  Source& source) {
  return Reader(root, source, JsonLayout::kLines).read_part(part, where);
}

Rule add_json_object(Source& source, JsonLayout layout) {
  const json::Value any(true);
  return Reader(any, source, layout).object();
}

Rule add_json_value(Source& source) {
  const json::Value any(true);
  return Reader(any, source, JsonLayout::kLines).value();
}

}  // namespace qw::sampling::grammar
