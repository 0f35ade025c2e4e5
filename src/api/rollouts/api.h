// Rolling a model out, step by step: a name of the project's own that one version answers to, a candidate that answers
// a share of those who ask, its promotion, and the way back in one call.
//
//   GET, POST          /v1/rollouts                   {"name", "model", "reason"}
//   GET, DELETE        /v1/rollouts/{name}
//   POST               /v1/rollouts/{name}/canary     {"model", "share": percent, "evaluation", "reason"}
//   POST               /v1/rollouts/{name}/promote    {"reason"}
//   POST               /v1/rollouts/{name}/rollback   {"reason"}
//   GET                /v1/rollouts/{name}/history
//
// A candidate must have passed an evaluation (/v1/evaluations) as the bytes it is now. Each change is in the store, and
// in the audit log before it holds; without one the store's history is what there is.
#pragma once

#include <memory>

#include "api/openai/files.h"
#include "api/rollouts/gate.h"
#include "api/rollouts/table.h"
#include "api/served_model.h"

namespace qw::api {

struct RolloutRequest {
  std::string name, model, evaluation, reason;
  std::optional<double> share;  // percent
  std::vector<std::string> ignored;
};
ApiResult<RolloutRequest> read_rollout_request(const json::Object& body);  // of a new one
ApiResult<RolloutRequest> read_canary_request(const json::Object& body);
ApiResult<RolloutRequest> read_reason_request(const json::Object& body);  // of the rest

json::Object rollout_object(const store::Rollout& rollout);
json::Object rollout_event_object(const store::RolloutEvent& event);

class RolloutsApi {
 public:
  // Both must outlive this object and what it began.
  RolloutsApi(const ModelList& models, Background& background) : models_(models), background_(background) {}
  // From now on names are looked up there, and `gates` tells the bytes of models; both must outlive this object.
  // Without `gates` nothing can be made a candidate.
  void uses(RolloutTable* table, const GateRunner* gates) {
    table_ = table;
    gates_ = gates;
  }
  bool handle(const openai::SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  struct Call;
  void change(const Call& call) const;
  ApiResult<store::Rollout> canary(const Call& call, store::Rollout rollout, const RolloutRequest& request) const;
  // Whether the evaluation judged the bytes that the model has now.
  std::optional<ApiError> judged_these(const Call& call, const std::string& project, const std::string& model,
                                       const std::string& evaluation) const;
  ApiResult<store::Rollout> made(const Call& call, const RolloutRequest& request) const;
  const ModelList& models_;
  Background& background_;
  RolloutTable* table_ = nullptr;
  const GateRunner* gates_ = nullptr;
};

}  // namespace qw::api
