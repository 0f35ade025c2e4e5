#include "api/keyword_moderator.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <unordered_map>

#include "base/utf8.h"

namespace qw::api {
namespace {

constexpr std::size_t kLongestWord = 256;  // bytes, as compared
const std::string kName = "keyword-list";

// The code point that begins at `at`, or that ends before it.
std::int32_t code_at(std::string_view text, std::size_t at) {
  utf8proc_int32_t code = 0;
  utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + at),
                   static_cast<utf8proc_ssize_t>(text.size() - at), &code);
  return code;
}
std::int32_t code_before(std::string_view text, std::size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return code_at(text, at);
}

// Whether a character is of the kind that words between blanks are made of.
bool joins_words(std::int32_t code) {
  switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_ND:
      return true;
    default:
      return false;
  }
}

// `text` lies in `whole` at [begin, end): it is not a part of a longer word.
bool stands_alone(std::string_view whole, std::size_t begin, std::size_t end) {
  const bool joined_before = joins_words(code_at(whole, begin)) && joins_words(code_before(whole, begin));
  const bool joined_after = joins_words(code_before(whole, end)) && joins_words(code_at(whole, end));
  return !joined_before && !joined_after;
}

// Words as a trie whose nodes also know where to go on when no longer word fits (Aho and Corasick, 1975).
class WordFinder {
 public:
  void add(std::string_view word, std::size_t category) {
    std::int32_t at = 0;
    for (const char c : word) {
      const auto [edge, fresh] = edges_.try_emplace(key(at, c), static_cast<std::int32_t>(nodes_.size()));
      at = edge->second;
      if (fresh) nodes_.push_back({});
    }
    nodes_[static_cast<std::size_t>(at)].ends.push_back({word.size(), category});
  }

  // After the last add.
  void link() {
    std::vector<std::vector<std::pair<char, std::int32_t>>> children(nodes_.size());
    for (const auto& [edge, to] : edges_) children[edge >> 8].emplace_back(static_cast<char>(edge & 255), to);
    std::deque<std::int32_t> open{0};
    while (!open.empty()) {
      const std::int32_t at = open.front();
      open.pop_front();
      for (const auto& [c, to] : children[static_cast<std::size_t>(at)]) {
        Node& node = nodes_[static_cast<std::size_t>(to)];
        node.fail = at == 0 ? 0 : step(nodes_[static_cast<std::size_t>(at)].fail, c);
        const Node& shorter = nodes_[static_cast<std::size_t>(node.fail)];
        node.next_end = shorter.ends.empty() ? shorter.next_end : node.fail;
        open.push_back(to);
      }
    }
  }

  template <class OnWord>
  void find(std::string_view text, OnWord on_word) const {
    std::int32_t at = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      at = step(at, text[i]);
      for (std::int32_t n = at; n > 0; n = nodes_[static_cast<std::size_t>(n)].next_end)
        for (const End& end : nodes_[static_cast<std::size_t>(n)].ends)
          on_word(i + 1 - end.length, i + 1, end.category);
    }
  }

 private:
  struct End {
    std::size_t length, category;
  };
  struct Node {
    std::int32_t fail = 0;      // the node of the longest other word's beginning that the text ends with
    std::int32_t next_end = 0;  // the nearest one on that way at which a word ends; 0: none
    std::vector<End> ends;
  };
  static std::uint64_t key(std::int32_t node, char c) {
    return static_cast<std::uint64_t>(node) << 8 | static_cast<unsigned char>(c);
  }
  std::int32_t step(std::int32_t at, char c) const {
    for (;;) {
      if (const auto edge = edges_.find(key(at, c)); edge != edges_.end()) return edge->second;
      if (at == 0) return 0;
      at = nodes_[static_cast<std::size_t>(at)].fail;
    }
  }

  std::vector<Node> nodes_{1};
  std::unordered_map<std::uint64_t, std::int32_t> edges_;
};

std::string_view trimmed(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r";
  const auto begin = line.find_first_not_of(kBlank);
  return begin == std::string_view::npos ? "" : line.substr(begin, line.find_last_not_of(kBlank) + 1 - begin);
}

}  // namespace

std::string folded_text(std::string_view text) {
  std::string valid;  // what is no UTF-8 must hide nothing
  base::append_valid_utf8(valid, text, true);
  utf8proc_uint8_t* mapped = nullptr;
  const auto n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(valid.data()),
                              static_cast<utf8proc_ssize_t>(valid.size()), &mapped,
                              static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_COMPOSE |
                                                             UTF8PROC_CASEFOLD | UTF8PROC_IGNORE));
  std::string out = " ";
  // Blanks and controls of any kind: one blank.
  for (utf8proc_ssize_t at = 0; at < n;) {
    utf8proc_int32_t code = 0;
    const auto bytes = utf8proc_iterate(mapped + at, n - at, &code);
    if (bytes <= 0) break;
    const auto category = utf8proc_category(code);
    const bool blank = category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_ZS ||
                       category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
    if (!blank) out.append(reinterpret_cast<const char*>(mapped + at), static_cast<std::size_t>(bytes));
    if (blank && out.back() != ' ') out += ' ';
    at += bytes;
  }
  std::free(mapped);
  if (out.back() != ' ') out += ' ';
  return out;
}

struct KeywordModerator::Impl {
  std::vector<std::string> categories;
  WordFinder words;
};

KeywordModerator::KeywordModerator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
KeywordModerator::~KeywordModerator() = default;
const std::string& KeywordModerator::name() const { return kName; }

Result<std::unique_ptr<KeywordModerator>> KeywordModerator::parse(std::string_view file) {
  auto impl = std::make_unique<Impl>();
  std::size_t number = 0, words = 0, category = 0;
  const auto wrong = [&](const std::string& what) {
    return fail(ErrorKind::kBadInput, "line " + std::to_string(number) + ": " + what);
  };
  for (std::size_t at = 0; at < file.size();) {
    const auto end = std::min(file.find('\n', at), file.size());
    const std::string_view line = trimmed(file.substr(at, end - at));
    at = end + 1;
    ++number;
    if (!base::is_valid_utf8(line)) return wrong("this is no UTF-8");
    if (line.empty() || line.front() == '#') continue;
    if (line.front() == '[') {
      if (line.size() < 3 || line.back() != ']') return wrong("a category is written as [name]");
      if (!impl->categories.empty() && words == 0) return wrong("the list before has no words");
      const std::string name(line.substr(1, line.size() - 2));
      category = static_cast<std::size_t>(std::find(impl->categories.begin(), impl->categories.end(), name) -
                                          impl->categories.begin());
      if (category == impl->categories.size()) impl->categories.push_back(name);
      words = 0;
      continue;
    }
    if (impl->categories.empty()) return wrong("a word before the first [category]");
    const std::string folded = folded_text(line);
    if (folded.size() < 3) return wrong("nothing of this word is compared");
    if (folded.size() - 2 > kLongestWord) return wrong("a word has at most 256 bytes");
    impl->words.add(std::string_view(folded).substr(1, folded.size() - 2), category);
    ++words;
  }
  if (words == 0) return wrong("there are no words");
  impl->words.link();
  return std::unique_ptr<KeywordModerator>(new KeywordModerator(std::move(impl)));
}

KeywordModerator::Judgement KeywordModerator::judge(std::string_view text) const {
  Judgement out;
  for (const std::string& name : impl_->categories) out.push_back({name, false, 0});
  const std::string folded = folded_text(text);
  impl_->words.find(folded, [&](std::size_t begin, std::size_t end, std::size_t category) {
    ModerationCategory& found = out[category];
    if (found.flagged || !stands_alone(folded, begin, end)) return;
    found.flagged = true;
    found.score = 1;
  });
  return out;
}

void KeywordModerator::judge(std::vector<std::string> texts, Then then) {
  std::vector<Judgement> out;
  for (const std::string& text : texts) out.push_back(judge(text));
  then(std::move(out));
}

}  // namespace qw::api
