// Whether a model was assessed as a policy asks before it answers the public: what a service looks at before its
// listener opens and before it takes another model, and what may look at a model that training made.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "governance/assess/report.h"
#include "governance/policy/policy.h"

namespace qw::governance {

struct AssessedModel {
  std::string name;                    // for messages
  std::string sha256, adapter_sha256;  // of its files, and of an adapter's in use; "": none is
};

// The report that lets it through: signed by one of `keys` and unchanged, by the rule's plan, of this model with this
// adapter, under this policy or none, not older than the rule says on `date` (2026-11-29), and with the requirements
// met that the rule names (all, if it names none). kRefused: there is none, and why the nearest is none. `policy` must
// have an assessment rule.
Result<const Report*> find_assessment(const Policy& policy, const AssessedModel& model,
                                      const std::vector<Report>& reports, const std::vector<PublicKey>& keys,
                                      const std::string& date);

}  // namespace qw::governance
