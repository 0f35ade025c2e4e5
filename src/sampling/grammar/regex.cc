#include "sampling/grammar/regex.h"

#include <optional>
#include <string>

#include "base/utf8.h"
#include "sampling/grammar/scanner.h"

namespace qw::sampling::grammar {
namespace {

constexpr std::size_t kMaxPattern = 64 * 1024;
constexpr int kMaxDepth = 100;               // of groups; each is a call of the parser
constexpr std::int32_t kMaxRepeat = 100000;  // as a number in braces; the states it makes are bounded elsewhere

CodePoints digits() { return {{'0', '9'}}; }
CodePoints words() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }
CodePoints spaces() { return {{'\t', '\r'}, {' ', ' '}}; }

class Parser : Scanner {
 public:
  Parser(std::string_view pattern, Source& source, const WriteSet& write)
      : Scanner(pattern), source_(source), write_(write) {}

  Result<Node> parse(Anchoring anchoring) {
    const bool from_begin = take('^');
    QW_ASSIGN(const Node body, choice(0));
    if (at_ < text_.size() && !ends_with_anchor()) return bad("unmatched ')'");
    // An anchor belongs to one alternative only; where there are several, it would have to stand in a group.
    if ((from_begin || to_end_) && top_choices_ > 1) return bad("^ or $ beside | needs a group");
    if (anchoring == Anchoring::kWhole) return body;
    std::vector<Node> parts;
    if (!from_begin) parts.push_back(any_text());
    parts.push_back(body);
    if (!to_end_) parts.push_back(any_text());
    return source_.sequence(std::move(parts));
  }

 private:
  tl::unexpected<Error> bad(const std::string& what) const {
    return fail(ErrorKind::kBadInput, "regular expression, byte " + std::to_string(at_) + ": " + what);
  }
  Node write(CodePoints set) { return write_ ? write_(source_, std::move(set)) : source_.set(std::move(set)); }
  Node any_text() { return source_.repeat(write(CodePoints::all()), 0, kNoLimit); }

  bool ends_with_anchor() {
    if (at_ + 1 != text_.size() || peek() != '$') return false;
    ++at_;
    return to_end_ = true;
  }

  Result<Node> choice(int depth) {
    if (depth > kMaxDepth) return bad("groups are nested too deep");
    std::vector<Node> branches;
    do {
      std::vector<Node> parts;
      while (more() && peek() != '|' && peek() != ')') {
        if (depth == 0 && ends_with_anchor()) break;
        QW_ASSIGN(const Node atom_node, atom(depth));
        QW_ASSIGN(const Node part, repeated(atom_node));
        parts.push_back(part);
      }
      branches.push_back(source_.sequence(std::move(parts)));
    } while (take('|'));
    if (depth == 0) top_choices_ = branches.size();
    return source_.choice(std::move(branches));
  }

  Result<Node> atom(int depth) {
    const char c = peek();
    switch (c) {
      case '(':
        return group(depth);
      case '[': {
        ++at_;
        QW_ASSIGN(CodePoints set, char_class());
        return write(std::move(set));
      }
      case '.': {
        ++at_;
        CodePoints set = CodePoints::all();
        set.remove('\n', '\n');
        return write(std::move(set));
      }
      case '\\': {
        ++at_;
        QW_ASSIGN(CodePoints set, escape(false));
        return write(std::move(set));
      }
      case '^':
      case '$':
        return bad(std::string(1, c) + " is supported at the begin and the end of the expression only");
      case '*':
      case '+':
      case '?':
        return bad("nothing to repeat");
      default: {
        QW_ASSIGN(const char32_t point, code_point());
        return write({{point, point}});
      }
    }
  }

  Result<Node> group(int depth) {
    ++at_;
    if (take('?')) {
      if (take('<') || (take('P') && take('<'))) {  // a name, or looking behind
        if (more() && (peek() == '=' || peek() == '!')) return bad("look-around is not supported");
        while (more() && peek() != '>') ++at_;
        if (!take('>')) return bad("a group's name does not end");
      } else if (!take(':')) {
        return bad("look-around and flags are not supported");
      }
    }
    QW_ASSIGN(const Node inner, choice(depth + 1));
    if (!take(')')) return bad("a group does not end");
    return inner;
  }

  Result<Node> repeated(Node node) {
    if (!more()) return node;
    std::int32_t min = 0, max = kNoLimit;
    if (take('*')) {
    } else if (take('+')) {
      min = 1;
    } else if (take('?')) {
      max = 1;
    } else if (peek() == '{' && braces(min, max)) {
      if (min > kMaxRepeat || max > kMaxRepeat) return bad("more than 100000 repetitions");
      if (max != kNoLimit && max < min) return bad("the numbers in braces are out of order");
    } else {
      return node;
    }
    take('?');  // lazy: the same texts
    if (more() && (peek() == '*' || peek() == '+' || peek() == '?')) return bad("nothing to repeat");
    return source_.repeat(node, min, max);
  }

  // {m}, {m,} or {m,n}; anything else in braces is text, as ECMA 262's annex B has it.
  bool braces(std::int32_t& min, std::int32_t& max) {
    std::size_t at = at_ + 1;
    const auto number = [&]() -> std::optional<std::int32_t> {
      std::optional<std::int32_t> n;
      for (; at < text_.size() && text_[at] >= '0' && text_[at] <= '9'; ++at)
        n = std::min(n.value_or(0) * 10 + (text_[at] - '0'), kMaxRepeat + 1);
      return n;
    };
    const auto first = number();
    if (!first) return false;
    min = max = *first;
    if (at < text_.size() && text_[at] == ',') {
      ++at;
      max = number().value_or(kNoLimit);
    }
    if (at >= text_.size() || text_[at] != '}') return false;
    at_ = at + 1;
    return true;
  }

  Result<CodePoints> char_class() {
    const bool negated = take('^');
    std::vector<std::pair<char32_t, char32_t>> ranges;
    for (bool first = true; first || !more() || peek() != ']'; first = false) {
      if (!more()) return bad("a class does not end");
      if (first && peek() == ']') {  // ECMA: [] is nothing, [^] everything
        break;
      }
      bool single = true;
      QW_ASSIGN(CodePoints low, class_item(single));
      if (!single || at_ + 1 >= text_.size() || peek() != '-' || text_[at_ + 1] == ']') {
        ranges.insert(ranges.end(), low.ranges().begin(), low.ranges().end());
        continue;
      }
      ++at_;
      bool end_single = true;
      QW_ASSIGN(CodePoints high, class_item(end_single));
      if (!end_single) return bad("a range ends in a class");
      const char32_t a = low.ranges().front().first, b = high.ranges().front().first;
      if (b < a) return bad("a range is out of order");
      ranges.emplace_back(a, b);
    }
    ++at_;  // ]
    CodePoints set = CodePoints::of(std::move(ranges));
    return negated ? set.complement() : set;
  }

  Result<CodePoints> class_item(bool& single) {
    if (!more()) return bad("a class does not end");
    if (take('\\')) {
      QW_ASSIGN(CodePoints set, escape(true));
      single = set.ranges().size() == 1 && set.ranges().front().first == set.ranges().front().second;
      return set;
    }
    QW_ASSIGN(const char32_t point, code_point());
    return CodePoints{{point, point}};
  }

  Result<char32_t> code_point() {
    const base::Utf8Char c = base::utf8_at(text_, at_);
    if (c.code == base::kInvalidCode) return bad("invalid UTF-8");
    at_ += c.size;
    return static_cast<char32_t>(c.code);
  }

  Result<CodePoints> escape(bool in_class) {
    if (!more()) return bad("a backslash at the end");
    const char c = text_[at_++];
    const auto one = [](char32_t p) { return CodePoints{{p, p}}; };
    switch (c) {
      case 'd':
        return digits();
      case 'D':
        return digits().complement();
      case 'w':
        return words();
      case 'W':
        return words().complement();
      case 's':
        return spaces();
      case 'S':
        return spaces().complement();
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case 'a':
        return one('\a');
      case '0':
        return one(0);
      case 'x':
        return hex(2);
      case 'u':
        return unicode();
      case 'c': {
        if (!more() || !((peek() >= 'a' && peek() <= 'z') || (peek() >= 'A' && peek() <= 'Z')))
          return bad("\\c wants a letter");
        return one(static_cast<char32_t>(text_[at_++] & 31));
      }
      case 'b':
        if (in_class) return one('\b');
        [[fallthrough]];
      default:
        break;
    }
    if ((c >= '1' && c <= '9') || c == 'k') return bad("back-references are not supported");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return bad(std::string("\\") + c + " is not supported");
    --at_;
    QW_ASSIGN(const char32_t point, code_point());
    return one(point);
  }

  Result<CodePoints> hex(int count) {
    char32_t value = 0;
    for (int i = 0; i < count; ++i) {
      const int digit = hex_digit();
      if (digit < 0) return bad("a hexadecimal digit is missing");
      value = value * 16 + static_cast<char32_t>(digit);
      ++at_;
    }
    return CodePoints{{value, value}};
  }

  Result<CodePoints> unicode() {
    if (!take('{')) {
      QW_ASSIGN(CodePoints first, hex(4));
      const char32_t high = first.ranges().front().first;
      if (high < 0xD800 || high > 0xDBFF || text_.substr(at_, 2) != "\\u") return first;
      at_ += 2;
      QW_ASSIGN(CodePoints second, hex(4));
      const char32_t low = second.ranges().front().first;
      if (low < 0xDC00 || low > 0xDFFF) return bad("half a surrogate pair");
      const char32_t point = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
      return CodePoints{{point, point}};
    }
    char32_t value = 0;
    bool any = false;
    for (; hex_digit() >= 0; ++at_, any = true) {
      value = value * 16 + static_cast<char32_t>(hex_digit());
      if (value > CodePoints::kLast) return bad("beyond the last code point");
    }
    if (!any || !take('}')) return bad("\\u{ wants hexadecimal digits and }");
    return CodePoints{{value, value}};
  }

  Source& source_;
  const WriteSet& write_;
  std::size_t top_choices_ = 0;
  bool to_end_ = false;
};

}  // namespace

Result<Node> parse_regex(std::string_view pattern, Source& source, Anchoring anchoring, const WriteSet& write) {
  if (pattern.size() > kMaxPattern) return fail(ErrorKind::kBadInput, "regular expression: longer than 64 KiB");
  return Parser(pattern, source, write).parse(anchoring);
}

}  // namespace qw::sampling::grammar
