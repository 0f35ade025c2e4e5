// Parts of a policy profile, read from its document: what is wrong with one is told by `in`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "governance/internal/members.h"
#include "governance/policy/profile.h"

namespace qw::governance {

inline constexpr const char* kActions = "must be flag, mask or block";
std::optional<GuardAction> action_named(const json::Value& value);

// Where a rule looks: "both" are those of who asks and who answers, as before there was a third.
template <class Rule>
void read_where(Members& in, Rule& out) {
  std::string where = "both";
  in.choice("where", where, {"input", "output", "both", "retrieval", "all"});
  const bool everywhere = where == "all", both = where == "both" || everywhere;
  out.in_input = both || where == "input";
  out.in_output = both || where == "output";
  out.in_retrieval = everywhere || where == "retrieval";
}

void read_side(Members& in, GuardSide& out);
void read_packs(Members& in, std::vector<KeywordPack>& out);
// What is done about who asks, and said to him: strikes, crises, companions, minors.
void read_conduct(Members& in, Profile& out);

}  // namespace qw::governance
