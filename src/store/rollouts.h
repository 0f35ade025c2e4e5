// Served names that stand for one version of a model, and for a share of requests for another: what is rolled out, to
// whom, and all that was done about it.
//
// Errors: kBadInput for what makes no sense or does not exist; kRefused if it was changed meanwhile; kFailed where the
// database fails. Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace qw::store {

class Work;

struct Rollout {
  std::string project_id, name;
  std::string stable;        // the served model that answers
  std::string candidate;     // the one that answers a share of them; "": there is none
  std::string previous;      // what was stable before; "": nothing to go back to
  std::int64_t share = 0;    // of kWhole, the candidate's
  std::string salt;          // whom the share falls on follows from it; a new one with each candidate
  std::string evaluation;    // id of the one that the candidate passed; "": none was asked for
  std::int64_t version = 0;  // counts changes; 0: it is not there yet
  std::int64_t changed_us = 0;
  static constexpr std::int64_t kWhole = 10'000;
};

struct RolloutEvent {
  std::int64_t number = 0, created_us = 0;
  std::string action;  // "create", "canary", "promote", "rollback", "remove"
  std::string by;      // id of the key
  Rollout after;
  std::string reason;
};

class Rollouts {
 public:
  explicit Rollouts(Work& work) : work_(work) {}

  // Writes `wanted` in place of its version `wanted.version` (0: it must not be there), and that it was done. Gives
  // what was written, of the next version. A candidate that was not there before gets a salt.
  Result<Rollout> change(Rollout wanted, const std::string& action, const std::string& by, const std::string& reason);
  Result<Rollout> find(const std::string& project_id, const std::string& name);
  Result<std::vector<Rollout>> all(const std::string& project_id = "");  // "": of all projects; by project and name
  // What was done stays on record.
  Status remove(const Rollout& rollout, const std::string& by, const std::string& reason);
  // The newest first, of numbers below `before` (0: from the newest).
  Result<std::vector<RolloutEvent>> history(const std::string& project_id, const std::string& name, std::int64_t before,
                                            std::int64_t most);
  // Everything in which the model was stable or a candidate, oldest first.
  Result<std::vector<RolloutEvent>> of_model(const std::string& project_id, const std::string& model);

 private:
  Work& work_;
};

}  // namespace qw::store
