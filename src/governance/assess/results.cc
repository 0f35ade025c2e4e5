#include "governance/assess/results.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <set>

#include "governance/assess/judges.h"
#include "governance/assess/statistics.h"
#include "governance/audit/log_files.h"
#include "governance/internal/members.h"

namespace qw::governance {
namespace {

constexpr double kMillion = 1e6;
constexpr std::size_t kMostNamed = 8;  // of types that lack questions

std::string text_of(const json::Value& value, const char* name) {
  const json::Value* found = value.find(name);
  return found != nullptr && found->is_string() ? found->as_string() : std::string();
}
std::int64_t int_of(const json::Value* value, const char* name) {
  const json::Value* found = value == nullptr ? nullptr : value->find(name);
  return found != nullptr && found->is_int() ? found->as_int() : 0;
}

const json::Value* bank_in(const json::Object& setup, const std::string& name) {
  const json::Value* banks = setup.find("banks");
  if (banks == nullptr || !banks->is_array()) return nullptr;
  for (const json::Value& bank : banks->as_array())
    if (text_of(bank, "name") == name) return &bank;
  return nullptr;
}

struct Counts {
  std::int64_t items = 0, hits = 0, misses = 0;
  std::int64_t undecided() const { return items - hits - misses; }
  void add(const ResultRow& row) {
    ++items;
    hits += row.says == true;
    misses += row.says == false;
  }
};

std::int64_t millionths(double share) { return std::llround(share * kMillion); }

// ---- requirements ---------------------------------------------------------------------------------------------------

class Requirements {
 public:
  void add(std::string id, std::string title, const Ground& ground, std::string wanted, std::string found,
           std::string_view verdict, std::string why = "") {
    list_.push_back(json::Object{{"id", std::move(id)},
                                 {"title", std::move(title)},
                                 {"source", ground.source},
                                 {"certainty", ground.certainty},
                                 {"wanted", std::move(wanted)},
                                 {"found", std::move(found)},
                                 {"verdict", std::string(verdict)},
                                 {"why", std::move(why)}});
    failed_ |= verdict == kNotMet;
    open_ |= verdict == kNotMeasured;
  }
  void at_least(std::string id, std::string title, const Ground& ground, std::int64_t least, std::int64_t found) {
    add(std::move(id), std::move(title), ground, "at least " + std::to_string(least), std::to_string(found),
        found >= least ? kMet : kNotMet);
  }
  std::string result() const { return failed_ ? "not met" : open_ ? "incomplete" : "met"; }
  json::Array take() { return std::move(list_); }

  static constexpr std::string_view kMet = "met", kNotMet = "not met", kNotMeasured = "not measured";

 private:
  json::Array list_;
  bool failed_ = false, open_ = false;
};

// `counts`: of things by type, as [{`name`: ..., "count": ...}].
void each_type(Requirements& out, const std::string& id, const std::string& title, const Ground& ground,
               const Plan& plan, const std::vector<LeastEach>& each, const json::Value* counts, const char* name) {
  const auto needed = plan.needed(each);
  if (needed.empty()) return;
  std::size_t lacking = 0;
  std::string named;
  for (const auto& [type, least] : needed) {
    std::int64_t count = 0;
    if (counts != nullptr && counts->is_array())
      for (const json::Value& one : counts->as_array()) {
        const std::string what = text_of(one, name);  // "A.1.a", or "A.1.a words for people"
        if (what == type->id || what.starts_with(type->id + " ")) count += int_of(&one, "count");
      }
    if (count >= least) continue;
    if (++lacking <= kMostNamed)
      named += (named.empty() ? "" : ", ") + type->id + " " + std::to_string(count) + " of " + std::to_string(least);
  }
  if (lacking > kMostNamed) named += " and " + std::to_string(lacking - kMostNamed) + " more";
  std::string wanted;
  for (const LeastEach& rule : each)
    wanted += (wanted.empty() ? "" : ", ") + std::to_string(rule.least) + " of each type of " + rule.prefix;
  out.add(id, title, ground, wanted,
          std::to_string(needed.size() - lacking) + " of " + std::to_string(needed.size()) + " types",
          lacking == 0 ? Requirements::kMet : Requirements::kNotMet, named);
}

void age(Requirements& out, const std::string& id, const std::string& title, const Ground& ground,
         std::int64_t most_days, const std::string& updated, const std::string& date) {
  if (most_days == 0) return;
  const std::string wanted = "updated within " + std::to_string(most_days) + " days";
  const auto days = days_between(updated, date);
  if (!days)
    return out.add(id, title, ground, wanted, "", Requirements::kNotMeasured,
                   "the file does not say when it was updated");
  out.add(id, title, ground, wanted, "updated " + updated,
          *days <= most_days ? Requirements::kMet : Requirements::kNotMet, *days < 0 ? "a day to come" : "");
}

void require_library(Requirements& out, const Plan& plan, const json::Object* library, const std::string& date) {
  if (!plan.keywords) return;
  const LibraryRule& rule = *plan.keywords;
  const std::string title = "keyword library: ";
  if (library == nullptr) {
    out.add("keywords.total", title + "size", rule.ground, "at least " + std::to_string(rule.least), "",
            Requirements::kNotMeasured, "no keyword library was given");
    return;
  }
  const json::Value about(*library);
  out.at_least("keywords.total", title + "size", rule.ground, rule.least, int_of(&about, "words"));
  each_type(out, "keywords.each", title + "words of each type", rule.ground, plan, rule.each, about.find("categories"),
            "category");
  age(out, "keywords.age", title + "age", rule.ground, rule.max_age_days, text_of(about, "updated"), date);
}

void require_bank(Requirements& out, const Plan& plan, const BankRule& rule, const json::Value* bank,
                  const std::string& date) {
  const std::string id = "bank." + rule.name;
  if (bank == nullptr) {
    if (rule.least > 0 || !rule.each.empty())
      out.add(id + ".total", rule.title + ": size", rule.ground, "at least " + std::to_string(rule.least), "",
              Requirements::kNotMeasured, "the bank was not given");
    return;
  }
  if (rule.least > 0)
    out.at_least(id + ".total", rule.title + ": size", rule.ground, rule.least, int_of(bank, "questions"));
  each_type(out, id + ".each", rule.title + ": questions of each type", rule.ground, plan, rule.each,
            bank->find("types"), "type");
  age(out, id + ".age", rule.title + ": age", rule.ground, rule.max_age_days, text_of(*bank, "updated"), date);
}

// Decided also where some are undecided: if even the worst, or only the best, of what they can become decides.
void require_share(Requirements& out, const TestRule& test, const Counts& n, std::int64_t wanted, bool enough) {
  if (!test.at_least && !test.at_most) return;
  const std::int64_t bound = test.at_least ? *test.at_least : *test.at_most;
  const std::int64_t least = n.hits * 100, most = (n.hits + n.undecided()) * 100, line = bound * n.items;
  const bool met = test.at_least ? least >= line : most <= line;
  const bool failed = test.at_least ? most < line : least > line;
  std::string_view verdict = met ? Requirements::kMet : failed ? Requirements::kNotMet : Requirements::kNotMeasured;
  std::string why;
  if (n.items == 0) {
    verdict = Requirements::kNotMeasured;
    why = "nothing was drawn";
  } else if (verdict == Requirements::kNotMeasured) {
    why = std::to_string(n.undecided()) + " of " + std::to_string(n.items) + " are undecided";
  } else if (met && !enough) {
    verdict = Requirements::kNotMeasured;
    why = "the sample is too small: " + std::to_string(n.items) + " of " + std::to_string(wanted);
  }
  const std::int64_t decided = n.hits + n.misses;
  out.add("test." + test.name + ".share", test.title + ": " + name_of(test.measure), test.ground,
          (test.at_least ? "at least " : "at most ") + std::to_string(bound) + " %",
          decided == 0 ? "" : std::to_string(n.hits) + " of " + std::to_string(decided), verdict, why);
}

json::Object test_of(const TestRule& test, const Counts& all, std::int64_t wanted, const std::vector<ResultRow>& rows) {
  json::Object out{{"name", test.name},
                   {"title", test.title},
                   {"bank", test.bank},
                   {"measure", name_of(test.measure)},
                   {"wanted", wanted},
                   {"items", all.items},
                   {"hits", all.hits},
                   {"misses", all.misses},
                   {"undecided", all.undecided()}};
  const std::int64_t decided = all.hits + all.misses;
  if (decided > 0) {
    const bool exact = is_extreme(all.hits, decided);
    const Interval interval = exact ? clopper_pearson(all.hits, decided) : wilson(all.hits, decided);
    out.set("share", millionths(static_cast<double>(all.hits) / static_cast<double>(decided)));
    out.set("low", millionths(interval.low));
    out.set("high", millionths(interval.high));
    out.set("interval", exact ? "clopper-pearson" : "wilson");
    const double bound = static_cast<double>(test.at_least ? *test.at_least : test.at_most.value_or(0)) / 100;
    if (test.at_least || test.at_most)
      out.set("surely", test.at_least ? interval.low >= bound : interval.high <= bound);
  }
  std::map<std::string, Counts> types;
  std::map<std::string, std::int64_t> judges;
  for (const ResultRow& row : rows) {
    if (row.test != test.name) continue;
    types[row.type].add(row);
    if (row.says) ++judges[row.judge + "\n" + row.by];
  }
  json::Array by_type, by_judge;
  for (const auto& [type, n] : types)
    by_type.push_back(json::Object{
        {"type", type}, {"items", n.items}, {"hits", n.hits}, {"misses", n.misses}, {"undecided", n.undecided()}});
  for (const auto& [judge, n] : judges) {
    const auto cut = judge.find('\n');
    by_judge.push_back(json::Object{{"judge", judge.substr(0, cut)}, {"by", judge.substr(cut + 1)}, {"items", n}});
  }
  out.set("by_type", std::move(by_type));
  out.set("decided_by", std::move(by_judge));
  return out;
}

}  // namespace

std::optional<std::int64_t> days_between(std::string_view from, std::string_view to) {
  using namespace std::chrono;
  const auto day = [](std::string_view text) -> std::optional<sys_days> {
    if (!is_date(text)) return std::nullopt;
    const auto number = [&](std::size_t at, std::size_t n) { return std::stoi(std::string(text.substr(at, n))); };
    const year_month_day date{year(number(0, 4)), month(static_cast<unsigned>(number(5, 2))),
                              std::chrono::day(static_cast<unsigned>(number(8, 2)))};
    return date.ok() ? std::optional(sys_days(date)) : std::nullopt;
  };
  const auto a = day(from), b = day(to);
  return a && b ? std::optional<std::int64_t>((*b - *a).count()) : std::nullopt;
}

std::string ResultRow::line() const {
  return canonical(json::Object{{"test", test},
                                {"bank", bank},
                                {"id", id},
                                {"type", type},
                                {"prompt_sha256", prompt_sha256},
                                {"answer_sha256", answer_sha256},
                                {"says", says ? json::Value(*says) : json::Value()},
                                {"judge", judge},
                                {"by", by}});
}

Result<ResultRow> ResultRow::parse(std::string_view line) {
  QW_ASSIGN(const json::Value read, json::parse(line));
  ResultRow out{text_of(read, "test"), text_of(read, "bank"),          text_of(read, "id"),
                text_of(read, "type"), text_of(read, "prompt_sha256"), text_of(read, "answer_sha256"),
                std::nullopt,          text_of(read, "judge"),         text_of(read, "by")};
  const json::Value* says = read.find("says");
  if (says == nullptr || !(says->is_null() || says->is_bool()))
    return fail(ErrorKind::kBadInput, "is no row of an assessment");
  if (says->is_bool()) out.says = says->as_bool();
  if (out.line() != line) return fail(ErrorKind::kBadInput, "is no row of an assessment");
  return out;
}

Verdict verdict_of(const TestRule& test, const std::vector<Judgement>& judgements) {
  for (const Judge judge : test.judges) {
    std::int64_t yes = 0, no = 0;
    std::set<std::string> by;
    for (const Judgement& j : judgements) {
      if (j.judge != judge || j.measure != test.measure || !j.says) continue;
      (*j.says ? yes : no) += 1;
      by.insert(j.by);
    }
    if (yes + no == 0) continue;
    Verdict out;
    if (judge == Judge::kPeople && (yes + no < test.reviewers || yes == no)) return out;
    out.says = yes > no;
    out.judge = name_of(judge);
    for (const std::string& one : by) out.by += (out.by.empty() ? "" : ", ") + one;
    return out;
  }
  return {};
}

std::vector<ResultRow> rows_of(const Assessment& assessment) {
  std::vector<ResultRow> out;
  for (const TestRule& test : assessment.plan().tests)
    for (const std::size_t item : assessment.items_of(test)) {
      const SampledItem& sampled = assessment.items()[item];
      ResultRow& row = out.emplace_back();
      row.test = test.name;
      row.bank = sampled.bank;
      row.id = sampled.question.id;
      row.type = sampled.question.type;
      row.prompt_sha256 = to_hex(sha256(prompt_of(assessment, item)));
      const ItemAnswer* answer = assessment.answer(item);
      if (answer == nullptr) continue;
      row.answer_sha256 = to_hex(sha256(answer->text));
      const Verdict verdict = verdict_of(test, assessment.judgements(item));
      row.says = verdict.says;
      row.judge = verdict.judge;
      row.by = verdict.by;
    }
  return out;
}

json::Object results_of(const Plan& plan, const json::Object& setup, const json::Object* library,
                        const std::vector<ResultRow>& rows, const std::string& date) {
  Requirements requirements;
  require_library(requirements, plan, library, date);
  for (const BankRule& rule : plan.banks) require_bank(requirements, plan, rule, bank_in(setup, rule.name), date);
  json::Array tests;
  for (const TestRule& test : plan.tests) {
    const json::Value* bank = bank_in(setup, test.bank);
    const std::int64_t questions = int_of(bank, "questions");
    const std::int64_t wanted = std::max(test.sample, (test.share * questions + 99) / 100);
    Counts all;
    for (const ResultRow& row : rows)
      if (row.test == test.name) all.add(row);
    tests.push_back(test_of(test, all, wanted, rows));
    if (test.at_least || test.at_most)
      requirements.add("test." + test.name + ".sample", test.title + ": sample", test.ground,
                       test.share > 0 && test.sample == 0 ? std::to_string(test.share) + " % of the bank"
                                                          : "at least " + std::to_string(wanted),
                       bank == nullptr ? "" : std::to_string(all.items),
                       bank == nullptr                        ? Requirements::kNotMeasured
                       : all.items >= wanted && all.items > 0 ? Requirements::kMet
                                                              : Requirements::kNotMet,
                       bank == nullptr ? "the bank was not given" : "");
    require_share(requirements, test, all, wanted, all.items >= wanted);
  }
  for (const BeyondRule& rule : plan.beyond)
    requirements.add("beyond." + rule.name, rule.title, rule.ground, "", "", Requirements::kNotMeasured,
                     "this program does not look at it");
  const std::string result = requirements.result();
  return {{"tests", std::move(tests)}, {"requirements", requirements.take()}, {"result", result}};
}

json::Array agreements_of(const Assessment& assessment) {
  std::map<std::tuple<std::string, std::string, std::string>, std::vector<std::pair<bool, bool>>> pairs;
  for (std::size_t i = 0; i < assessment.items().size(); ++i) {
    std::vector<const Judgement*> said;
    for (const Judgement& j : assessment.judgements(i))
      if (j.judge == Judge::kPeople && j.says) said.push_back(&j);
    std::sort(said.begin(), said.end(), [](const auto* a, const auto* b) { return a->by < b->by; });
    for (std::size_t a = 0; a < said.size(); ++a)
      for (std::size_t b = a + 1; b < said.size(); ++b)
        if (said[a]->measure == said[b]->measure)
          pairs[{said[a]->by, said[b]->by, name_of(said[a]->measure)}].emplace_back(*said[a]->says, *said[b]->says);
  }
  json::Array out;
  for (const auto& [who, said] : pairs) {
    const Agreement a = agreement(said);
    out.push_back(json::Object{{"a", std::get<0>(who)},
                               {"b", std::get<1>(who)},
                               {"measure", std::get<2>(who)},
                               {"items", a.items},
                               {"same", a.same},
                               {"kappa_millionths", millionths(a.kappa)}});
  }
  return out;
}

}  // namespace qw::governance
