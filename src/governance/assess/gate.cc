#include "governance/assess/gate.h"

#include <algorithm>

#include "governance/assess/results.h"

namespace qw::governance {
namespace {

std::string text_of(const json::Value& value, const char* name) {
  const json::Value* found = value.find(name);
  return found != nullptr && found->is_string() ? found->as_string() : std::string();
}

// The requirements of the rule that the report does not say are met.
std::string unmet(const AssessmentRule& rule, const Report& report) {
  const json::Value* list = report.document.find("requirements");
  if (rule.requirements.empty()) {
    // A plan that requires nothing is met by a report of nothing, which lets nobody through.
    if (list == nullptr || !list->is_array() || list->as_array().empty()) return "its plan has none";
    return report.text("result") == "met" ? "" : "all of them";
  }
  std::string out;
  for (const std::string& id : rule.requirements) {
    bool met = false;
    if (list != nullptr && list->is_array())
      for (const json::Value& r : list->as_array()) met |= text_of(r, "id") == id && text_of(r, "verdict") == "met";
    if (!met) out += (out.empty() ? "" : ", ") + id;
  }
  return out;
}

// How far a report comes, and what ends its way; "": it lets the model through.
struct Way {
  int steps = 0;
  std::string end;
};

Way way_of(const Policy& policy, const AssessedModel& model, const Report& report, const std::vector<PublicKey>& keys,
           const std::string& date) {
  const AssessmentRule& rule = *policy.profile().assessment;
  const auto is = [&](const char* member, const std::string& wanted) { return report.text(member) == wanted; };
  Way way;
  const auto stop = [&](std::string why) {
    way.end = std::move(why);
    return way;
  };
  if (model.sha256.empty() || !is("subject.sha256", model.sha256)) return stop("no report is of these files");
  ++way.steps;
  if (!is("subject.adapter_sha256", model.adapter_sha256)) return stop("no report is of it with this adapter");
  ++way.steps;
  if (std::none_of(keys.begin(), keys.end(), [&](const PublicKey& key) { return report.signed_by(key); }))
    return stop("its report is not signed by a key that counts, or was changed since");
  ++way.steps;
  if (!is("plan_sha256", to_hex(rule.plan_hash))) return stop("its report is by another plan than " + rule.plan);
  ++way.steps;
  const json::Value* subject = report.document.find("subject");
  const json::Value* declared = subject == nullptr ? nullptr : subject->find("declared");
  if (!rule.declared && !(declared != nullptr && *declared == json::Value(false)))
    return stop("its report is of a service of which the files were only told");
  ++way.steps;
  if (const std::string under = report.text("subject.policy"); !under.empty() && under != policy.hash())
    return stop("its report is under another policy");
  ++way.steps;
  const auto days = days_between(report.text("made").substr(0, 10), date);
  if (!days || *days < 0) return stop("its report is of a day to come");
  if (rule.max_age_days > 0 && *days > rule.max_age_days)
    return stop("its report is " + std::to_string(*days) + " days old, and " + std::to_string(rule.max_age_days) +
                " are allowed");
  ++way.steps;
  if (const std::string open = unmet(rule, report); !open.empty())
    return stop("requirements are not met in its report: " + open);
  return way;
}

}  // namespace

Result<const Report*> find_assessment(const Policy& policy, const AssessedModel& model,
                                      const std::vector<Report>& reports, const std::vector<PublicKey>& keys,
                                      const std::string& date) {
  QW_CHECK(policy.profile().assessment.has_value());
  Way nearest{-1, "there is no report"};
  for (const Report& report : reports) {
    Way way = way_of(policy, model, report, keys, date);
    if (way.end.empty()) return &report;
    if (way.steps > nearest.steps) nearest = std::move(way);
  }
  return fail(ErrorKind::kRefused, "the policy " + policy.profile().name + " asks for an assessment of " + model.name +
                                       " by the plan " + policy.profile().assessment->plan + ": " + nearest.end +
                                       " (qianwen govern assess)");
}

}  // namespace qw::governance
