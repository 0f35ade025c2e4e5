#include "eval/internal/words.h"

#include <utf8proc.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "base/utf8.h"

namespace qw::eval {
namespace {

constexpr std::string_view kAsciiPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

bool is_space(std::uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// What CMRC's script drops: its own list, no more.
bool is_cmrc_mark(std::uint32_t c) {
  static const std::set<std::uint32_t> kMarks = [] {
    std::set<std::uint32_t> marks;
    constexpr std::string_view kText = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』";
    for (std::size_t i = 0; i < kText.size();) {
      const base::Utf8Char next = base::utf8_at(kText, i);
      marks.insert(next.code);
      i += next.size;
    }
    return marks;
  }();
  return kMarks.contains(c);
}

// What MLQA's script drops: ASCII's punctuation, and what Unicode calls so.
bool is_any_mark(std::uint32_t c) {
  if (c < 0x80) return kAsciiPunctuation.find(static_cast<char>(c)) != std::string_view::npos;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return c != base::kInvalidCode && category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool is_mark(Marks marks, std::uint32_t c) { return marks == Marks::kCmrc ? is_cmrc_mark(c) : is_any_mark(c); }

bool is_han(std::uint32_t c) { return c >= 0x4E00 && c <= 0x9FA5; }

// Calls f(code, bytes) for each character; what is none comes as kInvalidCode.
template <class F>
void each_character(std::string_view text, F f) {
  for (std::size_t i = 0; i < text.size();) {
    const base::Utf8Char c = base::utf8_at(text, i);
    f(c.code, text.substr(i, c.size));
    i += c.size;
  }
}

std::string without(std::string_view text, std::string_view dropped) {
  std::string out;
  for (const char c : text)
    if (dropped.find(c) == std::string_view::npos) out += c;
  return out;
}

double f1_of(std::size_t same, std::size_t answer, std::size_t target) {
  if (same == 0) return 0;
  const double precision = static_cast<double>(same) / static_cast<double>(answer);
  const double recall = static_cast<double>(same) / static_cast<double>(target);
  return 2 * precision * recall / (precision + recall);
}

}  // namespace

std::string_view strip_end(std::string_view text) {
  while (!text.empty()) {
    std::size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    const base::Utf8Char last = base::utf8_at(text, at);
    if (!is_space(last.code) || at + last.size != text.size()) break;
    text = text.substr(0, at);
  }
  return text;
}

std::string_view strip(std::string_view text) {
  text = strip_end(text);
  while (!text.empty()) {
    const base::Utf8Char first = base::utf8_at(text, 0);
    if (!is_space(first.code)) break;
    text.remove_prefix(first.size);
  }
  return text;
}

std::string lower(std::string_view text) {
  std::string out;
  each_character(text, [&](std::uint32_t code, std::string_view bytes) {
    if (code == base::kInvalidCode) {
      out += bytes;
    } else {
      base::append_utf8(out, static_cast<std::uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
    }
  });
  return out;
}

std::string without_punctuation(std::string_view text) { return without(text, kAsciiPunctuation); }
std::string without_digits(std::string_view text) { return without(text, "0123456789"); }

std::size_t characters(std::string_view text) {
  std::size_t count = 0;
  each_character(text, [&](std::uint32_t, std::string_view) { ++count; });
  return count;
}

std::size_t count_words(std::string_view text) {
  std::size_t count = 1;
  bool space = false;
  each_character(text, [&](std::uint32_t code, std::string_view) {
    const bool is = is_space(code);
    count += is && !space;
    space = is;
  });
  return count;
}

std::vector<std::string> squad_words(std::string_view text) {
  std::vector<std::string> out;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty() && word != "a" && word != "an" && word != "the") out.push_back(word);
    word.clear();
  };
  each_character(without_punctuation(lower(text)), [&](std::uint32_t code, std::string_view bytes) {
    if (is_space(code))
      end_word();
    else
      word += bytes;
  });
  end_word();
  return out;
}

std::vector<std::string> mixed_words(std::string_view text, Marks marks) {
  std::vector<std::string> out;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) out.push_back(std::exchange(word, {}));
  };
  each_character(lower(strip(text)), [&](std::uint32_t code, std::string_view bytes) {
    if (is_han(code) || is_space(code) || is_mark(marks, code)) end_word();
    if (is_han(code))
      out.emplace_back(bytes);
    else if (!is_space(code) && !is_mark(marks, code))
      word += bytes;
  });
  end_word();
  return out;
}

std::string mixed_text(std::string_view text, Marks marks) {
  std::string out;
  each_character(lower(strip(text)), [&](std::uint32_t code, std::string_view bytes) {
    if (!is_mark(marks, code)) out += bytes;
  });
  return out;
}

double bag_f1(const std::vector<std::string>& answer, const std::vector<std::string>& target) {
  if (answer.empty() || target.empty()) return answer.empty() && target.empty() ? 1 : 0;
  std::map<std::string_view, std::size_t> left;
  for (const std::string& word : target) ++left[word];
  std::size_t same = 0;
  for (const std::string& word : answer) {
    const auto at = left.find(word);
    if (at == left.end() || at->second == 0) continue;
    --at->second;
    ++same;
  }
  return f1_of(same, answer.size(), target.size());
}

double run_f1(const std::vector<std::string>& answer, const std::vector<std::string>& target) {
  std::vector<std::size_t> before(target.size() + 1), now(target.size() + 1);
  std::size_t longest = 0;
  for (const std::string& word : answer) {
    for (std::size_t j = 0; j < target.size(); ++j) {
      now[j + 1] = word == target[j] ? before[j] + 1 : 0;
      longest = std::max(longest, now[j + 1]);
    }
    std::swap(before, now);
  }
  return f1_of(longest, answer.size(), target.size());
}

}  // namespace qw::eval
