// What GET /metrics tells: requests and refusals, waiting times, tokens by tenant, and what the engines say of
// themselves.
#pragma once

#include <string>

#include "api/served_model.h"
#include "base/metrics.h"
#include "engine/request.h"
#include "store/ledger.h"

namespace qw::api {

class ServiceMetrics {
 public:
  // `models` must outlive this object. Models that share an engine are told of once, by the first name.
  explicit ServiceMetrics(const ModelList& models);

  void answered(const std::string& path, int status);
  // A limit or a budget said no.
  void refused(store::Refusal refusal);
  // A request of `model` ended. `tenant`: the project's id, or "".
  void finished(const std::string& model, const engine::Finished& finished);
  void used(const std::string& model, const std::string& tenant, const store::Tokens& tokens);
  std::string exposition() const { return metrics_.exposition(); }

 private:
  base::Metrics metrics_;
};

}  // namespace qw::api
