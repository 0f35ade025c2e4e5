#include "sampling/grammar/json_text.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "base/utf8.h"

namespace qw::sampling::grammar {
namespace {

struct Escape {
  char32_t point;
  const char* text;
};
constexpr std::array<Escape, 7> kEscapes = {
    {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"}, {'\f', "\\f"}, {'\n', "\\n"}, {'\r', "\\r"}, {'\t', "\\t"}}};

Node digit(Source& s, char first, char last) {
  return s.set({{static_cast<char32_t>(first), static_cast<char32_t>(last)}});
}

Node digits(Source& s, std::int32_t min, std::int32_t max) { return s.repeat(digit(s, '0', '9'), min, max); }

// Strings of digits of one length from `low` to `high`.
Node same_length(Source& s, std::string_view low, std::string_view high) {
  if (low.empty()) return s.empty();
  const auto n = static_cast<std::int32_t>(low.size());
  if (low.front() == high.front())
    return s.sequence({s.bytes(low.substr(0, 1)), same_length(s, low.substr(1), high.substr(1))});
  const std::string nines(low.size() - 1, '9'), zeros(low.size() - 1, '0');
  std::vector<Node> choices{s.sequence({s.bytes(low.substr(0, 1)), same_length(s, low.substr(1), nines)}),
                            s.sequence({s.bytes(high.substr(0, 1)), same_length(s, zeros, high.substr(1))})};
  if (high.front() - low.front() > 1)
    choices.push_back(s.sequence(
        {digit(s, static_cast<char>(low.front() + 1), static_cast<char>(high.front() - 1)), digits(s, n - 1, n - 1)}));
  return s.choice(std::move(choices));
}

// 0 <= low; decimal without leading zeros. No `high`: no end.
Node natural(Source& s, std::uint64_t low, std::optional<std::uint64_t> high) {
  std::vector<Node> choices;
  const std::size_t first = std::to_string(low).size();
  const std::size_t last = high ? std::to_string(*high).size() : first;
  for (std::size_t length = first; length <= last; ++length) {
    const std::string from = length == first ? std::to_string(low) : "1" + std::string(length - 1, '0');
    const std::string to = high && length == last ? std::to_string(*high) : std::string(length, '9');
    choices.push_back(same_length(s, from, to));
  }
  if (!high) choices.push_back(s.sequence({digit(s, '1', '9'), digits(s, static_cast<std::int32_t>(first), kNoLimit)}));
  return s.choice(std::move(choices));
}

std::uint64_t magnitude(std::int64_t v) {
  return v < 0 ? ~static_cast<std::uint64_t>(v) + 1 : static_cast<std::uint64_t>(v);
}

Node fraction(Source& s) { return s.sequence({s.bytes("."), digits(s, 1, kNoLimit)}); }

// .0 or more zeros; or a fraction with another digit.
Node zero_fraction(Source& s) { return s.sequence({s.bytes("."), s.repeat(s.bytes("0"), 1, kNoLimit)}); }
Node positive_fraction(Source& s) {
  return s.sequence({s.bytes("."), s.repeat(s.bytes("0"), 0, kNoLimit), digit(s, '1', '9'), digits(s, 0, kNoLimit)});
}

// Numbers x >= 0 with low <= x <= high (or <), written without exponent.
std::optional<Node> positive_number(Source& s, NumberBound low, std::optional<NumberBound> high) {
  if (high && (high->value < low.value || (high->value == low.value && (low.exclusive || high->exclusive)))) return {};
  std::vector<Node> choices;
  const auto whole = [&](std::int64_t n) { return s.bytes(std::to_string(n)); };
  if (high && high->value == low.value) return s.sequence({whole(low.value), s.optional(zero_fraction(s))});
  // At the lower bound, between the bounds, at the upper bound.
  choices.push_back(low.exclusive ? s.sequence({whole(low.value), positive_fraction(s)})
                                  : s.sequence({whole(low.value), s.optional(fraction(s))}));
  if (!high || high->value - 1 > low.value)
    choices.push_back(
        s.sequence({natural(s, static_cast<std::uint64_t>(low.value) + 1,
                            high ? std::optional(static_cast<std::uint64_t>(high->value) - 1) : std::nullopt),
                    s.optional(fraction(s))}));
  if (high && !high->exclusive) choices.push_back(s.sequence({whole(high->value), s.optional(zero_fraction(s))}));
  return s.choice(std::move(choices));
}

}  // namespace

Node json_characters(Source& source, CodePoints set) {
  std::vector<Node> choices;
  for (const Escape& e : kEscapes)
    if (set.contains(e.point)) choices.push_back(source.bytes(e.text));
  for (char32_t c = 0; c < 0x20; ++c) {
    const bool named = std::any_of(kEscapes.begin(), kEscapes.end(), [c](const Escape& e) { return e.point == c; });
    if (named || !set.contains(c)) continue;
    constexpr std::string_view kHex = "0123456789abcdef";
    choices.push_back(source.bytes(std::string("\\u00") + kHex[c >> 4] + kHex[c & 15]));
  }
  set.remove(0, 0x1F);
  set.remove('"', '"');
  set.remove('\\', '\\');
  if (!set.empty() || choices.empty()) choices.push_back(source.set(std::move(set)));
  return source.choice(std::move(choices));
}

Node any_json_character(Source& source) {
  CodePoints plain = CodePoints::all();
  plain.remove(0, 0x1F);
  plain.remove('"', '"');
  plain.remove('\\', '\\');
  CodePoints short_escapes;
  for (const char c : std::string_view("\"\\/bfnrt"))
    short_escapes.add(static_cast<char32_t>(c), static_cast<char32_t>(c));
  const CodePoints hex{{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
  CodePoints not_d = hex;
  not_d.remove('D', 'D');
  not_d.remove('d', 'd');
  const Node unit = source.sequence(
      {source.bytes("u"),
       source.choice({source.sequence({source.set(not_d), source.set(hex)}),
                      source.sequence({source.set({{'D', 'D'}, {'d', 'd'}}), source.set({{'0', '7'}})})}),
       source.set(hex), source.set(hex)});
  return source.choice(
      {source.set(std::move(plain)),
       source.sequence({source.bytes("\\"), source.choice({source.set(std::move(short_escapes)), unit})})});
}

Node json_string_except(Source& source, std::span<const std::string> names) {
  struct Branch {
    std::map<char32_t, std::size_t> next;  // places in `branches`
    bool name = false;
  };
  std::vector<Branch> branches(1);
  for (const std::string& name : names) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < name.size() && source.spend(256);) {
      const base::Utf8Char c = base::utf8_at(name, i);
      const auto [it, fresh] = branches[at].next.try_emplace(static_cast<char32_t>(c.code), branches.size());
      at = it->second;
      if (fresh) branches.emplace_back();
      i += c.size;
    }
    branches[at].name = true;
  }
  const Node any = source.repeat(json_characters(source, CodePoints::all()), 0, kNoLimit);
  // One rule a branch, so that long names make no deep expression.
  struct Frame {
    std::size_t branch;
    Rule rule;
  };
  const Rule first = source.declare("other key");
  std::vector<Frame> open{{0, first}};
  while (!open.empty() && !source.spent()) {
    const Frame frame = open.back();
    open.pop_back();
    std::vector<Node> choices;
    std::vector<std::pair<char32_t, char32_t>> read_on;
    for (const auto& [point, branch] : branches[frame.branch].next) {
      const Rule rule = source.declare("other key");
      read_on.emplace_back(point, point);
      choices.push_back(source.sequence({json_characters(source, {{point, point}}), source.rule(rule)}));
      open.push_back({branch, rule});
    }
    choices.push_back(source.sequence({json_characters(source, CodePoints::of(std::move(read_on)).complement()), any}));
    if (!branches[frame.branch].name) choices.push_back(source.empty());
    source.define(frame.rule, source.choice(std::move(choices)));
  }
  return source.sequence({source.bytes("\""), source.rule(first), source.bytes("\"")});
}

Node json_integer(Source& s, std::optional<std::int64_t> min, std::optional<std::int64_t> max) {
  std::vector<Node> choices;
  if (!max || *max >= 0)
    choices.push_back(natural(s, min && *min > 0 ? static_cast<std::uint64_t>(*min) : 0,
                              max ? std::optional(static_cast<std::uint64_t>(*max)) : std::nullopt));
  if (!min || *min < 0)
    choices.push_back(s.sequence({s.bytes("-"), natural(s, max && *max < 0 ? magnitude(*max) : 1,
                                                        min ? std::optional(magnitude(*min)) : std::nullopt)}));
  return s.choice(std::move(choices));
}

std::optional<Node> json_number(Source& s, std::optional<NumberBound> min, std::optional<NumberBound> max) {
  if (!min && !max) {
    const Node exponent = s.sequence(
        {s.set({{'E', 'E'}, {'e', 'e'}}), s.optional(s.set({{'+', '+'}, {'-', '-'}})), digits(s, 1, kNoLimit)});
    return s.sequence({s.optional(s.bytes("-")), natural(s, 0, {}), s.optional(fraction(s)), s.optional(exponent)});
  }
  std::vector<Node> choices;
  const auto mirrored = [](NumberBound b) { return NumberBound{-b.value, b.exclusive}; };
  if (!max || max->value >= 0)
    if (const auto node = positive_number(s, min && min->value >= 0 ? *min : NumberBound{0, false}, max))
      choices.push_back(*node);
  if (!min || min->value < 0) {
    const NumberBound low = max && max->value <= 0 ? mirrored(*max) : NumberBound{0, false};
    const auto node = positive_number(s, low, min ? std::optional(mirrored(*min)) : std::nullopt);
    if (node) choices.push_back(s.sequence({s.bytes("-"), *node}));
  }
  if (choices.empty()) return {};
  return s.choice(std::move(choices));
}

}  // namespace qw::sampling::grammar
