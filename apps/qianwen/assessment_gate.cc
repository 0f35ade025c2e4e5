#include "assessment_gate.h"

#include <algorithm>
#include <filesystem>

#include "base/clock.h"
#include "governance/audit/log_files.h"
#include "model_identity.h"
#include "net/ip_range.h"
#include "open_model.h"

namespace qw::app {

namespace fs = std::filesystem;
using namespace governance;

Result<std::unique_ptr<AssessmentGate>> AssessmentGate::make(const PolicyOptions& o, const PolicySet& policies,
                                                             const std::string& host, const std::string& audit_key) {
  if (net::is_loopback_host(host)) return std::unique_ptr<AssessmentGate>();
  auto out = std::make_unique<AssessmentGate>();
  out->places_ = o.assessments;
  for (const auto& [project, policy] : policies.all()) {
    const Profile& p = policy->profile();
    if (!p.assessment) continue;
    std::vector<PublicKey> keys = p.assessment->assessors.empty() ? p.approvers : p.assessment->assessors;
    if (keys.empty()) {
      QW_ASSIGN(keys, usual_keys(o, audit_key));
    }
    if (keys.empty())
      return fail(ErrorKind::kRefused, "serve: the policy " + p.name +
                                           " asks for an assessment and names nobody whose " +
                                           "report counts (assessors, approvers, --policy-key or --audit-key)");
    out->asking_.push_back({policy.get(), std::move(keys)});
  }
  if (out->asking_.empty()) return std::unique_ptr<AssessmentGate>();
  return out;
}

// A folder's: its report.json, and those of the folders in it, as govern assess leaves them.
Result<std::vector<Report>> AssessmentGate::reports() const {
  std::vector<Report> out;
  for (const std::string& place : places_) {
    std::error_code error;
    if (!fs::is_directory(place, error)) {
      QW_ASSIGN(out.emplace_back(), Report::read(place));
      continue;
    }
    std::vector<fs::path> files;
    if (fs::exists(fs::path(place) / kReportFile, error)) files.push_back(fs::path(place) / kReportFile);
    for (const auto& entry : fs::directory_iterator(place, error)) {
      if (fs::path inner = entry.path() / kReportFile; fs::exists(inner, error)) files.push_back(std::move(inner));
    }
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      QW_ASSIGN(out.emplace_back(), Report::read(file));
    }
  }
  return out;
}

Status AssessmentGate::admit_one(const AssessedModel& model, const std::vector<Report>& reports) const {
  const std::string date = timestamp(base::unix_us()).substr(0, 10);
  for (const Asking& asking : asking_) {
    QW_ASSIGN(const Report* report, find_assessment(*asking.policy, model, reports, asking.keys, date));
    json::Object record{{"model", model.name},
                        {"model_sha256", model.sha256},
                        {"adapter_sha256", model.adapter_sha256},
                        {"report", to_hex(report->hash())},
                        {"policy", asking.policy->hash()}};
    const std::lock_guard lock(mutex_);
    admitted_.emplace_back(std::move(record));
  }
  return {};
}

Status AssessmentGate::admit(const std::string& model, const std::vector<std::string>& adapters) const {
  static const std::atomic<bool> never{false};
  QW_ASSIGN(const std::vector<Report> all, reports());
  QW_ASSIGN(const json::Object identity, model_identity(model, never));
  AssessedModel assessed{served_name(model), identity.find("sha256")->as_string(), ""};
  QW_TRY(admit_one(assessed, all));
  for (const std::string& adapter : adapters) {
    QW_ASSIGN(const json::Object own, model_identity(adapter, never));
    assessed.name = served_name(model) + " with the adapter " + adapter;
    assessed.adapter_sha256 = own.find("sha256")->as_string();
    QW_TRY(admit_one(assessed, all));
  }
  return {};
}

json::Array AssessmentGate::admitted() const {
  const std::lock_guard lock(mutex_);
  return admitted_;
}

}  // namespace qw::app
