// The check of an audit log by somebody who has its files and its public key, and trusts neither the service nor its
// disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "governance/audit/log_files.h"
#include "governance/audit/signing_key.h"

namespace qw::governance {

struct AuditReport {
  std::uint64_t records = 0, heads = 0;
  std::string first_ts, last_ts;      // of the first and the last head
  Hash root{};                        // over all records
  std::vector<std::string> findings;  // "records.jsonl line 7: ..."; empty: the log is whole; at most kMaxFindings
};
inline constexpr std::size_t kMaxFindings = 20;

// Reads everything: each record is canonical and in its place, each leaf is its record's, each head is signed, follows
// the one before it and has the root of the records up to it, and the last one signs the last record. `anchor`: a head
// that was put by elsewhere; a log that was rewritten or cut since is found by it. An error: the files cannot be read.
Result<AuditReport> verify_log(const std::filesystem::path& folder, const PublicKey& key,
                               const std::optional<Head>& anchor = {});

// What shows one record to somebody who has the public key alone: {"record","path","head"}, the first and the last as
// lines. kUsage: there is no such record, or no head signs it.
Result<json::Object> prove_record(const std::filesystem::path& folder, std::uint64_t seq);
// The record, if the proof holds; else kBadInput says what does not.
Result<json::Value> check_proof(const json::Value& proof, const PublicKey& key);

}  // namespace qw::governance
