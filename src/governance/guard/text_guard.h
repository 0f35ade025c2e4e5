// Lets a text through that comes in pieces, and tells of the keywords and personal data in it, or covers them too. What
// may still become one is held back, and nothing else is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "governance/keywords/keyword_scanner.h"
#include "governance/pii/pii_finder.h"

namespace qw::governance {

enum class GuardAction : std::uint8_t {
  kFlag,   // told of
  kCover,  // and written as "*"; of numbers the last four characters stay, of e-mail addresses what follows the "@"
};

struct GuardRules {
  const KeywordList* keywords = nullptr;  // null: none are looked for. Must outlive the guard
  GuardAction on_keyword = GuardAction::kFlag;
  PiiSet pii;  // empty: none is looked for
  GuardAction on_pii = GuardAction::kFlag;
};

struct GuardFinding {
  std::uint64_t begin = 0, end = 0;  // bytes since the text began, as it came
  std::string kind;                  // "keyword/CATEGORY" or "pii/KIND"
  std::string text;                  // as it came
  std::uint32_t line = 0;            // of keywords: where it stands in its file
};

class TextGuard {
 public:
  explicit TextGuard(const GuardRules& rules);
  // What may go on of the text so far.
  std::string push(std::string_view piece, std::vector<GuardFinding>& findings);
  std::string finish(std::vector<GuardFinding>& findings);

 private:
  void note(std::vector<GuardFinding>& findings);
  std::string let_go(std::uint64_t until);

  GuardRules rules_;
  std::vector<KeywordScanner> scanner_;  // one, or none
  PiiFinder finder_;
  std::uint64_t begin_ = 0;  // of what is held, since the text began
  std::string held_;
  std::vector<bool> covered_;  // its bytes that are not to be seen
  std::vector<KeywordHit> words_;
  std::vector<PiiHit> data_;
};

}  // namespace qw::governance
