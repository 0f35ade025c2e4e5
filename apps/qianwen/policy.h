// The policies of a service: which profiles are followed, by whom, and whether this service can.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "commands.h"
#include "governance/policy/policy.h"
#include "governance/watermark/mark_key.h"

namespace qw::app {

struct PolicyOptions {
  std::string policy, packs, key;
  std::vector<std::string> of_projects, assessments;
  void add_to(CLI::App& cmd);
};

// A profile that comes with the program, by name, or a file's.
Result<governance::Profile> open_profile(const std::string& name_or_file);
// With its keyword packs: of `packs`, or beside the profile's file.
// `guard_model`: what a profile that names it has asked; null: none.
Result<std::unique_ptr<const governance::Policy>> open_policy(const std::string& name_or_file, const std::string& packs,
                                                              const governance::TextClassifier* guard_model = nullptr);

// `service`: but for its watermark, which `marks` tell by project. Null if none is named. kRefused: one was not signed
// as it must be, or asks for what the service does not do.
Result<std::unique_ptr<governance::PolicySet>> load_policies(const PolicyOptions& o,
                                                             governance::ServiceAbilities service,
                                                             const governance::MarkKeyHolder* marks);
// kRefused: others than this machine's could reach `host`, and approvals that a policy requires are not in the log.
Status check_approvals(const PolicyOptions& o, const governance::PolicySet& policies, const std::string& host,
                       const std::string& audit_log, const std::string& audit_key);
// Whose word counts where a profile names nobody: the policy key's, or else the audit log's.
Result<std::vector<governance::PublicKey>> usual_keys(const PolicyOptions& o, const std::string& audit_key);
// What is followed, for the record of a start.
json::Array describe(const governance::PolicySet& policies);

}  // namespace qw::app
