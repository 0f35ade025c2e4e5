#include "api/generation/guard_counts.h"

#include <algorithm>

namespace qw::api {
namespace {

void add(GuardCounts& counts, const std::string& kind, governance::GuardAction action, std::int64_t count) {
  const auto known = std::find_if(counts.begin(), counts.end(),
                                  [&](const GuardCount& one) { return one.kind == kind && one.action == action; });
  if (known == counts.end())
    counts.push_back({kind, action, count});
  else
    known->count += count;
}

}  // namespace

void add_counts(GuardCounts& counts, const std::vector<governance::GuardFinding>& findings) {
  for (const governance::GuardFinding& one : findings) add(counts, one.kind, one.action, 1);
}
void add_counts(GuardCounts& counts, const GuardCounts& more) {
  for (const GuardCount& one : more) add(counts, one.kind, one.action, one.count);
}

json::Array to_json(const GuardCounts& counts) {
  json::Array out;
  for (const GuardCount& one : counts)
    out.push_back(json::Object{{"kind", one.kind}, {"action", name_of(one.action)}, {"count", one.count}});
  return out;
}

}  // namespace qw::api
