#include <algorithm>
#include <optional>

#include "base/trim.h"
#include "governance/label/internal/carrier.h"

namespace qw::governance::internal {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// The next line from `at`, its end left out; `at` moves behind it.
std::string_view next_line(std::string_view text, std::size_t& at) {
  const std::size_t end = std::min(text.find('\n', at), text.size());
  std::string_view line = text.substr(at, end - at);
  at = std::min(end + 1, text.size());
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

// A text of front matter in one of YAML's quotes, or without where nothing in it could mean something else.
std::optional<std::string> scalar(std::string_view s) {
  s = base::trimmed(s);
  if (s.starts_with('"')) {
    const auto value = json::parse(s);  // YAML's double quotes hold more than JSON's: the rest is not guessed at
    return value && value->is_string() ? std::optional(value->as_string()) : std::nullopt;
  }
  if (s.size() >= 2 && s.front() == '\'' && s.back() == '\'') {
    std::string out;
    for (std::size_t i = 1; i + 1 < s.size(); ++i) {
      if (s[i] == '\'' && (++i + 1 >= s.size() || s[i] != '\'')) return std::nullopt;
      out += s[i];
    }
    return out;
  }
  if (s.empty() || s.find_first_of("\"'{}[]#&*!|>%@`,:") != std::string_view::npos) return std::nullopt;
  return std::string(s);
}

// The key of "key: value", and the value; nullopt: the line is something else.
struct Line {
  std::string key;
  std::string_view value;
};
std::optional<Line> key_and_value(std::string_view line) {
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  auto key = scalar(line.substr(0, colon));
  if (!key) return std::nullopt;
  return Line{std::move(*key), base::trimmed(line.substr(colon + 1))};
}

struct Place {
  std::size_t begin = 0, end = 0;  // lines of the label
  Carrier carrier;
};

struct FrontMatter {
  bool there = false;
  std::size_t insert_at = 0;  // where a first label goes
  std::size_t body = 0;       // where the text begins
  std::vector<Place> labels;
};

// The lines below "AIGC:" that belong to it; `at` moves behind them.
Carrier read_mapping(std::string_view text, std::size_t& at, std::size_t end) {
  json::Object members;
  std::string fault;
  while (at < end) {
    std::size_t next = at;
    const std::string_view line = next_line(text, next);
    if (base::trimmed(line).empty() || !is_blank(line.front())) break;
    at = next;
    const auto member = key_and_value(line);
    const auto value = member ? scalar(member->value) : std::nullopt;
    if (!value || members.find(member->key) != nullptr)
      fault = "a line of AIGC cannot be read: " + std::string(base::trimmed(line).substr(0, 40));
    else
      members.set(member->key, *value);
  }
  return fault.empty() ? carrier_of(json::Value(std::move(members))) : Carrier{{}, fault};
}

FrontMatter look(std::string_view text) {
  FrontMatter out;
  std::size_t at = text.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  out.insert_at = out.body = at;
  if (next_line(text, at) != "---") return out;
  std::size_t end = std::string_view::npos;
  for (std::size_t next = at; end == std::string_view::npos && next < text.size();) {
    const std::size_t begin = next;
    const std::string_view line = next_line(text, next);
    if (line == "---" || line == "...") {
      end = begin;
      out.body = next;
    }
  }
  if (end == std::string_view::npos) return out;  // a rule, no front matter
  out.there = true;
  out.insert_at = at;
  while (at < end) {
    Place place;
    place.begin = at;
    const auto line = key_and_value(next_line(text, at));
    if (!line || line->key != "AIGC" || is_blank(text[place.begin])) continue;
    place.carrier =
        line->value.empty() ? read_mapping(text, at, end) : carrier_of_text(line->value);  // YAML's flow form
    place.end = at;
    out.labels.push_back(std::move(place));
  }
  return out;
}

}  // namespace

std::size_t markdown_body(std::string_view file) { return look(file).body; }

Result<Carriers> read_markdown(std::string_view file) {
  Carriers out;
  for (Place& place : look(file).labels) out.push_back(std::move(place.carrier));
  return out;
}

Result<std::string> write_markdown(std::string_view file, const AigcLabel& label) {
  const FrontMatter front = look(file);
  std::string mapping = "AIGC:\n";
  for (const auto& [name, value] : to_json(label)) mapping += "  " + name + ": " + json::dump(value) + "\n";
  if (!front.there) mapping = "---\n" + mapping + "---\n";
  const std::size_t begin = front.labels.empty() ? front.insert_at : front.labels[0].begin;
  const std::size_t end = front.labels.empty() ? front.insert_at : front.labels[0].end;
  return std::string(file.substr(0, begin)) + mapping + std::string(file.substr(end));
}

}  // namespace qw::governance::internal
