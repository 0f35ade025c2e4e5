// What the audit log (governance/audit/audit_log.h) is told of an answer: who asked for it, which model gave it and how
// it was drawn, and what went in and came out as keyed hashes. No text stands in it. docs/operations/audit.md lists the
// members.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "api/exchange.h"
#include "api/served_model.h"
#include "sampling/params.h"
#include "store/ledger.h"

namespace qw::api {

// The part that is known before the answer. Only for an exchange with a log.
json::Object audit_entry(const char* type, const Exchange& exchange, const ServedModel& model,
                         std::span<const std::vector<engine::TokenId>> prompts);
// How tokens were drawn: what draws the same ones again.
void add_sampling(json::Object& entry, const sampling::SamplingParams& params);
void add_usage(json::Object& entry, const store::Tokens& used, const std::string& outcome);
// A text as the log knows it.
std::string concealed(const Exchange& exchange, std::string_view text);

// Hands the entry over; `then` may come from another thread, with what the log says. An empty entry: at once, all is
// well.
void keep(const Exchange& exchange, json::Object entry, std::function<void(Status)> then);
ApiError not_kept();  // what clients are told of an answer that the log does not have

}  // namespace qw::api
