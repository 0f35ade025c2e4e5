#include "sampling/grammar/ebnf.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "base/utf8.h"
#include "sampling/grammar/scanner.h"

namespace qw::sampling::grammar {
namespace {

constexpr std::size_t kMaxText = std::size_t{1} << 20;
constexpr int kMaxDepth = 100;  // of groups; each is a call of the parser
constexpr std::int32_t kMaxRepeat = 100000;

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

class Parser : Scanner {
 public:
  Parser(std::string_view text, Effort* effort) : Scanner(text), source_(effort) {}

  Result<Source> parse() {
    skip();
    while (more()) QW_TRY(definition());
    const auto root = rules_.find("root");
    if (root == rules_.end() || !source_.defined(root->second)) return bad("there is no rule 'root'");
    for (const auto& [name, rule] : rules_)
      if (!source_.defined(rule))
        return fail(ErrorKind::kBadInput, "grammar: rule '" + name + "' is used but not defined");
    source_.set_root(root->second);
    return std::move(source_);
  }

 private:
  tl::unexpected<Error> bad(const std::string& what) const {
    const std::string_view before = text_.substr(0, at_);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const std::size_t begin = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
    return fail(ErrorKind::kBadInput,
                "grammar, line " + std::to_string(line) + ", column " + std::to_string(at_ - begin + 1) + ": " + what);
  }
  void skip() {
    for (; more(); ++at_) {
      if (peek() == '#')
        while (more() && peek() != '\n') ++at_;
      if (!more() || (peek() != ' ' && peek() != '\t' && peek() != '\r' && peek() != '\n')) return;
    }
  }
  std::string_view name_at() const {
    std::size_t end = at_;
    while (end < text_.size() && is_name(text_[end])) ++end;
    return text_.substr(at_, end - at_);
  }
  // Whether a definition begins here, so that the rule before it has ended.
  bool at_definition() {
    const std::size_t here = at_;
    at_ += name_at().size();
    skip();
    const bool yes = at_ > here && text_.substr(at_, 3) == "::=";
    at_ = here;
    return yes;
  }
  Rule rule_named(std::string_view name) {
    const auto [it, fresh] = rules_.try_emplace(std::string(name), Rule{-1});
    if (fresh) it->second = source_.declare(std::string(name));
    return it->second;
  }

  Status definition() {
    const std::string_view name = name_at();
    if (name.empty()) return bad("a rule's name is expected");
    const Rule rule = rule_named(name);
    if (source_.defined(rule)) return bad("rule '" + std::string(name) + "' is defined twice");
    at_ += name.size();
    skip();
    if (text_.substr(at_, 3) != "::=") return bad("'::=' is expected");
    at_ += 3;
    QW_ASSIGN(const Node body, choice(0));
    source_.define(rule, body);
    if (take(';')) skip();
    if (more() && name_at().empty()) return bad(std::string("unexpected '") + peek() + "'");
    return {};
  }

  Result<Node> choice(int depth) {
    if (depth > kMaxDepth) return bad("groups are nested too deep");
    std::vector<Node> branches;
    do {
      skip();
      std::vector<Node> parts;
      while (more() && peek() != '|' && peek() != ')' && peek() != ';' && !at_definition()) {
        QW_ASSIGN(const Node one, atom(depth));
        QW_ASSIGN(const Node part, repeated(one));
        parts.push_back(part);
        skip();
      }
      branches.push_back(source_.sequence(std::move(parts)));
    } while (take('|'));
    return source_.choice(std::move(branches));
  }

  Result<Node> atom(int depth) {
    const char c = peek();
    if (c == '"' || c == '\'') return quoted(c);
    if (c == '[') return char_class();
    if (c == '.') {
      ++at_;
      return source_.set(CodePoints::all());
    }
    if (c == '(') {
      ++at_;
      QW_ASSIGN(const Node inner, choice(depth + 1));
      if (!take(')')) return bad("a group does not end");
      return inner;
    }
    const std::string_view name = name_at();
    if (name.empty()) return bad(std::string("unexpected '") + c + "'");
    at_ += name.size();
    return source_.rule(rule_named(name));
  }

  Result<Node> repeated(Node node) {
    if (take('*')) return source_.repeat(node, 0, kNoLimit);
    if (take('+')) return source_.repeat(node, 1, kNoLimit);
    if (take('?')) return source_.optional(node);
    if (!take('{')) return node;
    const auto number = [&]() -> std::optional<std::int32_t> {
      skip();
      std::optional<std::int32_t> n;
      for (; more() && peek() >= '0' && peek() <= '9'; ++at_)
        n = std::min(n.value_or(0) * 10 + (peek() - '0'), kMaxRepeat + 1);
      skip();
      return n;
    };
    const auto min = number();
    if (!min && !(more() && peek() == ',')) return bad("a number is expected in braces");
    std::optional<std::int32_t> max = min;
    if (take(','))
      max = number();
    else if (!min)
      return bad("a number is expected in braces");
    if (!take('}')) return bad("'}' is expected");
    if (min.value_or(0) > kMaxRepeat || max.value_or(0) > kMaxRepeat) return bad("more than 100000 repetitions");
    if (max && *max < min.value_or(0)) return bad("the numbers in braces are out of order");
    return source_.repeat(node, min.value_or(0), max.value_or(kNoLimit));
  }

  Result<Node> quoted(char quote) {
    ++at_;
    std::string bytes;
    while (true) {
      if (!more() || peek() == '\n') return bad("a text does not end");
      if (take(quote)) return source_.bytes(bytes);
      QW_ASSIGN(const char32_t c, character());
      base::append_utf8(bytes, c);
    }
  }

  Result<Node> char_class() {
    ++at_;
    const bool negated = take('^');
    std::vector<std::pair<char32_t, char32_t>> ranges;
    while (!take(']')) {
      if (!more() || peek() == '\n') return bad("a class does not end");
      QW_ASSIGN(const char32_t low, character());
      if (more() && peek() == '-' && text_.substr(at_ + 1, 1) != "]") {
        ++at_;
        if (!more()) return bad("a class does not end");
        QW_ASSIGN(const char32_t high, character());
        if (high < low) return bad("a range is out of order");
        ranges.emplace_back(low, high);
      } else {
        ranges.emplace_back(low, low);
      }
    }
    CodePoints set = CodePoints::of(std::move(ranges));
    return source_.set(negated ? set.complement() : std::move(set));
  }

  Result<char32_t> character() {
    if (!take('\\')) {
      const base::Utf8Char c = base::utf8_at(text_, at_);
      if (c.code == base::kInvalidCode) return bad("invalid UTF-8");
      at_ += c.size;
      return static_cast<char32_t>(c.code);
    }
    if (!more()) return bad("a backslash at the end");
    const char c = text_[at_++];
    switch (c) {
      case 'n':
        return U'\n';
      case 'r':
        return U'\r';
      case 't':
        return U'\t';
      case 'x':
        return hex(2);
      case 'u':
        return hex(4);
      case 'U':
        return hex(8);
      case '\\':
      case '"':
      case '\'':
      case '[':
      case ']':
      case '-':
      case '^':
      case '/':
        return static_cast<char32_t>(c);
      default:
        --at_;
        return bad(std::string("unknown escape '\\") + c + "'");
    }
  }

  Result<char32_t> hex(int digits) {
    std::uint32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const int d = hex_digit();
      if (d < 0) return bad("a hexadecimal digit is missing");
      value = value * 16 + static_cast<std::uint32_t>(d);
    }
    if (value > CodePoints::kLast || (value >= 0xD800 && value <= 0xDFFF)) return bad("an escape names no character");
    return static_cast<char32_t>(value);
  }

  Source source_;
  std::map<std::string, Rule> rules_;
};

}  // namespace

Result<Source> parse_ebnf(std::string_view text, Effort* effort) {
  if (text.size() > kMaxText) return fail(ErrorKind::kBadInput, "grammar: longer than 1 MiB");
  return Parser(text, effort).parse();
}

}  // namespace qw::sampling::grammar
