#include "api/openai/batch_object.h"

#include "api/field_reader.h"
#include "base/clock.h"

namespace qw::api::openai {

std::string BatchSpec::text() const {
  return json::dump(json::Object{{"endpoint", endpoint},
                                 {"input_file_id", input_file_id},
                                 {"completion_window", completion_window},
                                 {"window_s", window_s},
                                 {"key_id", key_id},
                                 {"metadata", metadata}});
}

BatchSpec BatchSpec::parse(const std::string& text) {
  BatchSpec out;
  const auto value = json::parse(text);
  if (!value) return out;
  out.endpoint = text_member(*value, "endpoint");
  out.input_file_id = text_member(*value, "input_file_id");
  out.completion_window = text_member(*value, "completion_window");
  out.key_id = text_member(*value, "key_id");
  out.window_s = integer_member(*value, "window_s");
  if (const json::Value* metadata = value->find("metadata")) out.metadata = *metadata;
  return out;
}

json::Value batch_object(const store::Job& job) {
  const BatchSpec spec = BatchSpec::parse(job.spec);
  const auto parsed = json::parse(job.state.empty() ? "{}" : job.state);
  const json::Value state = parsed ? *parsed : json::Value(json::Object{});
  const std::int64_t created = job.created_us / base::kSecondUs;
  std::string status = job.status;
  if (status == "queued") status = "validating";
  if (status == "running") status = text_member(state, "status").empty() ? "validating" : text_member(state, "status");
  if (job.status == "running" && job.cancel_wanted) status = "cancelling";
  const auto of_state = [&](const char* key) {
    const json::Value* value = state.find(key);
    return value == nullptr ? json::Value() : *value;
  };
  json::Object out{{"id", job.id},
                   {"object", "batch"},
                   {"endpoint", spec.endpoint},
                   {"model", of_state("model")},
                   {"errors", of_state("errors")},
                   {"input_file_id", spec.input_file_id},
                   {"completion_window", spec.completion_window},
                   {"status", status},
                   {"output_file_id", of_state("output_file_id")},
                   {"error_file_id", of_state("error_file_id")},
                   {"created_at", created},
                   {"in_progress_at", of_state("in_progress_at")},
                   {"expires_at", created + spec.window_s},
                   {"finalizing_at", of_state("finalizing_at")},
                   {"completed_at", of_state("completed_at")},
                   {"failed_at", of_state("failed_at")},
                   {"expired_at", of_state("expired_at")},
                   {"cancelling_at", of_state("cancelling_at")},
                   {"cancelled_at", of_state("cancelled_at")},
                   {"request_counts", json::Object{{"total", integer_member(state, "total")},
                                                   {"completed", integer_member(state, "completed")},
                                                   {"failed", integer_member(state, "failed")}}},
                   {"usage", of_state("usage")},
                   {"metadata", spec.metadata}};
  if (job.status == "cancelled" && state.find("cancelled_at") == nullptr)
    out.set("cancelled_at", job.changed_us / base::kSecondUs);
  return out;
}

}  // namespace qw::api::openai
