// Which version of a model answers to a name that is rolled out (store/rollouts.h), and whom. The same one who asks is
// answered by the same version as long as the candidate is the same and its share does not shrink.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "store/store.h"

namespace qw::api {

// Whether `subject` falls on a rollout's candidate. A share that grows keeps whom it had.
bool falls_on_candidate(const store::Rollout& rollout, std::string_view subject);

class RolloutTable {
 public:
  // Reads what there is now, and looks every `poll` what other services changed. `store` must outlive it.
  RolloutTable(store::Store& store, std::chrono::milliseconds poll);
  ~RolloutTable();
  RolloutTable(const RolloutTable&) = delete;
  RolloutTable& operator=(const RolloutTable&) = delete;

  struct Choice {
    std::string model;
    bool candidate = false;
  };
  // Nothing: the project has no such rollout. Any thread; never waits for the store.
  std::optional<Choice> choose(const std::string& project, const std::string& name, std::string_view subject) const;
  // What was just changed here counts at once.
  void refresh();

 private:
  store::Store& store_;
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, store::Rollout> rollouts_;  // by project and name
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace qw::api
