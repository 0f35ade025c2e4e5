// str(), repr() and json.dumps() of values.
#include <algorithm>
#include <cmath>

#include "chat/internal/loop.h"
#include "chat/internal/text.h"
#include "chat/internal/value.h"

namespace qw::chat::internal {

namespace {

// Containers are built no deeper than the interpreter's limit; only namespaces can contain themselves.
constexpr int kMaxNesting = 1000;

template <class Items, class Each>
TextResult append_list(std::string* out, const char* open, const Items& items, const char* close, Each each) {
  out->append(open);
  bool first = true;
  for (const auto& item : items) {
    if (!first) out->append(", ");
    first = false;
    if (TextResult r = each(item); !r.ok) return r;
  }
  out->append(close);
  return {};
}

TextResult repr_view(std::string* out, const View& view, std::size_t limit, int depth) {
  const auto pair = [&](const auto& item) {
    out->append("(");
    if (TextResult r = append_repr(out, item.first, limit, depth); !r.ok) return r;
    out->append(", ");
    TextResult r = append_repr(out, item.second, limit, depth);
    out->append(")");
    return r;
  };
  const auto one = [&](const auto& item) {
    return append_repr(out, view.part == 'k' ? item.first : item.second, limit, depth);
  };
  const auto& items = view.dict.dict().items;
  if (view.part == 'i') return append_list(out, "dict_items([", items, "])", pair);
  return append_list(out, view.part == 'k' ? "dict_keys([" : "dict_values([", items, "])", one);
}

void repr_range(std::string* out, const Range& range) {
  out->append("range(" + std::to_string(range.start) + ", " + std::to_string(range.stop));
  if (range.step != 1) out->append(", " + std::to_string(range.step));
  out->append(")");
}

TextResult repr_namespace(std::string* out, const Namespace& ns, std::size_t limit, int depth) {
  return append_list(out, "<Namespace {", ns.items, "}>", [&](const auto& item) {
    out->append(quoted(item.first)).append(": ");
    return append_repr(out, item.second, limit, depth);
  });
}

}  // namespace

TextResult append_repr(std::string* out, const Value& v, std::size_t limit, int depth) {
  if (out->size() > limit) return {false, "text is too long"};
  if (++depth > kMaxNesting) return {false, "value nests too deeply"};
  const auto each = [&](const Value& item) { return append_repr(out, item, limit, depth); };
  switch (v.kind()) {
    case Kind::kString:
      out->append(v.is_markup() ? "Markup(" + quoted(v.text()) + ")" : quoted(v.text()));
      return {};
    case Kind::kUndefined:
      out->append("Undefined");
      return {};
    case Kind::kNone:
      out->append("None");
      return {};
    case Kind::kBool:
      out->append(v.as_bool() ? "True" : "False");
      return {};
    case Kind::kInt:
      out->append(std::to_string(v.as_int()));
      return {};
    case Kind::kFloat: {
      const double d = v.as_double();
      out->append(std::isfinite(d) ? json::python_float(d) : std::isnan(d) ? "nan" : d > 0 ? "inf" : "-inf");
      return {};
    }
    case Kind::kList:
      return append_list(out, "[", v.items(), "]", each);
    case Kind::kTuple:
      return append_list(out, "(", v.items(), v.items().size() == 1 ? ",)" : ")", each);
    case Kind::kDict:
      return append_list(out, "{", v.dict().items, "}", [&](const auto& item) {
        if (TextResult r = append_repr(out, item.first, limit, depth); !r.ok) return r;
        out->append(": ");
        return append_repr(out, item.second, limit, depth);
      });
    case Kind::kRange:
      repr_range(out, v.range());
      return {};
    case Kind::kView:
      return repr_view(out, v.view(), limit, depth);
    case Kind::kNamespace:
      return repr_namespace(out, *v.name_space(), limit, depth);
    default:
      return {false, "this value has no text"};
  }
}

TextResult append_text(std::string* out, const Value& v, std::size_t limit) {
  if (v.is_undefined()) return {};
  if (!v.is_string()) return append_repr(out, v, limit);
  if (v.text().size() > limit || out->size() > limit - v.text().size()) return {false, "text is too long"};
  out->append(v.text());
  return {};
}

namespace {

void append_escape(std::string* out, std::uint32_t unit) {
  static constexpr char kHex[] = "0123456789abcdef";
  out->append("\\u");
  for (int shift = 12; shift >= 0; shift -= 4) *out += kHex[unit >> shift & 15];
}

void append_json_string(std::string* out, std::string_view text, bool ensure_ascii) {
  *out += '"';
  for (std::size_t at = 0; at < text.size();) {
    const std::uint32_t c = decode_char(text, &at);
    switch (c) {
      case '"':
        out->append("\\\"");
        continue;
      case '\\':
        out->append("\\\\");
        continue;
      case '\n':
        out->append("\\n");
        continue;
      case '\r':
        out->append("\\r");
        continue;
      case '\t':
        out->append("\\t");
        continue;
      case '\f':
        out->append("\\f");
        continue;
      case '\b':
        out->append("\\b");
        continue;
      default:
        break;
    }
    if (c < 0x20) {
      append_escape(out, c);
    } else if (!ensure_ascii || c < 0x7F || (c & kBadByte)) {
      append_char(out, c);
    } else if (c < 0x10000) {
      append_escape(out, c);
    } else {
      append_escape(out, 0xD800 + ((c - 0x10000) >> 10));
      append_escape(out, 0xDC00 + ((c - 0x10000) & 0x3FF));
    }
  }
  *out += '"';
}

void append_json_float(std::string* out, double d) {
  out->append(std::isfinite(d) ? json::python_float(d) : std::isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity");
}

// The string a dictionary key becomes; false for keys json.dumps refuses.
bool json_key(const Value& key, std::string* out) {
  switch (key.kind()) {
    case Kind::kString:
      *out = key.text();
      return true;
    case Kind::kNone:
      *out = "null";
      return true;
    case Kind::kBool:
      *out = key.as_bool() ? "true" : "false";
      return true;
    case Kind::kInt:
      *out = std::to_string(key.as_int());
      return true;
    case Kind::kFloat:
      append_json_float(out, key.as_double());
      return true;
    default:
      return false;
  }
}

void break_line(std::string* out, const JsonStyle& style, int depth) {
  if (!style.has_indent) return;
  *out += '\n';
  for (int i = 0; i < depth; ++i) out->append(style.indent);
}

TextResult append_json_dict(std::string* out, const Dict& dict, const JsonStyle& style, std::size_t limit, int depth) {
  if (dict.items.empty()) return out->append("{}"), TextResult{};
  std::vector<std::pair<std::string, const Value*>> rows;
  for (const auto& [k, v] : dict.items) {
    std::string key;
    if (!json_key(k, &key)) return {false, "keys of a JSON object must be str, int, float, bool or None"};
    rows.emplace_back(std::move(key), &v);
  }
  if (style.sort_keys)
    std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  *out += '{';
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i > 0) out->append(style.item_separator);
    break_line(out, style, depth);
    append_json_string(out, rows[i].first, style.ensure_ascii);
    out->append(style.key_separator);
    if (TextResult r = append_json(out, *rows[i].second, style, limit, depth); !r.ok) return r;
  }
  break_line(out, style, depth - 1);
  *out += '}';
  return {};
}

TextResult append_json_list(std::string* out, const Values& items, const JsonStyle& style, std::size_t limit,
                            int depth) {
  if (items.empty()) return out->append("[]"), TextResult{};
  *out += '[';
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out->append(style.item_separator);
    break_line(out, style, depth);
    if (TextResult r = append_json(out, items[i], style, limit, depth); !r.ok) return r;
  }
  break_line(out, style, depth - 1);
  *out += ']';
  return {};
}

}  // namespace

TextResult append_json(std::string* out, const Value& v, const JsonStyle& style, std::size_t limit, int depth) {
  if (out->size() > limit) return {false, "text is too long"};
  if (++depth > kMaxNesting) return {false, "value nests too deeply"};
  switch (v.kind()) {
    case Kind::kNone:
      out->append("null");
      return {};
    case Kind::kBool:
      out->append(v.as_bool() ? "true" : "false");
      return {};
    case Kind::kInt:
      out->append(std::to_string(v.as_int()));
      return {};
    case Kind::kFloat:
      append_json_float(out, v.as_double());
      return {};
    case Kind::kString:
      append_json_string(out, v.text(), style.ensure_ascii);
      return {};
    case Kind::kList:
    case Kind::kTuple:
      return append_json_list(out, v.items(), style, limit, depth);
    case Kind::kDict:
      return append_json_dict(out, v.dict(), style, limit, depth);
    default:
      return {false, "value is not JSON serializable"};
  }
}

}  // namespace qw::chat::internal
