// What GET /metrics tells: requests and refusals, waiting times, tokens by tenant, and what the engines say of
// themselves.
#pragma once

#include <array>
#include <map>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>

#include "api/generation/guard_counts.h"
#include "api/served_model.h"
#include "base/metrics.h"
#include "engine/engine.h"
#include "store/ledger.h"

namespace qw::api {

class ServiceMetrics {
 public:
  // `models` must outlive this object. Models that share an engine are told of once, by the first name.
  explicit ServiceMetrics(const ModelList& models);

  void answered(const std::string& path, int status);
  // A limit or a budget said no.
  void refused(store::Refusal refusal);
  // What guards found in one side ("input", "output") of a request or choice, and whether they ended it.
  void found(const char* side, const GuardCounts& counts, bool blocked);
  // A request of `model` ended. `tenant`: the project's id, or "".
  void finished(const std::string& model, const engine::Finished& finished);
  void used(const std::string& model, const std::string& tenant, const store::Tokens& tokens);
  // A rollout sent a request to a version.
  void rolled_out(const std::string& project, const std::string& rollout, bool candidate, const std::string& model);
  std::string exposition() const { return metrics_.exposition(); }

 private:
  // A series is looked up by what its labels are made from, and the labels written once: that text would cost a short
  // request more than counting does. Null: nothing was counted there yet, and the series is not there.
  struct TokenSeries {
    std::array<base::Counter*, 4> kinds{};
  };
  struct ModelSeries {
    std::array<base::Counter*, std::extent_v<decltype(engine::EngineStats::finished)>> ended{};  // by reason
    base::Histogram *queue = nullptr, *first_token = nullptr, *inter_token = nullptr;
    std::map<std::string, TokenSeries, std::less<>> tokens;  // by tenant
  };
  ModelSeries& series_of(const std::string& model);  // under mutex_

  base::Metrics metrics_;
  std::mutex mutex_;
  std::map<std::pair<const char*, int>, base::Counter*> answers_;  // by route (the table's own text) and status
  std::map<std::string, ModelSeries, std::less<>> models_;
};

}  // namespace qw::api
