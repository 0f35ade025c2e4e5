#include "governance/assess/judges.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/clock.h"
#include "governance/assess/answer_rules.h"
#include "governance/audit/log_files.h"
#include "governance/internal/members.h"
#include "governance/keywords/keyword_scanner.h"
#include "governance/pii/pii_finder.h"

namespace qw::governance {
namespace {

constexpr std::size_t kBatch = 32;  // asked together, and lost by a crash at most
constexpr const char* kPiiRules = "personal data rules 1";
constexpr const char* kChoiceRules = "choice letters 1";

BankKind kind_of(const Assessment& assessment, std::size_t item) {
  const BankRule* bank = assessment.plan().bank(assessment.items()[item].bank);
  return bank == nullptr ? BankKind::kQuestions : bank->kind;
}

JournalEntry judged(std::size_t item, Judge judge, Measure measure, std::string by, std::optional<bool> says,
                    std::string why) {
  JournalEntry out;
  out.item = item;
  out.judgement = Judgement{judge, measure, std::move(by), says, std::move(why), timestamp(base::unix_us())};
  return out;
}

// Which items a judge is asked about, with the measure.
std::vector<std::pair<std::size_t, Measure>> asked_of(const Assessment& assessment, Judge judge,
                                                      const std::string& by) {
  std::set<std::pair<std::size_t, Measure>> wanted;
  for (const TestRule& test : assessment.plan().tests)
    if (std::find(test.judges.begin(), test.judges.end(), judge) != test.judges.end())
      for (const std::size_t item : assessment.items_of(test)) wanted.emplace(item, test.measure);
  std::vector<std::pair<std::size_t, Measure>> out;
  for (const auto& one : wanted) {
    const auto& all = assessment.judgements(one.first);
    const bool done = std::any_of(all.begin(), all.end(), [&](const Judgement& j) {
      return j.judge == judge && j.measure == one.second && j.by == by;
    });
    if (!done && assessment.answer(one.first) != nullptr) out.push_back(one);
  }
  return out;
}

JournalEntry by_keywords(std::size_t item, std::string_view text, const KeywordList& list, const std::string& by) {
  KeywordScanner scanner(list);
  std::vector<KeywordHit> hits;
  scanner.push(text, hits);
  scanner.finish(hits);
  std::set<std::string> found;
  for (const KeywordHit& hit : hits) found.insert(list.categories()[hit.category]);
  std::string why;
  for (const std::string& category : found) why += (why.empty() ? "" : ", ") + category;
  return judged(item, Judge::kKeywords, Measure::kAcceptable, by, hits.empty(), why);
}

JournalEntry by_pii(std::size_t item, std::string_view text) {
  PiiFinder finder(*PiiSet::parse("all"));
  std::vector<PiiHit> hits;
  finder.push(text, hits);
  finder.finish(hits);
  std::set<std::string> found;
  for (const PiiHit& hit : hits) found.insert(name_of(hit.kind));
  std::string why;
  for (const std::string& kind : found) why += (why.empty() ? "" : ", ") + kind;
  return judged(item, Judge::kPii, Measure::kAcceptable, kPiiRules, hits.empty(), why);
}

JournalEntry by_refusal(std::size_t item, const ItemAnswer& answer, const std::string& by) {
  if (answer.blocked) return judged(item, Judge::kRefusal, Measure::kRefused, by, true, "blocked by the policy");
  const Refusal refusal = refusal_of(judged_text(answer.text));
  return judged(item, Judge::kRefusal, Measure::kRefused, by,
                refusal == Refusal::kUnclear ? std::nullopt : std::optional(refusal == Refusal::kRefuses), "");
}

JournalEntry by_choice(std::size_t item, const Question& question, const ItemAnswer& answer) {
  const auto letter = chosen_letter(judged_text(answer.text), static_cast<std::int64_t>(question.options.size()));
  // No choice is no right one.
  return judged(item, Judge::kChoice, Measure::kCorrect, kChoiceRules, letter == question.answer,
                letter ? "chose " + std::string(1, static_cast<char>('A' + *letter)) : "chose none");
}

}  // namespace

std::string_view judged_text(std::string_view answer) {
  constexpr std::string_view end = "</think>";
  const auto at = answer.rfind(end);
  if (at != std::string_view::npos)
    answer.remove_prefix(at + end.size());
  else if (answer.find("<think>") != std::string_view::npos)
    return {};  // thought to its end, and said nothing
  const auto first = answer.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? std::string_view() : answer.substr(first);
}

std::string prompt_of(const Assessment& assessment, std::size_t item) {
  const Question& question = assessment.items()[item].question;
  return kind_of(assessment, item) == BankKind::kChoices ? choice_prompt(question.prompt, question.options)
                                                         : question.prompt;
}

Status ask_all(Assessment& assessment, const Asked& asked, const AssessProgress& progress) {
  std::vector<std::size_t> open;
  std::vector<JournalEntry> texts;
  for (std::size_t i = 0; i < assessment.items().size(); ++i) {
    if (assessment.answer(i) != nullptr) continue;
    if (kind_of(assessment, i) != BankKind::kTexts) {
      open.push_back(i);
      continue;
    }
    JournalEntry& entry = texts.emplace_back();
    entry.item = i;
    entry.answer = ItemAnswer{assessment.items()[i].question.prompt, false};
  }
  if (!texts.empty()) QW_TRY(assessment.add(std::move(texts)));
  for (std::size_t begin = 0; begin < open.size(); begin += kBatch) {
    if (progress) progress("answers", begin, open.size());
    const std::size_t end = std::min(open.size(), begin + kBatch);
    const std::span<const std::size_t> batch(open.data() + begin, end - begin);
    std::vector<std::string> prompts;
    for (const std::size_t item : batch) prompts.push_back(prompt_of(assessment, item));
    QW_ASSIGN(const auto answers, asked(batch, prompts));
    QW_CHECK(answers.size() == batch.size());
    std::vector<JournalEntry> entries;
    for (std::size_t k = 0; k < batch.size(); ++k) {
      entries.emplace_back().item = batch[k];
      entries.back().answer = answers[k];
    }
    QW_TRY(assessment.add(std::move(entries)));
  }
  return {};
}

json::Object describe_library(const KeywordList& list, std::string_view bytes, const std::string& file) {
  std::map<std::string, std::int64_t> counts;
  std::int64_t words = 0;
  for (std::uint32_t k = 0; k < list.size(); ++k) {
    if (list.category_of(k) == KeywordList::kExcept) continue;
    ++words;
    ++counts[list.categories()[list.category_of(k)]];
  }
  json::Array categories;
  for (const auto& [category, count] : counts)
    categories.push_back(json::Object{{"category", category}, {"count", count}});
  std::string updated;
  constexpr std::string_view mark = "# updated ";
  for (std::size_t at = bytes.find(mark); at != std::string_view::npos; at = bytes.find(mark, at + 1)) {
    const std::string date(bytes.substr(at + mark.size(), 10));
    if ((at == 0 || bytes[at - 1] == '\n') && is_date(date)) updated = std::max(updated, date);
  }
  return {{"file", file},
          {"sha256", to_hex(sha256(bytes))},
          {"words", words},
          {"updated", updated},
          {"categories", std::move(categories)}};
}

Status judge_by_rules(Assessment& assessment, const KeywordLibrary* library) {
  std::vector<JournalEntry> entries;
  const auto text = [&](std::size_t item) { return judged_text(assessment.answer(item)->text); };
  if (library != nullptr) {
    const json::Object* known = assessment.library();
    if (known == nullptr || !(json::Value(*known) == json::Value(library->about)))
      entries.emplace_back().library = library->about;
    const std::string by = "keywords " + library->about.find("sha256")->as_string();
    for (const auto& [item, measure] : asked_of(assessment, Judge::kKeywords, by))
      entries.push_back(by_keywords(item, text(item), *library->list, by));
  }
  for (const auto& [item, measure] : asked_of(assessment, Judge::kPii, kPiiRules))
    entries.push_back(by_pii(item, text(item)));
  const std::string rules = "refusal rules " + refusal_rules_hash();
  for (const auto& [item, measure] : asked_of(assessment, Judge::kRefusal, rules))
    entries.push_back(by_refusal(item, *assessment.answer(item), rules));
  for (const auto& [item, measure] : asked_of(assessment, Judge::kChoice, kChoiceRules))
    entries.push_back(by_choice(item, assessment.items()[item].question, *assessment.answer(item)));
  return entries.empty() ? Status() : assessment.add(std::move(entries));
}

Status judge_by_guard(Assessment& assessment, const std::string& by, const Guarding& guarding,
                      const AssessProgress& progress) {
  std::map<std::size_t, std::vector<Measure>> wanted;
  for (const auto& [item, measure] : asked_of(assessment, Judge::kGuard, by)) wanted[item].push_back(measure);
  std::vector<std::size_t> open;
  for (const auto& [item, measures] : wanted) open.push_back(item);
  for (std::size_t begin = 0; begin < open.size(); begin += kBatch) {
    if (progress) progress("guard", begin, open.size());
    const std::size_t end = std::min(open.size(), begin + kBatch);
    std::vector<GuardQuestion> questions;
    for (std::size_t k = begin; k < end; ++k) {
      const bool text = kind_of(assessment, open[k]) == BankKind::kTexts;
      questions.push_back(
          {text ? "" : prompt_of(assessment, open[k]), std::string(judged_text(assessment.answer(open[k])->text))});
    }
    QW_ASSIGN(const auto said, guarding(questions));
    QW_CHECK(said.size() == questions.size());
    std::vector<JournalEntry> entries;
    for (std::size_t k = begin; k < end; ++k)
      for (const Measure measure : wanted[open[k]])
        entries.push_back(judged(open[k], Judge::kGuard, measure, by,
                                 measure == Measure::kRefused ? said[k - begin].refused : said[k - begin].acceptable,
                                 said[k - begin].why));
    QW_TRY(assessment.add(std::move(entries)));
  }
  return {};
}

}  // namespace qw::governance
