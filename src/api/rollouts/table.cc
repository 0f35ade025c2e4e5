#include "api/rollouts/table.h"

#include <cstdlib>

#include "base/log.h"
#include "base/sha256.h"

namespace qw::api {

bool falls_on_candidate(const store::Rollout& rollout, std::string_view subject) {
  if (rollout.candidate.empty() || rollout.share <= 0) return false;
  const std::string digest = base::sha256_hex(rollout.salt + "\n" + std::string(subject));
  const std::uint64_t draw = std::strtoull(digest.substr(0, 15).c_str(), nullptr, 16);
  return static_cast<std::int64_t>(draw % static_cast<std::uint64_t>(store::Rollout::kWhole)) < rollout.share;
}

RolloutTable::RolloutTable(store::Store& store, std::chrono::milliseconds poll) : store_(store) {
  refresh();
  thread_ = std::thread([this, poll] {
    std::unique_lock lock(mutex_);
    while (!changed_.wait_for(lock, poll, [this] { return stopping_; })) {
      lock.unlock();
      refresh();
      lock.lock();
    }
  });
}

RolloutTable::~RolloutTable() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void RolloutTable::refresh() {
  const auto all = store_.rollouts().all();
  if (!all) return base::log_error("rollouts: " + all.error().message);  // what was known stays
  std::map<std::pair<std::string, std::string>, store::Rollout> fresh;
  for (const store::Rollout& one : *all) fresh.emplace(std::pair(one.project_id, one.name), one);
  const std::lock_guard lock(mutex_);
  rollouts_ = std::move(fresh);
}

std::optional<RolloutTable::Choice> RolloutTable::choose(const std::string& project, const std::string& name,
                                                         std::string_view subject) const {
  const std::lock_guard lock(mutex_);
  const auto at = rollouts_.find({project, name});
  if (at == rollouts_.end()) return std::nullopt;
  const bool candidate = falls_on_candidate(at->second, subject);
  return Choice{candidate ? at->second.candidate : at->second.stable, candidate};
}

}  // namespace qw::api
