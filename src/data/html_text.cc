#include "data/html_text.h"

#include <algorithm>
#include <array>
#include <optional>

#include "base/utf8.h"

namespace qw::data {
namespace {

constexpr std::string_view kHtmlBlank = " \t\n\r\f";

// Elements that go with all that is in them. Of the first three what is inside is no markup.
constexpr std::array kLeftOut{"script", "style",  "textarea", "nav",    "header", "footer", "aside",    "form",
                              "button", "select", "noscript", "iframe", "svg",    "head",   "template", "math"};
constexpr std::size_t kRawLeftOut = 3;
constexpr std::array kParagraphs{"p",  "h1", "h2", "h3",    "h4",      "h5",      "h6",        "pre",
                                 "ul", "ol", "dl", "table", "article", "section", "blockquote"};
constexpr std::array kLines{"br",   "div",    "li",         "tr",   "dt",   "dd",      "hr",
                            "main", "figure", "figcaption", "body", "html", "details", "summary"};

struct Named {
  std::string_view name;
  std::uint32_t code;
};
constexpr Named kNamed[] = {{"amp", '&'},       {"lt", '<'},       {"gt", '>'},       {"quot", '"'},
                            {"apos", '\''},     {"nbsp", ' '},     {"mdash", 0x2014}, {"ndash", 0x2013},
                            {"hellip", 0x2026}, {"lsquo", 0x2018}, {"rsquo", 0x2019}, {"ldquo", 0x201C},
                            {"rdquo", 0x201D},  {"copy", 0xA9},    {"middot", 0xB7},  {"times", 0xD7},
                            {"deg", 0xB0},      {"laquo", 0xAB},   {"raquo", 0xBB},   {"bull", 0x2022}};
constexpr std::size_t kLongestReference = 12;

bool stands_in(const auto& names, std::string_view name) {
  return std::any_of(names.begin(), names.end(), [&](const char* other) { return name == other; });
}

std::string small_name(std::string_view text) {
  std::string name;
  for (const char c : text) {
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))) break;
    name += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  }
  return name;
}

// The character that a reference "&...;" names, and its length.
std::optional<std::pair<std::uint32_t, std::size_t>> reference_at(std::string_view text) {
  const std::size_t end = text.substr(0, kLongestReference).find(';');
  if (end == std::string_view::npos || end < 2) return std::nullopt;
  std::string_view name = text.substr(1, end - 1);
  if (name[0] != '#') {
    for (const Named& n : kNamed)
      if (n.name == name) return std::pair{n.code, end + 1};
    return std::nullopt;
  }
  name.remove_prefix(1);
  const bool hex = !name.empty() && (name[0] == 'x' || name[0] == 'X');
  if (hex) name.remove_prefix(1);
  if (name.empty()) return std::nullopt;
  std::uint32_t code = 0;
  for (const char c : name) {
    const int digit = c >= '0' && c <= '9'          ? c - '0'
                      : hex && c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : hex && c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                    : -1;
    if (digit < 0 || code > 0x10FFFF) return std::nullopt;
    code = code * (hex ? 16 : 10) + static_cast<std::uint32_t>(digit);
  }
  const bool scalar = code > 0 && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
  return scalar ? std::optional(std::pair{code, end + 1}) : std::nullopt;
}

class Page {
 public:
  explicit Page(std::string_view page) : page_(page) {}
  std::string text() {
    while (at_ < page_.size()) {
      if (page_[at_] != '<')
        character();
      else if (page_.substr(at_, 4) == "<!--")
        skip_to("-->", 4);
      else if (at_ + 1 < page_.size() && (page_[at_ + 1] == '!' || page_[at_ + 1] == '?'))
        skip_to(">", 2);
      else
        tag();
    }
    while (!out_.empty() && kHtmlBlank.find(out_.back()) != std::string_view::npos) out_.pop_back();
    return std::move(out_);
  }

 private:
  void skip_to(std::string_view end, std::size_t from) {
    const std::size_t found = page_.find(end, std::min(page_.size(), at_ + from));
    at_ = found == std::string_view::npos ? page_.size() : found + end.size();
  }
  void put(std::string_view bytes) {
    if (left_out_ > 0) return;
    if (!out_.empty() && out_.back() != '\n' && blank_) out_ += ' ';
    blank_ = false;
    out_ += bytes;
  }
  void character() {
    const char c = page_[at_];
    if (c == '&')
      if (const auto named = reference_at(page_.substr(at_))) {
        at_ += named->second;
        if (named->first == ' ') {
          blank_ = true;
          return;
        }
        std::string bytes;
        base::append_utf8(bytes, named->first);
        return put(bytes);
      }
    ++at_;
    if (kHtmlBlank.find(c) == std::string_view::npos) return put({&c, 1});
    if (pre_ == 0 || left_out_ > 0)
      blank_ = true;
    else
      out_ += c == '\r' || c == '\f' ? ' ' : c;
  }
  void line() {
    blank_ = false;
    if (left_out_ == 0 && !out_.empty() && out_.back() != '\n') out_ += '\n';
  }
  void paragraph() {
    line();
    if (left_out_ == 0 && !out_.empty() && !out_.ends_with("\n\n")) out_ += '\n';
  }
  // A tag ends at the first ">" outside of quotes. What begins like none is a character.
  void tag() {
    std::size_t name_at = at_ + 1;
    const bool closes = name_at < page_.size() && page_[name_at] == '/';
    if (closes) ++name_at;
    const std::string name = small_name(page_.substr(name_at, 16));
    if (name.empty()) {
      ++at_;
      return put("<");
    }
    char quote = 0;
    bool empty = false;
    for (at_ = name_at + name.size(); at_ < page_.size(); ++at_) {
      const char c = page_[at_];
      if (quote != 0)
        quote = c == quote ? '\0' : quote;
      else if (c == '"' || c == '\'')
        quote = c;
      else if (c == '>')
        break;
      empty = c == '/';
    }
    at_ = std::min(page_.size(), at_ + 1);
    if (stands_in(kParagraphs, name))
      paragraph();
    else if (stands_in(kLines, name))
      line();
    if (name == "pre") pre_ = closes ? 0 : 1;
    if (name == "td" || name == "th") blank_ = true;
    if (empty || !stands_in(kLeftOut, name)) return;
    if (closes) {
      if (left_out_ > 0 && name == outermost_) --left_out_;
      return;
    }
    if (std::any_of(kLeftOut.begin(), kLeftOut.begin() + kRawLeftOut, [&](const char* raw) { return name == raw; })) {
      raw_until(name);
      return;
    }
    // Only elements of the outermost's kind are counted, so that a page that forgets others loses nothing more.
    if (left_out_ == 0) outermost_ = name;
    if (name == outermost_) ++left_out_;
  }
  void raw_until(const std::string& name) {
    for (;;) {
      const std::size_t found = page_.find("</", at_);
      at_ = found == std::string_view::npos ? page_.size() : found + 2;
      if (at_ == page_.size() || small_name(page_.substr(at_, 16)) == name) break;
    }
    skip_to(">", 0);
  }

  std::string_view page_;
  std::size_t at_ = 0;
  std::string out_, outermost_;
  int left_out_ = 0, pre_ = 0;
  bool blank_ = false;
};

}  // namespace

std::string html_text(std::string_view page) { return Page(page).text(); }

std::string markdown_text(std::string_view file) {
  if (file.starts_with("---\n"))
    if (const std::size_t end = file.find("\n---\n", 3); end != std::string_view::npos) file.remove_prefix(end + 5);
  std::string out;
  while (!file.empty()) {
    const std::size_t begin = file.find("<!--");
    const std::size_t end = begin == std::string_view::npos ? begin : file.find("-->", begin + 4);
    if (end == std::string_view::npos) break;
    out += file.substr(0, begin);
    file.remove_prefix(end + 3);
  }
  out += file;
  return out.substr(std::min(out.size(), out.find_first_not_of('\n')));
}

}  // namespace qw::data
