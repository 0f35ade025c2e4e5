// What guards found, as it is told to the audit log, to metrics and to clients: kinds, actions and counts. No text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "governance/guard/text_guard.h"
#include "json/value.h"

namespace qw::api {

struct GuardCount {
  std::string kind;  // "keyword/CATEGORY", "pii/KIND"
  governance::GuardAction action = governance::GuardAction::kFlag;
  std::int64_t count = 0;
};
using GuardCounts = std::vector<GuardCount>;  // each kind and action once

void add_counts(GuardCounts& counts, const std::vector<governance::GuardFinding>& findings);
void add_counts(GuardCounts& counts, const GuardCounts& more);
json::Array to_json(const GuardCounts& counts);  // {"kind", "action", "count"}

}  // namespace qw::api
