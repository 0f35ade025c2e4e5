// Fine-tuning jobs: what is asked, what is stored of them, and the wire's objects.
#pragma once

#include <string>
#include <vector>

#include "api/error.h"
#include "api/openai/fine_tuning/runner.h"
#include "json/value.h"
#include "store/jobs.h"
#include "store/ledger.h"
#include "store/tenants.h"

namespace qw::api::openai {

inline constexpr const char* kFineTuneJob = "fine_tuning";  // the kind of job
inline constexpr const char* kFineTuneEvents = "events";    // streams of its records
inline constexpr const char* kFineTuneCheckpoints = "checkpoints";

struct FineTuneRequest {
  std::string model, training_file, validation_file, suffix;
  std::optional<std::int64_t> epochs, batch_size, seed;  // not said, or "auto"
  std::optional<std::int64_t> lora_rank;                 // our own: an adapter is trained
  std::optional<double> learning_rate_multiplier;
  bool pairs = false;  // the method "dpo"
  std::optional<double> beta;
  json::Object metadata;
  std::vector<std::string> ignored;
};
ApiResult<FineTuneRequest> read_fine_tune_request(const json::Object& body);

// `spec` of the store's job, and back. `base`: the model's id.
std::string fine_tune_spec(const FineTuneRequest& request, const std::string& base, const store::Principal& who);
FineTuneAsk fine_tune_ask(const store::Job& job);
// Whose budgets pay for it. Jobs of before there were prices for training have no key: their project and organisation do.
store::Asked fine_tune_payer(const store::Job& job);

json::Value fine_tune_object(const store::Job& job);
json::Value fine_tune_event(const store::Job& job, const store::JobRecord& record);
json::Value fine_tune_checkpoint(const store::Job& job, const store::JobRecord& record);
// The state of a job as JSON; an empty object before it has one.
json::Object fine_tune_state(const store::Job& job);

}  // namespace qw::api::openai
