// Texts are judged by lists of words that the operator gives.
//
// The file: lines of UTF-8; "[category]" begins a list, every other line that is not empty and does not begin with "#"
// is a word or phrase of it. Text and words are compared after compatibility normalisation and case folding, without
// characters that do not show; white space of any kind and length is one blank. A word of letters that know cases
// (Latin, Cyrillic, Greek) or of digits is found only as a whole word; in scripts without blanks, such as Chinese,
// anywhere. All words are looked for together, in time linear in the text.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "api/moderator.h"

namespace qw::api {

class KeywordModerator final : public Moderator {
 public:
  // kBadInput with the line: a word before the first category, an empty list, no UTF-8, too long a word (256 bytes).
  static Result<std::unique_ptr<KeywordModerator>> parse(std::string_view file);
  ~KeywordModerator() override;
  const std::string& name() const override;
  void judge(std::vector<std::string> texts, Then then) override;
  // What judge says of one text. Bytes that are no UTF-8 count as U+FFFD.
  Judgement judge(std::string_view text) const;

 private:
  struct Impl;
  explicit KeywordModerator(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// As words and texts are compared; one blank before and after, so that every word has neighbours.
std::string folded_text(std::string_view text);

}  // namespace qw::api
