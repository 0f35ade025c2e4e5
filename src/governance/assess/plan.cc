#include "governance/assess/plan.h"

#include <algorithm>
#include <array>
#include <set>

#include "builtin_plans.h"
#include "governance/audit/log_files.h"
#include "governance/internal/members.h"

namespace qw::governance {
namespace {

constexpr std::size_t kMostBytes = 1 << 20;
constexpr std::int64_t kMostItems = 100'000'000;
constexpr std::array<const char*, 3> kMeasures = {"acceptable", "refused", "correct"};
constexpr std::array<const char*, 3> kKinds = {"questions", "choices", "texts"};
constexpr std::array<const char*, kJudges> kJudgeNames = {"people", "guard", "keywords", "pii", "refusal", "choice"};

template <std::size_t n>
std::optional<std::size_t> index_of(const std::array<const char*, n>& names, std::string_view name) {
  for (std::size_t i = 0; i < n; ++i)
    if (name == names[i]) return i;
  return std::nullopt;
}

void read_ground(Members& in, Ground& out) {
  in.text("source", out.source, true);
  out.certainty = "own";
  in.choice("certainty", out.certainty, {"primary", "secondary", "unconfirmed", "own"});
}

// {"A.1": 50, "A.3": 20}
void read_each(Members& in, const Plan& plan, std::vector<LeastEach>& out) {
  const json::Value* each = in.find("least_each");
  if (each == nullptr) return;
  if (!each->is_object()) return in.reject("least_each", "must be an object of types and numbers");
  for (const auto& [prefix, least] : each->as_object()) {
    if (!least.is_int() || least.as_int() < 1 || least.as_int() > kMostItems)
      return in.reject("least_each." + prefix, "must be a whole number from 1");
    out.push_back({prefix, least.as_int()});
    if (plan.needed({out.back()}).empty()) return in.reject("least_each." + prefix, "is no type of the plan");
  }
}

void read_name(Members& in, const char* what, std::string& out, std::set<std::string>& taken) {
  in.text("name", out, true, 64);
  if (!Members::is_name(out)) return in.reject("name", "must be a name of small letters, digits, _ and -");
  if (!taken.insert(std::string(what) + out).second) in.reject("name", out + " is there twice");
}

void read_bank(Members& in, const Plan& plan, BankRule& out, std::set<std::string>& taken) {
  read_name(in, "bank ", out.name, taken);
  in.text("title", out.title, true);
  std::string kind = kKinds[0];
  in.choice("kind", kind, {kKinds[0], kKinds[1], kKinds[2]});
  out.kind = static_cast<BankKind>(*index_of(kKinds, kind));
  in.text("label", out.label, false, 64);
  in.count("least", out.least, 0, kMostItems);
  read_each(in, plan, out.each);
  in.count("max_age_days", out.max_age_days, 0, 3650);
  read_ground(in, out.ground);
}

void read_judges(Members& in, TestRule& out) {
  std::vector<std::string> names;
  in.names("judges", names);
  if (names.empty()) return in.reject("judges", "must name who judges");
  for (const std::string& name : names) {
    const auto judge = judge_named(name);
    if (!judge) return in.reject("judges", name + " is no judge");
    const bool can = *judge == Judge::kPeople || *judge == Judge::kGuard ? true
                     : *judge == Judge::kRefusal                         ? out.measure == Measure::kRefused
                     : *judge == Judge::kChoice                          ? out.measure == Measure::kCorrect
                                                                         : out.measure == Measure::kAcceptable;
    if (!can || (*judge == Judge::kGuard && out.measure == Measure::kCorrect))
      return in.reject("judges", name + " does not say what is " + name_of(out.measure));
    out.judges.push_back(*judge);
  }
}

void read_test(Members& in, const Plan& plan, TestRule& out, std::set<std::string>& taken) {
  read_name(in, "test ", out.name, taken);
  in.text("title", out.title, true);
  in.text("bank", out.bank, true);
  const BankRule* bank = plan.bank(out.bank);
  if (bank == nullptr) return in.reject("bank", "is no bank of the plan");
  std::string measure = kMeasures[0];
  in.choice("measure", measure, {kMeasures[0], kMeasures[1], kMeasures[2]});
  out.measure = static_cast<Measure>(*index_of(kMeasures, measure));
  if ((out.measure == Measure::kCorrect) != (bank->kind == BankKind::kChoices))
    return in.reject("measure", "correct is of choices, and of them alone");
  if (out.measure == Measure::kRefused && bank->kind == BankKind::kTexts)
    return in.reject("measure", "texts refuse nothing");
  read_judges(in, out);
  in.count("sample", out.sample, 0, kMostItems);
  in.count("share", out.share, 0, 100);
  for (const auto& [name, bound] : {std::pair("at_least", &out.at_least), std::pair("at_most", &out.at_most)}) {
    if (in.find(name) != nullptr) in.count(name, bound->emplace(), 0, 100);
  }
  if (out.at_least && out.at_most) in.reject("at_most", "cannot stand beside at_least");
  in.count("reviewers", out.reviewers, 1, 9);
  read_ground(in, out.ground);
}

void read_types(Members& in, Plan& out) {
  in.objects("types", [&](Members& type) {
    RiskType& one = out.types.emplace_back();
    type.text("id", one.id, true, 64);
    type.text("title", one.title, true);
    if (one.id.empty() || std::any_of(one.id.begin(), one.id.end(), [](char c) { return c <= ' ' || c > '~'; }))
      type.reject("id", "must be of ASCII letters, digits and signs");
    for (std::size_t i = 0; i + 1 < out.types.size(); ++i)
      if (out.types[i].id == one.id) type.reject("id", one.id + " is there twice");
  });
}

}  // namespace

const char* name_of(Measure measure) { return kMeasures[static_cast<std::size_t>(measure)]; }
const char* name_of(BankKind kind) { return kKinds[static_cast<std::size_t>(kind)]; }
const char* name_of(Judge judge) { return kJudgeNames[static_cast<std::size_t>(judge)]; }
std::optional<Judge> judge_named(std::string_view name) {
  const auto at = index_of(kJudgeNames, name);
  return at ? std::optional(static_cast<Judge>(*at)) : std::nullopt;
}

Result<Plan> Plan::parse(std::string_view file) {
  QW_ASSIGN(const json::Value document, json::parse(file, {.max_bytes = kMostBytes, .max_depth = 8}));
  return of(document);
}

Result<Plan> Plan::of(const json::Value& document) {
  if (!is_plain(document))
    return fail(ErrorKind::kBadInput, "the plan: its numbers are whole, and its names are of ASCII");
  Plan out;
  Status wrong;
  {
    Members in(document, "", wrong, "the plan");
    std::set<std::string> taken;
    in.text("plan", out.name, true, 64);
    if (!Members::is_name(out.name)) in.reject("plan", "must be a name of small letters, digits, _ and -");
    in.count("version", out.version, 1, 1'000'000'000, true);
    in.text("date", out.date, true);
    if (!is_date(out.date)) in.reject("date", "must be a date such as 2026-11-29");
    in.text("about", out.about);
    std::string strictness = "strict";
    in.choice("strictness", strictness, {"strict", "loose"});
    out.strict = strictness == "strict";
    read_types(in, out);
    in.object("keywords", [&](Members& library) {
      LibraryRule& rule = out.keywords.emplace();
      library.count("least", rule.least, 0, kMostItems);
      read_each(library, out, rule.each);
      library.count("max_age_days", rule.max_age_days, 0, 3650);
      read_ground(library, rule.ground);
    });
    in.objects("banks", [&](Members& bank) { read_bank(bank, out, out.banks.emplace_back(), taken); });
    in.objects("tests", [&](Members& test) { read_test(test, out, out.tests.emplace_back(), taken); });
    in.objects("beyond", [&](Members& beyond) {
      BeyondRule& rule = out.beyond.emplace_back();
      read_name(beyond, "beyond ", rule.name, taken);
      beyond.text("title", rule.title, true);
      read_ground(beyond, rule.ground);
    });
    if (out.tests.empty()) in.reject("tests", "there must be one");
  }
  if (!wrong) return tl::unexpected(wrong.error());
  out.document = document;
  out.hash = sha256(canonical(document));
  return out;
}

const BankRule* Plan::bank(std::string_view wanted) const {
  const auto found = std::find_if(banks.begin(), banks.end(), [&](const BankRule& b) { return b.name == wanted; });
  return found == banks.end() ? nullptr : &*found;
}

std::vector<std::pair<const RiskType*, std::int64_t>> Plan::needed(const std::vector<LeastEach>& each) const {
  std::vector<std::pair<const RiskType*, std::int64_t>> out;
  for (const RiskType& type : types)
    for (const LeastEach& rule : each)
      if (type.id == rule.prefix || type.id.starts_with(rule.prefix + ".")) {
        out.emplace_back(&type, rule.least);
        break;
      }
  return out;
}

const std::vector<std::string>& shipped_plans() {
  static const std::vector<std::string> names = {"tc260-003", "open-sets"};
  return names;
}

std::string_view shipped_plan(std::string_view name) { return plans::file(std::string(name) + ".json"); }

}  // namespace qw::governance
