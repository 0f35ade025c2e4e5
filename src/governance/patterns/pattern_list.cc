#include "governance/patterns/pattern_list.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/lines.h"
#include "base/trim.h"
#include "base/utf8.h"

#if QW_HAVE_RE2
#include <re2/re2.h>
#include <re2/set.h>
#endif

namespace qw::governance {

#if QW_HAVE_RE2

namespace {

constexpr std::int64_t kPatternBytes =
    1 << 20;  // of one program and its automata, which are made as texts ask for them
constexpr std::int64_t kScreenBytes = 16 << 20;
constexpr std::size_t kFewPatterns = 3;  // are looked for faster one by one
constexpr int kRangeBytes = 64;          // that are compared of what a match may begin with

re2::StringPiece piece_of(std::string_view text) { return {text.data(), text.size()}; }

RE2::Options options_of(std::int64_t bytes) {
  RE2::Options out;
  out.set_max_mem(bytes);
  out.set_longest_match(true);
  out.set_case_sensitive(false);
  out.set_never_capture(true);
  out.set_log_errors(false);
  return out;
}

// An expression that matches all that another does in folded texts, and perhaps more, from which RE2 tells what matches
// begin with: without demands on what stands around a character, which RE2 answers as if a text began there; and, where
// that is plain to see, in small letters, since capital ones match a Kelvin sign too, which is behind all letters.
class Widened {
 public:
  explicit Widened(std::string_view expression) : in_(expression) {
    while (at_ < in_.size() && known_) take();
  }
  bool known() const { return known_; }  // false: it quotes
  bool small() const { return small_; }
  const std::string& text() const { return small_ ? lowered_ : same_; }

 private:
  void put(std::string_view text, bool letters = true) {
    same_ += text;
    for (const char c : text)
      lowered_ += letters && is_upper(static_cast<unsigned char>(c)) ? static_cast<char>(c | 32) : c;
  }
  static bool is_upper(std::uint32_t c) { return c >= 'A' && c <= 'Z'; }

  void take() {
    const auto c = base::utf8_at(in_, at_);
    if (c.code == '\\' && at_ + 1 < in_.size()) return escape(in_[at_ + 1]);
    if (c.code == '(' && !in_class_ && in_.substr(at_).starts_with("(?")) return head();
    if (c.code == '[' && !in_class_) {
      in_class_ = true;
      first_ = at_ + (in_.substr(at_).starts_with("[^") ? 2 : 1);
    } else if (c.code == ']' && at_ != first_) {
      in_class_ = false;
    } else if (in_class_ &&
               ((c.code == '[' && in_.substr(at_).starts_with("[:")) || (c.code == '-' && !is_plain_range()))) {
      small_ = false;
    }
    before_ = c.code;
    put(in_.substr(at_, c.size));
    at_ += c.size;
  }
  void escape(char next) {
    constexpr std::string_view kCodes = "xpP01234567";
    known_ = next != 'Q';
    small_ = small_ && kCodes.find(next) == std::string_view::npos;
    if (!in_class_ && (next == 'b' || next == 'B'))
      put("(?:)");
    else
      put(in_.substr(at_, 2), false);
    before_ = '\\';
    at_ += 2;
  }
  // Flags and names of a group.
  void head() {
    const auto end = std::min(in_.find_first_of(":)>", at_), in_.size() - 1);
    put(in_.substr(at_, end + 1 - at_), false);
    at_ = end + 1;
  }
  // Whether both ends are capital letters or neither, and no letters of other alphabets lie between.
  bool is_plain_range() const {
    if (at_ + 1 >= in_.size()) return false;
    const std::uint32_t after = base::utf8_at(in_, at_ + 1).code;
    const auto odd = [](std::uint32_t code) { return code == '\\' || (code >= 0x80 && code < 0x3000); };
    return is_upper(before_) == is_upper(after) && (before_ < 0x80) == (after < 0x80) && !odd(before_) && !odd(after);
  }

  std::string_view in_;
  std::size_t at_ = 0, first_ = 0;  // of a class's characters
  bool in_class_ = false, known_ = true, small_ = true;
  std::uint32_t before_ = 0;
  std::string same_, lowered_;
};

}  // namespace

struct PatternList::Pattern {
  Pattern(const std::string& expression, std::uint32_t in_category, std::uint32_t at_line)
      : program(expression, options_of(kPatternBytes)), category(in_category), line(at_line) {
    const Widened wide(expression);
    if (!program.ok() || !wide.known()) return;
    RE2::Options options = options_of(kPatternBytes);
    options.set_case_sensitive(wide.small());
    const RE2 wider(wide.text(), options);
    ranged = wider.ok() && wider.PossibleMatchRange(&least, &most, kRangeBytes);
  }
  RE2 program;
  std::uint32_t category, line;
  bool ranged = false;  // every match lies between these two, in the order of bytes
  std::string least, most;
};

struct PatternList::Screen {
  Screen() : all(options_of(kScreenBytes), RE2::UNANCHORED) {}
  RE2::Set all;
};

class PatternList::Reader {
 public:
  Result<PatternList> read(std::string_view file) {
    QW_TRY(base::for_each_line(file, [this](std::string_view text, std::size_t number) {
      number_ = static_cast<std::uint32_t>(number);
      return line(base::trimmed(text));
    }));
    return done();
  }
  Result<PatternList> read(const std::string& category, const std::vector<std::string>& expressions,
                           std::uint32_t longest) {
    what_ = "expression ";
    out_.longest_ = longest;
    for (const std::string& one : expressions) {
      ++number_;
      if (!base::is_valid_utf8(one)) return wrong("this is no UTF-8");
      QW_TRY(add(category, one));
    }
    return done();
  }

 private:
  tl::unexpected<Error> wrong(const std::string& what) const {
    return fail(ErrorKind::kBadInput, what_ + std::to_string(number_) + ": " + what);
  }

  Status line(std::string_view text) {
    if (!base::is_valid_utf8(text)) return wrong("this is no UTF-8");
    if (text.empty() || text.front() == '#') return {};
    if (text.front() == '@') return option(text);
    const auto blank = text.find_first_of(" \t");
    if (blank == std::string_view::npos) return wrong("a category, blanks and an expression are needed");
    return add(std::string(text.substr(0, blank)), base::trimmed(text.substr(blank)));
  }

  Status option(std::string_view text) {
    if (!out_.patterns_.empty()) return wrong("what begins with @ stands before the first expression");
    constexpr std::string_view kLongestIs = "@longest ";
    if (text == "@traditional") {
      simplify_ = true;
      return {};
    }
    if (!text.starts_with(kLongestIs)) return wrong("known are @longest and @traditional");
    const auto number = base::trimmed(text.substr(kLongestIs.size()));
    const auto read = std::from_chars(number.data(), number.data() + number.size(), out_.longest_);
    if (read.ec != std::errc() || read.ptr != number.data() + number.size() || out_.longest_ < 1 ||
        out_.longest_ > kMostLongest)
      return wrong("@longest is a number from 1 to " + std::to_string(kMostLongest));
    return {};
  }

  Status add(const std::string& category, std::string_view expression) {
    if (out_.folding_ == nullptr) {
      QW_ASSIGN(out_.folding_, Folding::get(simplify_));
    }
    if (out_.patterns_.size() == kMostPatterns)
      return wrong("a list has at most " + std::to_string(kMostPatterns) + " expressions");
    if (expression.empty() || expression.size() > kMostBytes)
      return wrong("an expression has 1 to " + std::to_string(kMostBytes) + " bytes");
    if (std::any_of(expression.begin(), expression.end(), [](char c) { return c >= 0 && c < ' '; }))
      return wrong("an expression is one line; what does not show is written as \\x{...}");
    QW_TRY(can_occur(expression));
    auto& names = out_.categories_;
    const auto at = std::find(names.begin(), names.end(), category);
    auto made = std::make_unique<const Pattern>(std::string(expression), static_cast<std::uint32_t>(at - names.begin()),
                                                number_);
    const auto refuse = [&](const std::string& why) { return wrong(std::string(expression) + ": " + why); };
    if (!made->program.ok()) return refuse(made->program.error());
    if (made->program.ProgramSize() > kMostSteps)
      return refuse("it takes " + std::to_string(made->program.ProgramSize()) + " steps, and " +
                    std::to_string(kMostSteps) + " is the most");
    if (RE2::FullMatch("", made->program)) return refuse("it matches where there is nothing");
    if (at == names.end()) names.push_back(category);
    out_.patterns_.push_back(std::move(made));
    return {};
  }

  // Characters that texts are compared with are written as such.
  Status can_occur(std::string_view expression) const {
    for (std::size_t at = 0; at < expression.size();) {
      const auto c = base::utf8_at(expression, at);
      if (c.code == '\\' && expression.substr(at).starts_with("\\C"))
        return wrong(std::string(expression) + ": \\C is half a character");
      at += c.code == '\\' && at + 1 < expression.size() && expression[at + 1] == '\\' ? 2 : c.size;
      if (c.code < 0x80) continue;
      const Symbol symbol = out_.folding_->one(c.code);
      if (symbol.bits != 0 && symbol.code() == c.code) continue;
      std::string shown, instead;
      base::append_utf8(shown, c.code);
      if (symbol.bits != 0) base::append_utf8(instead, symbol.code());
      for (const Symbol part : out_.folding_->several(c.code)) base::append_utf8(instead, part.code());
      return wrong(std::string(expression) + ": " + shown + " is compared as " +
                   (instead.empty() ? "nothing" : instead) + ", so it would never be found");
    }
    return {};
  }

  Result<PatternList> done() {
    if (out_.patterns_.empty()) return wrong("there are no expressions");
    if (out_.patterns_.size() > kFewPatterns) {
      auto screen = std::make_unique<Screen>();
      bool fits = true;
      for (const auto& one : out_.patterns_) fits = fits && screen->all.Add(one->program.pattern(), nullptr) >= 0;
      if (fits && screen->all.Compile()) out_.screen_ = std::move(screen);
    }
    return std::move(out_);
  }

  bool simplify_ = false;
  std::string what_ = "line ";
  std::uint32_t number_ = 0;
  PatternList out_;
};

bool PatternList::first(std::uint32_t pattern, std::string_view text, std::size_t from, Span& out) const {
  re2::StringPiece found;
  if (!patterns_[pattern]->program.Match(piece_of(text), from, text.size(), RE2::UNANCHORED, &found, 1)) return false;
  out.begin = static_cast<std::size_t>(found.data() - text.data());
  out.end = out.begin + found.size();
  return true;
}

std::size_t PatternList::longest_at(std::uint32_t pattern, std::string_view text, std::size_t from,
                                    std::size_t until) const {
  re2::StringPiece found;
  if (!patterns_[pattern]->program.Match(piece_of(text), from, until, RE2::ANCHOR_START, &found, 1)) return 0;
  return found.empty() ? 0 : from + found.size();
}

bool PatternList::any(std::string_view text) const {
  if (screen_ == nullptr) return true;
  RE2::Set::ErrorInfo error{};
  return screen_->all.Match(piece_of(text), nullptr, &error) || error.kind != RE2::Set::kNoError;
}

bool PatternList::may_begin(std::uint32_t pattern, std::string_view rest) const {
  const Pattern& one = *patterns_[pattern];
  return !one.ranged || !(one.most < rest || std::string_view(one.least).substr(0, rest.size()) > rest);
}

std::uint32_t PatternList::category_of(std::uint32_t pattern) const { return patterns_[pattern]->category; }
std::uint32_t PatternList::line_of(std::uint32_t pattern) const { return patterns_[pattern]->line; }

Result<PatternList> PatternList::parse(std::string_view file) { return Reader().read(file); }
Result<PatternList> PatternList::of(const std::string& category, const std::vector<std::string>& expressions,
                                    std::uint32_t longest) {
  return Reader().read(category, expressions, longest);
}

#else

// No list is ever made, so nothing below is asked of one.
struct PatternList::Pattern {};
struct PatternList::Screen {};
namespace {
tl::unexpected<Error> lacks_re2() {
  return fail(ErrorKind::kUsage, "patterns need RE2, which this program was built without");
}
}  // namespace
bool PatternList::first(std::uint32_t, std::string_view, std::size_t, Span&) const { return false; }
std::size_t PatternList::longest_at(std::uint32_t, std::string_view, std::size_t, std::size_t) const { return 0; }
bool PatternList::any(std::string_view) const { return false; }
bool PatternList::may_begin(std::uint32_t, std::string_view) const { return false; }
std::uint32_t PatternList::category_of(std::uint32_t) const { return 0; }
std::uint32_t PatternList::line_of(std::uint32_t) const { return 0; }
Result<PatternList> PatternList::parse(std::string_view) { return lacks_re2(); }
Result<PatternList> PatternList::of(const std::string&, const std::vector<std::string>&, std::uint32_t) {
  return lacks_re2();
}

#endif

PatternList::PatternList() = default;
PatternList::PatternList(PatternList&&) noexcept = default;
PatternList& PatternList::operator=(PatternList&&) noexcept = default;
PatternList::~PatternList() = default;

}  // namespace qw::governance
