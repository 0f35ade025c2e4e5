// Lets a text through that comes in pieces, and tells of the keywords, patterns and personal data in it, covers them,
// or ends the text in front of them; a model may be asked besides (GuardedClasses). What may still become one is held
// back, and nothing else is: what comes out, and what is told, is the same wherever the text is cut.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "governance/guard/text_classifier.h"
#include "governance/keywords/keyword_scanner.h"
#include "governance/patterns/pattern_scanner.h"
#include "governance/pii/pii_finder.h"

namespace qw::governance {

enum class GuardAction : std::uint8_t {
  kFlag,   // told of
  kCover,  // and written as "*"; of numbers the last four characters stay, of e-mail addresses what follows the "@"
  kBlock,  // and nothing of the text comes out from there on
};
const char* name_of(GuardAction action);  // "flag", "mask", "block"

struct GuardedWords {
  const KeywordList* list = nullptr;  // must outlive the guard
  GuardAction action = GuardAction::kFlag;
  std::vector<GuardAction> by_category{};  // by KeywordList::categories(); empty: `action` for all
  const char* stage = "keyword/";          // in front of the category in what is told
  GuardAction of(std::uint32_t category) const { return by_category.empty() ? action : by_category[category]; }
};

struct GuardedPatterns {
  const PatternList* list = nullptr;       // must outlive the guard
  std::vector<GuardAction> by_category{};  // by PatternList::categories()
};

// What a model says of the text as it goes on: of its last bytes whenever so many more have come, and of its end. It
// holds nothing back, so what it blocks ends the text behind where that was said, and what was let through is for the
// client to take back.
struct GuardedClasses {
  const TextClassifier* model = nullptr;  // must outlive the guard; null: none is asked
  GuardAction action = GuardAction::kFlag;
  double threshold = 0.5;                                      // a class from this score on is a finding
  static constexpr std::size_t kEvery = 256, kLooksAt = 1024;  // bytes
};

struct GuardRules {
  std::vector<GuardedWords> words{};
  std::vector<GuardedPatterns> patterns{};
  GuardedClasses classes{};
  PiiSet pii{};
  std::array<GuardAction, kPiiKinds> on_pii{};  // kFlag
  bool empty() const { return words.empty() && patterns.empty() && pii.empty() && classes.model == nullptr; }
  // Whether anything that is found would not come out as it came.
  bool changes() const;
};

struct GuardFinding {
  std::uint64_t begin = 0, end = 0;  // bytes since the text began, as it came
  // "keyword/CATEGORY", "injection/CATEGORY", "pattern/CATEGORY", "pii/KIND" or "model/CLASS" ("model/failed": it said
  // nothing)
  std::string kind;
  GuardAction action = GuardAction::kFlag;
  std::string text;        // as it came
  std::uint32_t line = 0;  // of keywords and patterns: where it stands in its file
};

class TextGuard {
 public:
  // `rules` must outlive the guard. `before`: what stands in front of the text and is none of it, but may say what a
  // number in it is.
  explicit TextGuard(const GuardRules& rules, std::string_view before = "");
  // What may go on of the text so far; findings are added in order, once nothing can be found in front of them.
  std::string push(std::string_view piece, std::vector<GuardFinding>& findings);
  std::string finish(std::vector<GuardFinding>& findings);
  // The text has ended in front of something that the rules block; what is pushed now is lost.
  bool blocked() const { return blocked_; }

 private:
  void note(std::uint64_t begin, std::uint64_t end, std::string kind, GuardAction action, std::uint32_t line);
  void cover(std::uint64_t begin, std::uint64_t end);
  void note_words(std::size_t list, std::vector<KeywordHit>& hits);
  void note_patterns(std::size_t list, std::vector<PatternHit>& hits);
  void note_data(std::vector<PiiHit>& hits);
  std::string look_at(std::string_view piece, std::vector<GuardFinding>& findings);
  void ask_model(std::vector<GuardFinding>& findings);
  std::string settle(std::uint64_t until, std::vector<GuardFinding>& findings);
  std::string let_go(std::uint64_t until);

  const GuardRules* rules_;
  std::vector<KeywordScanner> scanners_;  // of each list
  std::vector<PatternScanner> patterns_;
  PiiFinder finder_;
  std::uint64_t begin_ = 0;  // of what is held, since the text began
  std::string held_;
  std::vector<bool> covered_;              // its bytes that are not to be seen; those that it has not may be
  std::vector<GuardFinding> pending_;      // in order; something may still be found in front of them
  std::string recent_;                     // what the model is asked about
  std::uint64_t came_ = 0, asked_at_ = 0;  // bytes of the text
  std::vector<std::string> told_;          // classes of the model: each is told once
  bool blocked_ = false;
};

// A whole text.
struct Guarded {
  std::string text;
  bool blocked = false;
};
Guarded guard_text(const GuardRules& rules, std::string_view text, std::vector<GuardFinding>& findings,
                   std::string_view before = "");

// A JSON text, such as a tool's arguments: every name, text and number in it by itself, however it is escaped; names
// can say what the numbers behind them are. A number that is covered becomes a text. The same, byte for byte, where
// nothing is covered. Of a beginning of JSON (the answer was cut off) nothing is left where something would be covered.
Guarded guard_json(const GuardRules& rules, std::string_view text, std::vector<GuardFinding>& findings);

}  // namespace qw::governance
