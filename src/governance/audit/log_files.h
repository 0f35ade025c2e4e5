// The files of an audit log's folder, and the form of what stands in them.
//
//   records.jsonl  a record a line: canonical JSON with "seq" (its place, from 0), "ts" (RFC 3339, UTC) and "type"
//   leaves         the Merkle leaf of each record, 32 bytes each
//   journal        the last batches of both, in case of a crash (journal.h); it is no part of the log
//   heads.jsonl    signed heads: {"key","prev","root","size","ts","sig"}; prev is the SHA-256 of the line before,
//   without its end
//
// Canonical: members sorted by name, no spaces (RFC 8785, of which numbers other than integers are left out).
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "governance/audit/merkle.h"
#include "governance/audit/signing_key.h"
#include "json/value.h"

namespace qw::governance {

inline constexpr const char* kRecordsFile = "records.jsonl";
inline constexpr const char* kLeavesFile = "leaves";
inline constexpr const char* kHeadsFile = "heads.jsonl";
inline constexpr const char* kAuditJournalFile = "journal";
// A line longer than this was not written by this program.
inline constexpr std::size_t kMaxLineBytes = std::size_t{1} << 20;

// One line. Numbers in it are integers, and names are ASCII (QW_CHECK: who makes records sees to it).
std::string canonical(const json::Value& value);

struct Head {
  std::uint64_t size = 0;  // records that it signs
  Hash root{};
  Hash previous{};      // SHA-256 of the line of the head before; zeros: it is the first
  std::string ts, key;  // key: PublicKey::id
  Signature signature{};

  std::string signed_text() const;  // what the signature is of
  std::string line() const;         // without its end
  // kBadInput if the line is not one that line() gives.
  static Result<Head> parse(std::string_view line);
};

std::string timestamp(std::int64_t unix_us);  // 2026-01-31T23:59:59.123456Z

// The lines of a file, one after the other. A last line without an end is given as such.
class LineReader {
 public:
  static Result<LineReader> open(const std::filesystem::path& path);
  LineReader(LineReader&&) noexcept;
  LineReader& operator=(LineReader&&) = delete;
  ~LineReader();
  // False: there are no more. `whole`: it had an end. kBadInput: it is longer than kMaxLineBytes.
  Result<bool> next(std::string& line, bool& whole);

 private:
  LineReader() = default;
  int fd_ = -1;
  std::string buffer_, path_;
  std::size_t at_ = 0;
  bool ended_ = false;
};

}  // namespace qw::governance
