#include "api/openai/responses/kept.h"

#include "api/field_reader.h"
#include "api/openai/files.h"
#include "api/openai/responses/request.h"
#include "api/openai/responses/writer.h"
#include "base/clock.h"

namespace qw::api::openai {
namespace {

ApiResult<json::Object> without_answer(const store::Job& job, const char* status) {
  const auto body = json::parse(DeferredRequest::parse(job.spec).body);
  const auto request = body && body->is_object() ? read_response_request(body->as_object())
                                                 : ApiResult<ResponseRequest>(tl::unexpected(no_response(job.id)));
  if (!request) return tl::unexpected(request.error());
  return response_object(*request, {job.id, request->model, status, job.created_us / base::kSecondUs, true, true});
}

}  // namespace

ApiError no_response(const std::string& id) {
  return {404, "invalid_request_error", "There is no response " + id + ".", "id", "not_found"};
}

ApiResult<json::Value> kept_response(store::Store& store, const std::string& project, const std::string& id) {
  const auto document = store.documents().find(project, kResponseKind, id);
  if (!document && document.error().kind == ErrorKind::kBadInput) return tl::unexpected(no_response(id));
  if (!document) return tl::unexpected(store_error(document.error()));
  auto value = json::parse(document->body);
  if (!value) return tl::unexpected(ApiError{500, "server_error", "The response " + id + " cannot be read.", "", ""});
  return std::move(*value);
}

ApiResult<json::Object> unmade_response(const store::Job& job) {
  const DeferredAnswer answer = deferred_answer(job);
  const bool done = job.status == "done";
  if (done && answer.status < 400) return tl::unexpected(no_response(job.id));  // it was deleted
  const char* status = done                                             ? "failed"
                       : job.cancel_wanted || job.status == "cancelled" ? "cancelled"
                       : job.status == "running"                        ? "in_progress"
                                                                        : "queued";
  auto out = without_answer(job, status);
  if (const json::Value* error = done ? answer.body.find("error") : nullptr; out && error != nullptr) {
    const std::string code = text_member(*error, "code"), type = text_member(*error, "type");
    out->set("error", json::Object{{"code", code.empty() ? type : code}, {"message", text_member(*error, "message")}});
  }
  return out;
}

ApiResult<json::Object> queued_response(const store::Job& job) { return without_answer(job, "queued"); }

}  // namespace qw::api::openai
