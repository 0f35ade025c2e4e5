#include "sampling/grammar/source.h"

#include <algorithm>

#include "base/result.h"

namespace qw::sampling::grammar {

CodePoints::CodePoints(std::initializer_list<std::pair<char32_t, char32_t>> ranges) {
  for (const auto& [first, last] : ranges) add(first, last);
}

void CodePoints::add(char32_t first, char32_t last) {
  if (first > last) return;
  std::vector<std::pair<char32_t, char32_t>> merged;
  merged.reserve(ranges_.size() + 1);
  for (const auto& range : ranges_) {
    if (range.second + 1 < first || (last < kLast && range.first > last + 1)) {
      merged.push_back(range);
    } else {
      first = std::min(first, range.first);
      last = std::max(last, range.second);
    }
  }
  merged.insert(std::upper_bound(merged.begin(), merged.end(), std::pair(first, last)), {first, last});
  ranges_ = std::move(merged);
}

CodePoints CodePoints::of(std::vector<std::pair<char32_t, char32_t>> ranges) {
  std::sort(ranges.begin(), ranges.end());
  CodePoints out;
  for (const auto& [first, last] : ranges) {
    if (!out.ranges_.empty() && first <= out.ranges_.back().second + 1)
      out.ranges_.back().second = std::max(out.ranges_.back().second, last);
    else
      out.ranges_.emplace_back(first, last);
  }
  return out;
}

void CodePoints::add(const CodePoints& other) {
  for (const auto& [first, last] : other.ranges_) add(first, last);
}

void CodePoints::remove(char32_t first, char32_t last) {
  std::vector<std::pair<char32_t, char32_t>> kept;
  for (const auto& range : ranges_) {
    if (range.second < first || range.first > last) {
      kept.push_back(range);
      continue;
    }
    if (range.first < first) kept.emplace_back(range.first, first - 1);
    if (range.second > last) kept.emplace_back(last + 1, range.second);
  }
  ranges_ = std::move(kept);
}

CodePoints CodePoints::complement() const {
  CodePoints out;
  char32_t next = 0;
  for (const auto& [first, last] : ranges_) {
    if (first > kLast) break;  // no code point
    if (first > next) out.ranges_.emplace_back(next, first - 1);
    next = last + 1;
  }
  if (next <= kLast) out.ranges_.emplace_back(next, kLast);
  return out;
}

bool CodePoints::contains(char32_t c) const {
  return std::any_of(ranges_.begin(), ranges_.end(), [c](const auto& r) { return r.first <= c && c <= r.second; });
}

Node Source::add(Expression expression) {
  // An expression takes some 200 bytes, and half a microsecond to make, to read and to let go.
  spend(1024 + expression.bytes.size() + 8 * expression.children.size() + 16 * expression.set.ranges().size());
  nodes_.push_back(std::move(expression));
  return static_cast<Node>(nodes_.size() - 1);
}

Node Source::add(Kind kind, std::string_view bytes) {
  Expression e;
  e.kind = kind;
  e.bytes = bytes;
  return add(std::move(e));
}

Node Source::bytes(std::string_view text) { return add(Kind::kBytes, text); }

Node Source::set(CodePoints points) {
  Expression e;
  e.kind = Kind::kSet;
  e.set = std::move(points);
  return add(std::move(e));
}

Node Source::sequence(std::vector<Node> children) {
  if (children.size() == 1) return children.front();
  Expression e;
  e.kind = Kind::kSequence;
  e.children = std::move(children);
  return add(std::move(e));
}

Node Source::choice(std::vector<Node> children) {
  QW_CHECK(!children.empty());
  if (children.size() == 1) return children.front();
  Expression e;
  e.kind = Kind::kChoice;
  e.children = std::move(children);
  return add(std::move(e));
}

Node Source::repeat(Node child, std::int32_t min, std::int32_t max) {
  QW_CHECK(min >= 0 && (max == kNoLimit || max >= min));
  Expression e;
  e.kind = Kind::kRepeat;
  e.children = {child};
  e.min = min;
  e.max = max;
  return add(std::move(e));
}

Node Source::rule(Rule rule) {
  Expression e;
  e.kind = Kind::kRule;
  e.rule = rule;
  return add(std::move(e));
}

Node Source::until(std::string_view bytes) {
  QW_CHECK(!bytes.empty());
  return add(Kind::kUntil, bytes);
}

Node Source::without(std::string_view bytes) {
  QW_CHECK(!bytes.empty());
  return add(Kind::kWithout, bytes);
}

// Names are for errors. They are made of what schemas call their parts, which may be long, one within the other.
constexpr std::size_t kMostOfName = 256;

Rule Source::declare(std::string name) {
  spend(name.size());
  if (name.size() > kMostOfName) {
    std::size_t end = kMostOfName;
    while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80) --end;
    name = name.substr(0, end) + "...";
  }
  rules_.push_back({std::move(name), -1});
  return static_cast<Rule>(rules_.size() - 1);
}

void Source::define(Rule rule, Node body) {
  QW_CHECK(!defined(rule));
  rules_[static_cast<std::size_t>(rule)].body = body;
}

Rule Source::add_rule(std::string name, Node body) {
  const Rule rule = declare(std::move(name));
  define(rule, body);
  return rule;
}

}  // namespace qw::sampling::grammar
