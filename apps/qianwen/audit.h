// The audit log of a service: who signs it, and what its first record says.
#pragma once

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "governance/audit/audit_log.h"
#include "governance/policy/policy.h"
#include "identity_book.h"

namespace qw::app {

// Null if neither is given; kUsage if one is.
Result<std::unique_ptr<governance::AuditLog>> open_audit(const std::string& folder, const std::string& key_file);
// Whether that would work, as far as it goes without changing anything.
Status check_audit(const std::string& folder, const std::string& key_file);

// What runs: the program's version and the SHA-256 of every file of every model, read on a thread of its own: a gigabyte takes half a
// second, which may go by while models are loaded.
class StartRecord {
 public:
  StartRecord(IdentityBook& book, std::vector<std::string> models);
  ~StartRecord();  // a record that nobody took is not made to its end
  StartRecord(const StartRecord&) = delete;
  StartRecord& operator=(const StartRecord&) = delete;
  json::Object take(const governance::PolicySet* policies);  // once; null: none is followed

 private:
  IdentityBook& book_;
  std::future<json::Object> record_;
};

}  // namespace qw::app
