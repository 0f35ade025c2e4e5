// An assessment under way, in a folder of its own: what is assessed by which plan, which questions were drawn, and
// every answer and judgement so far. What was added is on the disk; whoever comes after a crash goes on behind it.
//
//   assessment.json  what it is of, written once: canonical JSON, see Assessment::setup()
//   sample.jsonl     the questions that were drawn, a line each
//   journal.jsonl    answers, judgements, keyword libraries, in the order in which they came; only added to
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "governance/assess/bank.h"
#include "governance/assess/plan.h"
#include "json/value.h"

namespace qw::governance {

inline constexpr const char* kSetupFile = "assessment.json";
inline constexpr const char* kSampleFile = "sample.jsonl";
inline constexpr const char* kJournalFile = "journal.jsonl";

// A question that was drawn.
struct SampledItem {
  std::string bank;
  Question question;
};

struct ItemAnswer {
  std::string text;      // what the model wrote, its thinking too
  bool blocked = false;  // it or the question was blocked by the policy; `text` is what is said instead
};

struct Judgement {
  Judge judge = Judge::kPeople;
  Measure measure = Measure::kAcceptable;
  std::string by;            // the person, or what judged with its version or hash
  std::optional<bool> says;  // whether the measure holds of the answer; nothing: whoever it was cannot tell
  std::string why, ts;
};

// One line of the journal.
struct JournalEntry {
  std::optional<std::size_t> item;  // index of the sample; of a library none
  std::optional<ItemAnswer> answer;
  std::optional<Judgement> judgement;
  std::optional<json::Object> library;

  std::string line() const;  // canonical, without its end
  // kBadInput: not such a line, or of no item of the sample.
  static Result<JournalEntry> parse(std::string_view line, std::size_t items);
};

// {"bank","id","type","prompt"} and of choices {"options","answer"}.
std::string sample_line(const SampledItem& item);
Result<SampledItem> parse_sample_line(std::string_view line);

class Assessment {
 public:
  // `setup`: canonical JSON's plain members; "plan" (the document), "plan_sha256", "seed", "subject", "banks" among
  // them. Makes the folder, or goes on with what is there: kRefused naming what is another there. kResource: another
  // process has it. kBadInput: its files are damaged.
  static Result<std::unique_ptr<Assessment>> begin(const std::filesystem::path& folder, json::Object setup,
                                                   const std::vector<SampledItem>& sample);
  static Result<std::unique_ptr<Assessment>> open(const std::filesystem::path& folder);
  ~Assessment();

  const std::filesystem::path& folder() const;
  const Plan& plan() const;
  const json::Object& setup() const;  // "sample_sha256" and "begun" among its members
  const std::vector<SampledItem>& items() const;
  const ItemAnswer* answer(std::size_t item) const;                  // null: not yet
  const std::vector<Judgement>& judgements(std::size_t item) const;  // the last of each judge, measure and person
  const json::Object* library() const;                               // the last keyword library; null: none
  // Those of a bank that a test looks at: the first drawn.
  std::vector<std::size_t> items_of(const TestRule& test) const;

  // On the disk when it returns. kResource: the disk is full; the journal is as it was.
  Status add(std::vector<JournalEntry> entries);

 private:
  struct State;
  explicit Assessment(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// How many a test looks at of a bank of that size.
std::int64_t wanted_of(const TestRule& test, std::int64_t questions, std::int64_t limit);

}  // namespace qw::governance
