#include <algorithm>
#include <optional>

#include "base/html.h"
#include "governance/label/internal/carrier.h"

namespace qw::governance::internal {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f'; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Whether `word`, in lower case, stands at `at` in whatever case.
bool stands_at(std::string_view text, std::size_t at, std::string_view word) {
  if (at + word.size() > text.size()) return false;
  for (std::size_t i = 0; i < word.size(); ++i)
    if (lower(text[at + i]) != word[i]) return false;
  return true;
}

bool is_tag(std::string_view text, std::size_t at, std::string_view name) {  // "<name" and then no letter
  if (!stands_at(text, at, name)) return false;
  const std::size_t next = at + name.size();
  return next == text.size() || is_blank(text[next]) || text[next] == '>' || text[next] == '/';
}

// Behind the '>' of the tag that begins at `at`, quotes minded.
std::size_t behind_tag(std::string_view text, std::size_t at) {
  char quote = 0;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '>') {
      return at + 1;
    }
  }
  return kNone;
}

struct Entity {
  std::string_view name;
  char character;
};
constexpr Entity kEntities[] = {{"&quot;", '"'},  {"&#34;", '"'}, {"&#x22;", '"'}, {"&#39;", '\''},
                                {"&apos;", '\''}, {"&lt;", '<'},  {"&gt;", '>'},   {"&amp;", '&'}};

std::string unescaped(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size();) {
    const auto entity = std::find_if(std::begin(kEntities), std::end(kEntities),
                                     [&](const Entity& e) { return s.substr(i).starts_with(e.name); });
    const bool found = entity != std::end(kEntities);
    out += found ? entity->character : s[i];
    i += found ? entity->name.size() : 1;
  }
  return out;
}

// The value of an attribute of a tag, the first of its name.
std::optional<std::string> attribute(std::string_view tag, std::string_view name) {
  const auto skip = [&](std::size_t at, bool blanks) {
    while (at < tag.size() && (is_blank(tag[at]) || tag[at] == '/') == blanks) ++at;
    return at;
  };
  for (std::size_t at = skip(skip(1, false), true); at < tag.size() && tag[at] != '>'; at = skip(at, true)) {
    const std::size_t begin = at;
    at = std::min(tag.find_first_of("= \t\r\n\f/>", begin), tag.size());
    const std::string_view key = tag.substr(begin, at - begin);
    std::size_t next = at;
    while (next < tag.size() && is_blank(tag[next])) ++next;
    std::string_view value;
    if (next < tag.size() && tag[next] == '=') {
      for (++next; next < tag.size() && is_blank(tag[next]);) ++next;
      const bool quoted = next < tag.size() && (tag[next] == '"' || tag[next] == '\'');
      const std::size_t from = quoted ? next + 1 : next;
      at = std::min(quoted ? tag.find(tag[next], from) : tag.find_first_of(" \t\r\n\f>", from), tag.size());
      value = tag.substr(from, at - from);
      if (quoted && at < tag.size()) ++at;
    }
    if (key.size() == name.size() && stands_at(key, 0, name)) return unescaped(value);
    if (at == begin) ++at;
  }
  return std::nullopt;
}

struct Place {
  std::size_t begin = 0, end = 0;
  Carrier carrier;
};
struct Document {
  std::size_t body = 0;       // where <body> begins, or insert_at
  std::size_t insert_at = 0;  // where a first label goes: as far inside <head> as there is one
  std::vector<Place> labels;
};

// Where a comment or the text of an element that holds no tags ends, from its '<'; 0: it is neither.
std::size_t behind_raw(std::string_view text, std::size_t at) {
  if (text.substr(at).starts_with("<!--")) {
    const std::size_t end = text.find("-->", at + 4);
    return end == kNone ? kNone : end + 3;
  }
  for (const std::string_view name : {"script", "style", "textarea", "title"}) {
    if (!is_tag(text, at + 1, name)) continue;
    for (std::size_t close = text.find("</", at); close != kNone; close = text.find("</", close + 2))
      if (is_tag(text, close + 2, name)) return close + 2;
    return kNone;
  }
  return 0;
}

Result<Document> look(std::string_view text) {
  Document out;
  int opened = 0;
  for (std::size_t at = text.find('<'); at != kNone; at = text.find('<', at)) {
    if (const std::size_t behind = behind_raw(text, at); behind != 0) {
      if (behind == kNone) return fail(ErrorKind::kBadInput, "a comment, script, style or title has no end");
      at = behind;
      continue;
    }
    int depth = 0;  // of what opens here; what comes again, or in another order, opens nothing
    if (is_tag(text, at, "<!doctype")) depth = 1;
    if (is_tag(text, at, "<html")) depth = 2;
    if (is_tag(text, at, "<head")) depth = 3;
    if (is_tag(text, at, "<body")) depth = 4;
    const bool opens = depth > opened;
    const bool meta = is_tag(text, at, "<meta");
    if (!opens && !meta) {
      ++at;
      continue;
    }
    const std::size_t end = behind_tag(text, at);
    if (end == kNone) return fail(ErrorKind::kBadInput, "a tag has no end");
    const std::string_view tag = text.substr(at, end - at);
    if (opens) {
      if (depth < 4) out.insert_at = end;
      out.body = end;
      opened = depth;
    }
    if (meta && attribute(tag, "name") == "AIGC")
      out.labels.push_back({at, end, carrier_of_text(attribute(tag, "content").value_or(""))});
    at = end;
  }
  return out;
}

}  // namespace

std::string html_text(std::string_view html) {
  std::string out;
  for (std::size_t at = 0; at < html.size();) {
    if (html[at] != '<') {
      const std::size_t next = std::min(html.find('<', at), html.size());
      out += unescaped(html.substr(at, next - at));
      at = next;
      continue;
    }
    const std::size_t raw = behind_raw(html, at);
    at = std::min(raw != 0 ? raw : behind_tag(html, at), html.size());
  }
  return out;
}

Result<std::size_t> html_body(std::string_view file) {
  QW_ASSIGN(const Document document, look(file));
  return document.body;
}

Result<Carriers> read_html(std::string_view file) {
  QW_ASSIGN(Document document, look(file));
  Carriers out;
  for (Place& place : document.labels) out.push_back(std::move(place.carrier));
  return out;
}

Result<std::string> write_html(std::string_view file, const AigcLabel& label) {
  QW_ASSIGN(const Document document, look(file));
  const std::size_t begin = document.labels.empty() ? document.insert_at : document.labels[0].begin;
  const std::size_t end = document.labels.empty() ? document.insert_at : document.labels[0].end;
  return std::string(file.substr(0, begin)) + "<meta name=\"AIGC\" content=\"" + base::html_escaped(compact_json(label)) +
         "\">" + std::string(file.substr(end));
}

}  // namespace qw::governance::internal
