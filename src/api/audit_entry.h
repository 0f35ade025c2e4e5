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
#include "store/contents.h"
#include "store/ledger.h"

namespace qw::api {

// What is kept of words, as the policy of whoever asks has it: hashes under a key, without a policy; nothing; or
// hashes, and the words themselves encrypted elsewhere.
enum class ContentKept : std::uint8_t { kHashed, kDropped, kEncrypted };
ContentKept content_of(const Exchange& exchange);
// Whether words are kept, so that they can be read and answers drawn again.
bool keeps_content(const Exchange& exchange);

// The part that is known before the answer. Only for an exchange with a log.
json::Object audit_entry(const char* type, const Exchange& exchange, const ServedModel& model,
                         std::span<const std::vector<engine::TokenId>> prompts);
// How tokens were drawn: what draws the same ones again.
void add_sampling(json::Object& entry, const sampling::SamplingParams& params);
void add_usage(json::Object& entry, const store::Tokens& used, const std::string& outcome);
// A text as the log knows it. Sets no member where nothing is kept of words.
void set_concealed(json::Object& entry, const char* name, const Exchange& exchange, std::string_view text);
std::string concealed(const Exchange& exchange, std::string_view text);

// `content` encrypted, for the store; `entry` names it, and has the hash of its bytes. For an exchange with keys for
// that and somebody who asks.
store::Content seal(const Exchange& exchange, const json::Object& content, json::Object& entry);

// Hands the entry over; `then` may come from another thread, with what the log says. An empty entry: at once, all is
// well.
void keep(const Exchange& exchange, json::Object entry, std::function<void(Status)> then);
// The same of an entry that the log's own thread makes. For an exchange with a log.
void keep_made(const Exchange& exchange, std::function<json::Object()> make, std::function<void(Status)> then);
ApiError not_kept();  // what clients are told of an answer that the log does not have

}  // namespace qw::api
