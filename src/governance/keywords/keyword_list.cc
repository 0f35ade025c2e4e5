#include "governance/keywords/keyword_list.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/lines.h"
#include "base/trim.h"
#include "base/utf8.h"
#include "governance/keywords/symbol_stream.h"

#if QW_HAVE_ICU
#include <unicode/translit.h>
#include <unicode/unistr.h>
#endif

namespace qw::governance {
namespace {

constexpr std::size_t kFewestSyllables = 3;  // of a keyword that is looked for in pinyin: two are too many other words

// Han characters in Latin letters, by ICU.
class Pinyin {
 public:
  static Result<Pinyin> make() {
#if QW_HAVE_ICU
    UErrorCode error = U_ZERO_ERROR;
    Pinyin out;
    out.rules_.reset(icu::Transliterator::createInstance("Han-Latin; Latin-ASCII; Lower", UTRANS_FORWARD, error));
    if (out.rules_ != nullptr && U_SUCCESS(error)) return out;
    return fail(ErrorKind::kUsage, std::string("ICU has no rules for pinyin: ") + u_errorName(error));
#else
    return fail(ErrorKind::kUsage, "@pinyin needs ICU, which this program was built without");
#endif
  }
  // "fa lun gong"; empty: not Han characters alone, or too few.
  std::string of(std::string_view word) const {
    std::string out;
#if QW_HAVE_ICU
    std::size_t syllables = 0;
    for (std::size_t at = 0; at < word.size(); ++syllables) {
      const auto c = base::utf8_at(word, at);
      at += c.size;
      icu::UnicodeString text(static_cast<UChar32>(c.code));
      rules_->transliterate(text);
      std::string syllable;
      text.toUTF8String(syllable);
      if (c.code < 0x3400 || syllable.empty() || static_cast<unsigned char>(syllable[0]) >= 0x80) return "";
      out += (out.empty() ? "" : " ") + syllable;
    }
    if (syllables < kFewestSyllables) out.clear();
#else
    static_cast<void>(word);
#endif
    return out;
  }

 private:
#if QW_HAVE_ICU
  std::unique_ptr<icu::Transliterator> rules_;
#endif
};

}  // namespace

class KeywordList::Reader {
 public:
  Result<KeywordList> read(std::string_view file) {
    QW_TRY(base::for_each_line(file, [this](std::string_view text, std::size_t number) {
      number_ = static_cast<std::uint32_t>(number);
      return line(base::trimmed(text));
    }));
    if (words_ == 0) return wrong("there are no words");
    std::vector<std::uint32_t> categories;
    for (const Keyword& one : keywords_) categories.push_back(one.category);
    return KeywordList(folding_, KeywordFilter(symbols_, ends_), KeywordIndex(symbols_, ends_, categories),
                       std::move(categories_), std::move(keywords_));
  }

 private:
  tl::unexpected<Error> wrong(const std::string& what) const {
    return fail(ErrorKind::kBadInput, "line " + std::to_string(number_) + ": " + what);
  }

  Status line(std::string_view text) {
    if (!base::is_valid_utf8(text)) return wrong("this is no UTF-8");
    if (text.empty() || text.front() == '#') return {};
    if (text.front() == '@') return option(text);
    if (folding_ == nullptr) {
      QW_ASSIGN(folding_, Folding::get(simplify_));
    }
    if (text.front() == '[') return category(text);
    if (!in_list_) return wrong("a word before the first [category]");
    QW_TRY(word(text));
    ++words_;
    if (pinyin_) {
      if (const std::string spelt = pinyin_->of(text); !spelt.empty()) {
        QW_TRY(word(spelt));
        std::string joined = spelt;
        std::erase(joined, ' ');
        QW_TRY(word(joined));
      }
    }
    return {};
  }

  Status option(std::string_view text) {
    if (folding_ != nullptr) return wrong("what begins with @ stands before the first list");
    if (text == "@traditional") {
      simplify_ = true;
    } else if (text == "@pinyin") {
      auto made = Pinyin::make();
      if (!made) return in_context("line " + std::to_string(number_), std::move(made).error());
      pinyin_ = std::move(*made);
    } else {
      return wrong("known are @traditional and @pinyin");
    }
    return {};
  }

  Status category(std::string_view text) {
    if (text.size() < 3 || text.back() != ']') return wrong("a category is written as [name]");
    if (in_list_ && words_ == 0) return wrong("the list before has no words");
    const std::string name(text.substr(1, text.size() - 2));
    const auto at = std::find(categories_.begin(), categories_.end(), name);
    category_ = static_cast<std::uint32_t>(at - categories_.begin());
    if (at == categories_.end()) categories_.push_back(name);
    words_ = 0;
    in_list_ = true;
    return {};
  }

  Status word(std::string_view text) {
    const std::size_t begin = symbols_.size();
    SymbolStream stream(*folding_);
    const auto take = [&](Symbol symbol, std::uint64_t, std::uint64_t) { symbols_.push_back(symbol); };
    stream.push(text, take);
    stream.finish(take);
    const Symbol blank = Symbol::of(' ', SymbolKind::kBlank);
    while (symbols_.size() > begin && symbols_.back() == blank) symbols_.pop_back();
    if (symbols_.size() > begin && symbols_[begin] == blank)
      symbols_.erase(symbols_.begin() + static_cast<std::ptrdiff_t>(begin));
    if (symbols_.size() == begin) return wrong("nothing of this word is compared");
    if (symbols_.size() - begin > kLongest) return wrong("a word has at most 256 characters");
    ends_.push_back(static_cast<std::uint32_t>(symbols_.size()));
    keywords_.push_back({category_, number_});
    return {};
  }

  bool simplify_ = false, in_list_ = false;
  std::optional<Pinyin> pinyin_;
  const Folding* folding_ = nullptr;
  std::uint32_t number_ = 0, category_ = 0;
  std::size_t words_ = 0;  // of this list
  std::vector<std::string> categories_{"except"};
  std::vector<Symbol> symbols_;
  std::vector<std::uint32_t> ends_;
  std::vector<Keyword> keywords_;
};

Result<KeywordList> KeywordList::parse(std::string_view file) { return Reader().read(file); }

}  // namespace qw::governance
