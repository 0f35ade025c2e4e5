// What a policy counts of whoever asks, and what he is told of it. The counting is the store's (store/conduct.h).
#pragma once

#include <optional>
#include <string>

#include "api/error.h"
#include "api/exchange.h"
#include "governance/policy/policy.h"
#include "store/conduct.h"

namespace qw::api {

// What is said after long use where the profile has no words of its own.
inline constexpr const char* kReminder =
    "A reminder: you are talking with an AI, not with a person. It may be a good moment for a break.";

// Whose conduct it is: the key's user, or the key. "": nobody is known.
std::string subject_of(const Exchange& exchange);
// Whoever the client says asks, under the key's project; no name of his is in it. "": the client does not say.
std::string end_user_of(const Exchange& exchange);
bool is_minor(const Exchange& exchange, const governance::Policy& policy);
bool needs_consent(const Exchange& exchange, const governance::Policy& policy);

// Of a request that does not go on: why, and until when. Nothing: it does.
std::optional<ApiError> held_back(const store::Met& met, Exchange& exchange);
// What is added to a refusal that led to a measure.
std::string warning_of(const store::Conduct& conduct);
json::Object conduct_note(const store::Conduct& conduct);  // for the audit log
json::Array helplines_of(const governance::CrisisRule& rule);

}  // namespace qw::api
