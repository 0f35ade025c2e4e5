// POST and GET /v1/evaluations, GET /v1/evaluations/{id}: jobs that judge a model by a task, and whether it reached the
// bound that was set. What passed is what /v1/rollouts asks for. Ours, not OpenAI's /v1/evals.
#pragma once

#include <atomic>
#include <memory>

#include "api/job_loop.h"
#include "api/openai/files.h"
#include "api/rollouts/gate.h"
#include "api/served_model.h"

namespace qw::api {

inline constexpr const char* kEvaluationJob = "evaluation";

struct EvaluationRequest {
  GateAsk ask;
  std::optional<double> at_least, at_most;  // one of them
  std::vector<std::string> ignored;
};
ApiResult<EvaluationRequest> read_evaluation_request(const json::Object& body);
json::Object evaluation_object(const store::Job& job);

class EvaluationsApi {
 public:
  // Both must outlive this object and what it began; so must the runner. null: 501.
  EvaluationsApi(const ModelList& models, Background& background, GateRunner* runner)
      : models_(models), background_(background), runner_(runner) {}
  void start(Accounts& accounts);
  void stop();
  bool handle(const openai::SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  void create(store::Store& store, const net::Request& request, Exchange& exchange) const;
  Status run(store::Store& store, const std::string& instance, const store::Job& job) const;
  const ModelList& models_;
  Background& background_;
  GateRunner* runner_;
  std::atomic<bool> stopping_{false};
  std::unique_ptr<JobLoop> loop_;
};

}  // namespace qw::api
