// Lists of keywords that an operator gives, ready to be looked for in texts (keyword_scanner.h).
//
// The file: lines of UTF-8. "[category]" begins a list; every other line that is not empty and does not begin with "#"
// is a word or phrase of it. Phrases of the list "[except]" hide the keywords that they contain: "Scunthorpe". Before
// the first list, "@traditional" makes traditional and simplified Chinese one (needs ICU), and "@pinyin" finds keywords
// of at least three Han characters written in pinyin too, tones left out, in one word or a word a syllable (needs ICU).
//
// How characters compare: folding.h. White space of any kind and length is one blank. A keyword of letters that know
// cases or of digits is found only as whole words; in scripts without blanks, such as Chinese, anywhere, and there with
// up to three blanks, emoji or signs such as * or . between its characters. A keyword of at least three letters is
// found too where its letters stand alone, up to three such signs apart.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "governance/keywords/folding.h"
#include "governance/keywords/keyword_filter.h"
#include "governance/keywords/keyword_index.h"

namespace qw::governance {

class KeywordList {
 public:
  static constexpr std::size_t kLongest = 256;  // symbols of a keyword
  static constexpr std::uint32_t kExcept = 0;   // the category of phrases that hide others

  // kBadInput with the line: a word before the first category, an empty list, no UTF-8, too long a word, nothing in a
  // word that is compared. kUsage: it asks for what this program was built without.
  static Result<KeywordList> parse(std::string_view file);

  const Folding& folding() const { return *folding_; }
  const KeywordIndex& index() const { return index_; }
  const KeywordFilter& filter() const { return filter_; }
  // Names by number; number 0 is "except".
  const std::vector<std::string>& categories() const { return categories_; }
  std::uint32_t category_of(std::uint32_t keyword) const { return keywords_[keyword].category; }
  // The line of the file that a keyword stands in, from 1.
  std::uint32_t line_of(std::uint32_t keyword) const { return keywords_[keyword].line; }
  std::size_t size() const { return keywords_.size(); }

 private:
  struct Keyword {
    std::uint32_t category, line;
  };
  class Reader;
  KeywordList(const Folding* folding, KeywordFilter filter, KeywordIndex index, std::vector<std::string> categories,
              std::vector<Keyword> keywords)
      : folding_(folding),
        filter_(std::move(filter)),
        index_(std::move(index)),
        categories_(std::move(categories)),
        keywords_(std::move(keywords)) {}

  const Folding* folding_;
  KeywordFilter filter_;
  KeywordIndex index_;
  std::vector<std::string> categories_;
  std::vector<Keyword> keywords_;
};

}  // namespace qw::governance
