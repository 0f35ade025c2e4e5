// The memory of what was done: records that can be added and never changed unseen. Each batch of records is on the
// disk, and a head over all records so far is signed and on the disk, before anyone is told that a record of it is kept
// (log_files.h says how the files look, journal.h how they get there; verify.h checks them with the public key alone).
//
// One process writes a log. append() may be called from any thread; what arrives while the disk is busy goes into one
// batch.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "base/result.h"
#include "governance/audit/signing_key.h"
#include "json/value.h"

namespace qw::governance {

class AuditLog {
 public:
  // Called once, on the log's own thread: the record is kept, or why it is not (a full disk, say).
  using Then = std::function<void(Status)>;

  // Makes the folder, or goes on with what is there: a batch that a crash cut off is completed, from the journal or by
  // a head, or taken back to its last whole record; nobody was told that such a one was kept. kResource: another
  // process has the log. kRefused: another key signed it. kBadInput: its files contradict each other, so something was
  // taken away or changed.
  static Result<std::unique_ptr<AuditLog>> open(const std::filesystem::path& folder, SigningKey key);
  ~AuditLog();  // keeps what was given to it before

  // `event`: the members of the record but "seq" and "ts", "type" among them; integers are its only numbers. A record
  // has at most half of kMaxLineBytes (log_files.h); a longer one is not kept.
  void append(json::Object event, Then then);
  // The same of a record that is made on the log's own thread: what is hashed for it costs whoever calls nothing.
  using Make = std::function<json::Object()>;
  void append_made(Make make, Then then);
  Status append_and_wait(json::Object event);

  std::uint64_t size() const;  // records that are kept
  const SigningKey& key() const;
  const std::filesystem::path& folder() const;

 private:
  struct State;
  explicit AuditLog(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace qw::governance
