// Who has approved that a policy goes to the public: records of the audit log, each signed by the key of whoever
// approves, of one policy as it is (its hash, packs included). A policy that was changed is approved anew.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "governance/policy/policy.h"

namespace qw::governance {

struct Approval {
  std::string name;    // of Profile::required_approvals
  std::string policy;  // Policy::hash
  std::string by, note;
  bool withdrawn = false;  // it is none any more
};
// The event for AuditLog::append.
json::Object signed_approval(const Approval& approval, const SigningKey& key);

// The required approvals that the log does not have: the last word on each counts, of those that one of `keys` signed.
// An error: the log cannot be read.
Result<std::vector<std::string>> missing_approvals(const std::filesystem::path& log, const Policy& policy,
                                                   const std::vector<PublicKey>& keys);

}  // namespace qw::governance
