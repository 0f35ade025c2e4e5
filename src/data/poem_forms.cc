#include "data/poem_forms.h"

#include <algorithm>

#include "base/utf8.h"
#include "data/clean_text.h"
#include "data/internal/poem_requests.h"

namespace qw::data {
namespace {

constexpr std::string_view kStops[] = {"，", "。", "？", "！", "；", "、", "："};
constexpr std::size_t kMaxTitleCharacters = 6;  // longer titles are occasions ("sent to so-and-so on..."), no subjects

// Characters of a phrase; nothing when one is not a Han character of the two blocks that verse is written in.
using Phrase = std::vector<std::string_view>;

bool is_han(std::string_view c) {
  if (c.size() == 4) return true;  // the supplementary planes hold rare Han characters, and corpora of verse nothing else
  if (c.size() != 3) return false;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned>(static_cast<unsigned char>(c[i])); };
  const unsigned code = (byte(0) & 15) << 12 | (byte(1) & 63) << 6 | (byte(2) & 63);
  return (code >= 0x3400 && code <= 0x4DBF) || (code >= 0x4E00 && code <= 0x9FFF);
}

std::optional<std::vector<Phrase>> phrases_of(std::string_view line) {
  std::vector<Phrase> phrases(1);
  for (std::size_t at = 0; at < line.size();) {
    const base::Utf8Char character = base::utf8_at(line, at);
    if (character.code == base::kInvalidCode) return std::nullopt;
    const auto c = line.substr(at, character.size);
    at += character.size;
    if (std::find(std::begin(kStops), std::end(kStops), c) != std::end(kStops)) {
      if (phrases.back().empty()) return std::nullopt;
      phrases.emplace_back();
    } else if (is_han(c)) {
      phrases.back().push_back(c);
    } else {
      return std::nullopt;
    }
  }
  if (phrases.back().empty()) phrases.pop_back();
  return phrases;
}

std::string join(const Phrase& phrase, std::size_t from, std::size_t count) {
  std::string out;
  for (std::size_t i = from; i < from + count; ++i) out += phrase[i];
  return out;
}

// Verse falls into two-character words from the left, and a last word before the end: 2-2-1, 2-1-2, 2-2-1-2, 2-2-2-1.
std::string word_of(const Poem& poem, base::Rng& rng) {
  const auto& line = poem.lines[static_cast<std::size_t>(rng.below(poem.lines.size()))];
  const auto phrases = *phrases_of(line);
  const Phrase& phrase = phrases[static_cast<std::size_t>(rng.below(phrases.size()))];
  const std::size_t starts[] = {0, 2, phrase.size() - 2};
  return join(phrase, starts[rng.below(3)], 2);
}

std::optional<std::string> short_title(const Poem& poem) {
  const auto phrases = phrases_of(poem.title);
  if (!phrases || phrases->size() != 1 || phrases->front().size() > kMaxTitleCharacters) return std::nullopt;
  return poem.title;
}

std::string subject_of(const Poem& poem, base::Rng& rng) {
  const auto kind = rng.below(100);
  if (kind < 35) {
    if (auto title = short_title(poem)) return *title;
  } else if (kind < 50) {
    if (const Theme* theme = theme_of(poem, rng)) return std::string(theme->zh);
  }
  return word_of(poem, rng);
}

// Long and short names, and the shape in words.
constexpr std::string_view kNames[kPoemForms][4] = {
    {"五言绝句", "五绝", "四句的五言诗", "五言四句诗"},
    {"七言绝句", "七绝", "四句的七言诗", "七言四句诗"},
    {"五言律诗", "五律", "八句的五言诗", "五言八句诗"},
    {"七言律诗", "七律", "八句的七言诗", "七言八句诗"},
};
constexpr std::string_view kEnglish[kPoemForms] = {"five-character quatrain", "seven-character quatrain",
                                                   "five-character regulated verse", "seven-character regulated verse"};

std::string_view name_of(PoemForm form, base::Rng& rng) {
  const auto& names = kNames[static_cast<std::size_t>(form)];
  const auto kind = rng.below(100);
  return kind < 52 ? names[0] : kind < 92 ? names[1] : names[kind < 96 ? 2 : 3];
}

constexpr std::string_view kVerbs[] = {"写", "写", "写", "作", "来", "做", "赋", "创作", "请写", "请写", "请作", "请创作",
                                       "帮我写", "请帮我写", "给我写", "给我来", "我想要", "能不能写", "麻烦写"};
// @ is the subject, # the form, ! the verb.
constexpr std::string_view kAbout[] = {
    "!一首关于@的#",   "!一首关于@的#",   "!一首关于@的#",   "!一首写@的#",      "!一首@的#",        "!一首咏@的#",
    "!一首描写@的#",   "!一首以@为题的#", "!一首题为《@》的#", "!一首以@为主题的#", "以《@》为题!一首#", "以《@》为题!一首#",
    "以“@”为题!一首#", "以@为题，!一首#", "以@为主题!一首#",   "用@作题目!一首#",   "用#写@",           "!一首#，题为《@》",
    "!一首#，写@",     "!一首#，题目是@", "!一首#，主题是@",   "!首#，关于@",       "@，!一首#",        "#：@",
    "围绕@!一首#",     "#《@》",          "!一首#，内容是@"};
constexpr std::string_view kPlain[] = {"!一首#", "!首#", "随便!一首#", "#"};
constexpr std::string_view kFrom[] = {"以“@”开头!一首#", "!一首#，第一句是“@”", "!一首#，首句：@"};
constexpr std::string_view kAboutEnglish[] = {"Write a # about @.", "Write me a # about @", "A # titled 《@》, please.",
                                              "Please write a # (@)."};
constexpr std::string_view kEnds[] = {"", "", "", "", "。", "。", "吧", "！", "，谢谢。"};

template <std::size_t N>
std::string_view one_of(const std::string_view (&list)[N], base::Rng& rng) {
  return list[rng.below(N)];
}

std::string fill(std::string_view pattern, std::string_view subject, std::string_view form, std::string_view verb) {
  std::string out;
  for (const char c : pattern) {
    if (c == '@') out += subject;
    else if (c == '#') out += form;
    else if (c == '!') out += verb;
    else out += c;
  }
  return out;
}

std::string request_of(const Poem& poem, PoemForm form, base::Rng& rng) {
  const auto kind = rng.below(100);
  if (kind < 4) {
    const auto name = rng.below(2) == 0 ? kEnglish[static_cast<std::size_t>(form)] : name_of(form, rng);
    return fill(one_of(kAboutEnglish, rng), subject_of(poem, rng), name, "");
  }
  const auto name = name_of(form, rng);
  const auto verb = one_of(kVerbs, rng);
  if (kind < 12) return fill(one_of(kPlain, rng), "", name, verb) + std::string(one_of(kEnds, rng));
  if (kind < 20) {
    const Phrase first = phrases_of(poem.lines.front())->front();
    return fill(one_of(kFrom, rng), join(first, 0, first.size()), name, verb);
  }
  return fill(one_of(kAbout, rng), subject_of(poem, rng), name, verb) + std::string(one_of(kEnds, rng));
}

}  // namespace

std::optional<PoemForm> poem_form(const Poem& poem) {
  std::size_t width = 0;
  for (const auto& line : poem.lines) {
    const auto phrases = phrases_of(line);
    if (!phrases || phrases->size() != 2) return std::nullopt;
    for (const Phrase& phrase : *phrases) {
      if (width == 0) width = phrase.size();
      if (phrase.size() != width) return std::nullopt;
    }
  }
  if (width != 5 && width != 7) return std::nullopt;
  if (poem.lines.size() == 2) return width == 5 ? PoemForm::kFiveQuatrain : PoemForm::kSevenQuatrain;
  if (poem.lines.size() == 4) return width == 5 ? PoemForm::kFiveOctave : PoemForm::kSevenOctave;
  return std::nullopt;
}

bool FormBalance::keep(PoemForm form, base::Rng& rng) const {
  std::uint64_t rarest = 0;
  for (const auto count : counts_)
    if (count > 0 && (rarest == 0 || count < rarest)) rarest = count;
  return rng.below(std::max<std::uint64_t>(1, counts_[static_cast<std::size_t>(form)])) < rarest;
}

json::Object form_conversation(const Poem& poem, PoemForm form, base::Rng& rng, const RequestScripts& scripts) {
  std::string request = request_of(poem, form, rng);
  return exchange(in_some_script(std::move(request), rng, scripts), body_of(poem));
}

}  // namespace qw::data
