// The audit log of a service: who signs it, and what its first record says.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "governance/audit/audit_log.h"

namespace qw::app {

// Null if neither is given; kUsage if one is.
Result<std::unique_ptr<governance::AuditLog>> open_audit(const std::string& folder, const std::string& key_file);
// Whether that would work, as far as it goes without changing anything.
Status check_audit(const std::string& folder, const std::string& key_file);

// What runs: the program's version and the SHA-256 of every file of every model.
json::Object start_record(const std::vector<std::string>& models);

}  // namespace qw::app
