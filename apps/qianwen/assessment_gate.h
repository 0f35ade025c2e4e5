// What stands between a model and the public where a policy asks for an assessment.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "governance/assess/gate.h"
#include "policy.h"

namespace qw::app {

class AssessmentGate {
 public:
  // Null: no policy asks for one, or nobody but this machine could reach `host`. `policies` must outlive it.
  static Result<std::unique_ptr<AssessmentGate>> make(const PolicyOptions& o, const governance::PolicySet& policies,
                                                      const std::string& host, const std::string& audit_key);
  // Before a model is loaded with these adapters: it alone, and it with each of them. Reads all their files (half a
  // second a gigabyte) and the reports. kRefused: one was not assessed as a policy asks. Any thread.
  Status admit(const std::string& model, const std::vector<std::string>& adapters) const;
  // What was admitted so far, by which report, for the record of a start.
  json::Array admitted() const;

 private:
  struct Asking {
    const governance::Policy* policy;
    std::vector<governance::PublicKey> keys;
  };
  Result<std::vector<governance::Report>> reports() const;
  Status admit_one(const governance::AssessedModel& model, const std::vector<governance::Report>& reports) const;

  std::vector<std::string> places_;
  std::vector<Asking> asking_;
  mutable std::mutex mutex_;
  mutable json::Array admitted_;
};

}  // namespace qw::app
