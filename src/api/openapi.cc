// The OpenAPI document: of each route what the table says and what its reader asks for.
#include <sstream>
#include <string>
#include <string_view>

#include "api/admin/operations.h"
#include "api/auth.h"
#include "api/field_notes.h"
#include "api/routes.h"

namespace qw::api {
namespace {

const char* name_of(Protocol protocol) {
  switch (protocol) {
    case Protocol::kOpenAi:
      return "openai";
    case Protocol::kAnthropic:
      return "anthropic";
    case Protocol::kDashscope:
      return "dashscope";
    case Protocol::kOllama:
      return "ollama";
    case Protocol::kService:
      break;
  }
  return "service";
}

// What an error of each protocol looks like. The service's own have OpenAI's.
const char* error_schema(Protocol protocol) {
  switch (protocol) {
    case Protocol::kAnthropic:
      return R"({"type": "object", "required": ["type", "error", "request_id"], "properties": {"type": {"const": "error"},
          "error": {"type": "object", "required": ["type", "message"], "properties": {"type": {"type": "string"},
            "message": {"type": "string"}}}, "request_id": {"type": "string"}}})";
    case Protocol::kDashscope:
      return R"({"type": "object", "required": ["code", "message", "request_id"], "properties": {
          "code": {"type": "string"}, "message": {"type": "string"}, "request_id": {"type": "string"}}})";
    case Protocol::kOllama:
      return R"({"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}})";
    default:
      return R"({"type": "object", "required": ["error"], "properties": {"error": {"type": "object",
          "required": ["message", "type", "param", "code"], "properties": {"message": {"type": "string"},
            "type": {"type": "string"}, "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}}}}})";
  }
}

// Members of answers that are JSON objects, in order; "?": not always there. The transcripts of tests/cases hold them
// to it.
struct Members {
  const char* path;
  const char* method;
  const char* names;
};
constexpr const char* kFile = "id object bytes created_at filename purpose status expires_at?";
constexpr const char* kUpload = "id object created_at filename purpose bytes mime_type status file expires_at";
constexpr const char* kList = "object data first_id last_id has_more";
constexpr const char* kDeleted = "id object deleted";
constexpr const char* kRanking = "id model results usage";
constexpr const char* kScores = "id object created model data usage";
constexpr const char* kTokens = "count max_model_len tokens token_strs";
constexpr const char* kTexts = "id object created model service_tier? system_fingerprint? choices usage timings? guard?";
constexpr const char* kBatch =
    "id object endpoint model errors input_file_id completion_window status output_file_id error_file_id created_at "
    "in_progress_at expires_at finalizing_at completed_at failed_at expired_at cancelling_at cancelled_at "
    "request_counts usage metadata";
constexpr const char* kJob =
    "id object created_at finished_at status model fine_tuned_model organization_id training_file validation_file "
    "result_files trained_tokens estimated_finish seed method hyperparameters integrations metadata error validation "
    "estimate";
constexpr const char* kResponse =
    "id object created_at completed_at status background error incomplete_details instructions max_output_tokens model "
    "output parallel_tool_calls previous_response_id reasoning store temperature text tool_choice tools top_p "
    "truncation metadata usage";
constexpr const char* kFeedback =
    "id object created_at status answer_id model rating comment correction messages answer by reviewer note sha256";
constexpr const char* kDataset =
    "id object created_at name number sha256 examples pairs examples_file pairs_file examples_sha256 pairs_sha256 by "
    "erased "
    "items?";
constexpr const char* kEvaluation =
    "id object created_at finished_at status model task_file data_files metric limit chat at_least at_most task value "
    "items "
    "passed task_sha256 data_sha256 model_sha256 sha256 error";
constexpr const char* kRollout = "object name model candidate share evaluation previous version changed_at";
constexpr const char* kComplaint =
    "object id kind status appeal_of about contact text answer created due overdue answered closed erased receipt?";
constexpr const char* kDashscope = "output usage? request_id";
constexpr Members kMembers[] = {
    {"/v1/chat/completions", "POST", kTexts},
    {"/v1/completions", "POST", kTexts},
    {"/v1/embeddings", "POST", "object data model usage"},
    {"/v1/rerank", "POST", kRanking},
    {"/v2/rerank", "POST", kRanking},
    {"/rerank", "POST", kRanking},
    {"/v1/score", "POST", kScores},
    {"/score", "POST", kScores},
    {"/v1/tokenize", "POST", kTokens},
    {"/tokenize", "POST", kTokens},
    {"/v1/detokenize", "POST", "prompt"},
    {"/detokenize", "POST", "prompt"},
    {"/v1/moderations", "POST", "id model results"},
    {"/v1/content_provenance", "POST", "object model? basis? results"},
    {"/v1/screen", "POST", "object policy side results"},
    {"/admin/audit/replay", "POST", "object record model verdict choices? reason? message?"},
    {"/v1/models", "GET", "object? data has_more? first_id? last_id?"},
    {"/v1/models/{model*}", "GET", "type? id object? display_name? created? created_at? owned_by? parent? max_model_len? loaded?"},
    {"/v1/responses", "POST", kResponse},
    {"/v1/responses/input_tokens", "POST", "object input_tokens"},
    {"/v1/responses/{response_id}", "GET", kResponse},
    {"/v1/responses/{response_id}", "DELETE", kDeleted},
    {"/v1/responses/{response_id}/input_items", "GET", kList},
    {"/v1/responses/{response_id}/cancel", "POST", kResponse},
    {"/v1/files", "POST", kFile},
    {"/v1/files", "GET", kList},
    {"/v1/files/{file_id}", "GET", kFile},
    {"/v1/files/{file_id}", "DELETE", kDeleted},
    {"/v1/uploads", "POST", kUpload},
    {"/v1/uploads/{upload_id}/parts", "POST", "id object created_at upload_id"},
    {"/v1/uploads/{upload_id}/complete", "POST", kUpload},
    {"/v1/uploads/{upload_id}/cancel", "POST", kUpload},
    {"/v1/batches", "POST", kBatch},
    {"/v1/batches", "GET", kList},
    {"/v1/batches/{batch_id}", "GET", kBatch},
    {"/v1/batches/{batch_id}/cancel", "POST", kBatch},
    {"/v1/fine_tuning/jobs", "POST", kJob},
    {"/v1/fine_tuning/jobs", "GET", kList},
    {"/v1/fine_tuning/jobs/{job_id}", "GET", kJob},
    {"/v1/fine_tuning/jobs/{job_id}/cancel", "POST", kJob},
    {"/v1/fine_tuning/jobs/{job_id}/pause", "POST", kJob},
    {"/v1/fine_tuning/jobs/{job_id}/resume", "POST", kJob},
    {"/v1/fine_tuning/jobs/{job_id}/validation", "GET",
     "object fine_tuning_job_id valid training_file validation_file"},
    {"/v1/fine_tuning/estimate", "POST", "object model validation estimate"},
    {"/v1/fine_tuning/jobs/{job_id}/events", "GET", kList},
    {"/v1/fine_tuning/jobs/{job_id}/checkpoints", "GET", kList},
    {"/v1/feedback", "POST", kFeedback},
    {"/v1/feedback/{feedback_id}", "GET", kFeedback},
    {"/v1/feedback/{feedback_id}", "DELETE", "id object deleted datasets"},
    {"/v1/reviews", "GET", kList},
    {"/v1/reviews/{feedback_id}", "GET", kFeedback},
    {"/v1/reviews/{feedback_id}/edit", "POST", kFeedback},
    {"/v1/reviews/{feedback_id}/accept", "POST", kFeedback},
    {"/v1/reviews/{feedback_id}/reject", "POST", kFeedback},
    {"/v1/datasets", "POST", kDataset},
    {"/v1/datasets", "GET", kList},
    {"/v1/datasets/{dataset_id}", "GET", kDataset},
    {"/v1/lineage/{model*}", "GET", "object model model_sha256 base job dataset evaluations rollouts holds breaks"},
    {"/v1/evaluations", "POST", kEvaluation},
    {"/v1/evaluations", "GET", kList},
    {"/v1/evaluations/{evaluation_id}", "GET", kEvaluation},
    {"/v1/rollouts", "POST", kRollout},
    {"/v1/rollouts", "GET", "object data has_more"},
    {"/v1/rollouts/{name}", "GET", kRollout},
    {"/v1/rollouts/{name}", "DELETE", "name object deleted"},
    {"/v1/rollouts/{name}/canary", "POST", kRollout},
    {"/v1/rollouts/{name}/promote", "POST", kRollout},
    {"/v1/rollouts/{name}/rollback", "POST", kRollout},
    {"/v1/rollouts/{name}/history", "GET", "object data has_more"},
    {"/v1/complaints", "POST", kComplaint},
    {"/v1/complaints", "GET", kList},
    {"/v1/complaints/{complaint_id}", "GET", kComplaint},
    {"/v1/complaints/{complaint_id}/appeal", "POST", kComplaint},
    {"/admin/v1/contents/{complaint_id}", "GET",
     "object complaint about same_project record asked? prompt_texts? answers? reason? message?"},
    {"/v1/my/data", "GET",
     "user keys sessions usage_rows complaints files documents jobs feedback datasets conduct minors more"},
    {"/v1/my/data", "DELETE", "users keys sessions complaints files documents jobs feedback datasets salts"},
    {"/v1/usage", "GET", "object data has_more next"},
    {"/v1/usage/rows", "GET", "object data has_more next"},
    {"/v1/messages", "POST", "id type role model content stop_reason stop_sequence usage"},
    {"/v1/messages/count_tokens", "POST", "input_tokens"},
    {"/api/v1/services/aigc/text-generation/generation", "POST", kDashscope},
    {"/api/v1/services/aigc/multimodal-generation/generation", "POST", kDashscope},
    {"/api/v1/services/embeddings/text-embedding/text-embedding", "POST", kDashscope},
    {"/api/v1/services/rerank/text-rerank/text-rerank", "POST", kDashscope},
    {"/api/v1/tokenizer", "POST", kDashscope},
    {"/api/v1/models", "GET", "output request_id"},
    {"/api/v1/tasks", "GET", "request_id data total total_page page_no page_size"},
    {"/api/v1/tasks/{task_id}", "GET", "request_id output usage?"},
    {"/api/v1/tasks/{task_id}/cancel", "POST", "request_id"},
    {"/api/chat", "POST",
     "model created_at message done done_reason? total_duration? load_duration? prompt_eval_count? "
     "prompt_eval_duration? eval_count? eval_duration? logprobs?"},
    {"/api/generate", "POST",
     "model created_at response thinking? done done_reason? total_duration? load_duration? prompt_eval_count? "
     "prompt_eval_duration? eval_count? eval_duration? logprobs?"},
    {"/api/embed", "POST", "model embeddings prompt_eval_count"},
    {"/api/embeddings", "POST", "embedding"},
    {"/api/show", "POST", "name model modified_at size digest details parameters capabilities model_info"},
    {"/api/tags", "GET", "models"},
    {"/api/ps", "GET", "models"},
    {"/api/version", "GET", "version"},
};

json::Object parsed(const char* text) {
  auto value = json::parse(text);
  return value && value->is_object() ? std::move(value->as_object()) : json::Object{};
}

// Of an object with nothing in it its members and, as far as that tells them, their types.
json::Object shape_of(const json::Value& example) {
  json::Object properties;
  for (const auto& [name, value] : example.as_object()) {
    json::Object schema;
    // What is null here is not always; a number may be whole in one object and not in the next.
    if (value.is_string() || value.is_bool() || value.is_int()) schema.set("type", value.type_name());
    properties.set(name, std::move(schema));
  }
  return {{"type", "object"}, {"properties", std::move(properties)}};
}

json::Value administration_answer(const admin::Operation& operation) {
  json::Object one = shape_of(operation.example());
  if (!operation.lists) return one;
  return json::Object{{"type", "object"},
                      {"properties", json::Object{{"object", json::Object{{"const", "list"}}},
                                                  {"data", json::Object{{"type", "array"}, {"items", std::move(one)}}},
                                                  {"has_more", json::Object{{"type", "boolean"}}},
                                                  {"next", json::Object{{"type", json::Array{"string", "null"}}}}}},
                      {"required", json::Array{"object", "data", "has_more", "next"}}};
}

// Lists come in pages; what their operation reads stands in the query.
void add_administration_query(const admin::Operation& operation, json::Array& parameters) {
  const json::Object arguments = admin::arguments_of(operation);
  for (const auto& [name, schema] : arguments.find("properties")->as_object())
    if (name != "limit" && name != "after")
      parameters.emplace_back(
          json::Object{{"name", name}, {"in", "query"}, {"schema", json::Object{{"type", "string"}}}});
  const auto add = [&](const char* name, const char* schema) {
    parameters.emplace_back(json::Object{{"name", name}, {"in", "query"}, {"schema", parsed(schema)}});
  };
  if (!operation.lists || operation.name == "usage.sum") return;
  add("limit", R"({"type": "integer", "minimum": 1, "maximum": 1000})");
  add("after", R"({"type": "string"})");
  if (operation.name == "usage.list") add("format", R"({"enum": ["json", "csv"]})");
}

// {"type": "object"}, with the members if they are listed.
json::Value answer_schema(const Route& route) {
  if (route.administers != nullptr) return administration_answer(*route.administers);
  json::Object out{{"type", "object"}};
  for (const Members& members : kMembers) {
    if (std::string_view(members.path) != route.path || std::string_view(members.method) != route.method) continue;
    json::Object properties;
    json::Array required;
    std::istringstream names(members.names);
    for (std::string name; names >> name;) {
      const bool optional = name.back() == '?';
      if (optional) name.pop_back();
      properties.set(name, json::Object{});
      if (!optional) required.emplace_back(name);
    }
    out.set("properties", std::move(properties));
    out.set("required", std::move(required));
  }
  return out;
}

json::Object content(std::initializer_list<const char*> types, const json::Value& schema) {
  json::Object out;
  for (const char* type : types) out.set(type, json::Object{{"schema", schema}});
  return out;
}

json::Object answer(const Route& route) {
  const json::Value object = answer_schema(route), text(json::Object{{"type", "string"}});
  json::Object out;
  switch (route.answers) {
    case Answers::kJsonOrEvents:
      out = content({"application/json"}, object);
      out.set("text/event-stream",
              json::Object{{"schema", json::Object{{"description", "Events, one after the other."}}}});
      return out;
    case Answers::kJsonOrLines:
      out = content({"application/json"}, object);
      out.set("application/x-ndjson", json::Object{{"schema", text}});
      return out;
    case Answers::kJsonOrCsv:
      out = content({"application/json"}, object);
      out.set("text/csv", json::Object{{"schema", text}});
      return out;
    case Answers::kBytes:
      return content({"application/octet-stream"}, json::Value(json::Object{}));
    case Answers::kText:
      return content({"text/plain"}, text);
    case Answers::kHtml:
      return content({"text/html"}, text);
    case Answers::kJson:
      break;
  }
  out = content({"application/json"}, object);
  if (route.administers != nullptr && route.administers->name == "usage.list")  // format=csv
    out.set("text/csv", json::Object{{"schema", text}});
  return out;
}

// "/v1/models/{model*}" without the star, and the names in braces.
std::string plain_path(const Route& route, json::Array& parameters) {
  std::string out;
  for (const char* c = route.path; *c != '\0'; ++c)
    if (*c != '*') out += *c;
  for (std::size_t at = 0; (at = out.find('{', at)) != std::string::npos; ++at)
    parameters.emplace_back(json::Object{{"name", out.substr(at + 1, out.find('}', at) - at - 1)},
                                         {"in", "path"},
                                         {"required", true},
                                         {"schema", json::Object{{"type", "string"}, {"minLength", 1}}}});
  return out;
}

json::Object operation(const Route& route, json::Array parameters) {
  const std::string protocol = name_of(route.protocol);
  for (const Parameter& one : route.query)
    parameters.emplace_back(json::Object{{"name", one.name}, {"in", "query"}, {"schema", parsed(one.schema)}});
  const admin::Operation* const administers = route.administers;
  if (administers != nullptr && !administers->changes()) add_administration_query(*administers, parameters);
  if (administers != nullptr && administers->name == "keys.add")
    parameters.emplace_back(
        json::Object{{"name", "Idempotency-Key"},
                     {"in", "header"},
                     {"schema", json::Object{{"type", "string"}, {"minLength", 1}, {"maxLength", 255}}}});
  json::Object out{{"tags", json::Array{protocol}}, {"summary", route.summary}};
  if (const std::string action = action_of(route.method, route.path); !action.empty()) out.set("x-right", action);
  if (!parameters.empty()) out.set("parameters", std::move(parameters));
  if (route.read != nullptr) {
    json::Value schema(describe_body(route.read));
    out.set("requestBody",
            json::Object{{"required", true}, {"content", content({"application/json"}, std::move(schema))}});
  } else if (administers != nullptr && std::string_view(route.method) == "POST") {
    json::Value schema(admin::arguments_of(*administers));
    if (!schema.find("properties")->as_object().empty())
      out.set("requestBody", json::Object{{"required", schema.find("required") != nullptr},
                                          {"content", content({"application/json"}, std::move(schema))}});
  } else if (*route.form != '\0') {
    out.set("requestBody",
            json::Object{{"required", true}, {"content", content({"multipart/form-data"}, parsed(route.form))}});
  }
  // Who logs in is sent on, by a provider or to the page.
  const bool sends_on =
      std::string_view(route.path).starts_with("/auth/oidc/") || route.path == std::string_view("/auth/login");
  const json::Value error(json::Object{{"$ref", "#/components/responses/" + protocol + "_error"}});
  json::Object responses{{"200", json::Object{{"description", "Done."}, {"content", answer(route)}}}};
  if (sends_on) responses.set("303", json::Object{{"description", "Elsewhere."}});
  responses.set("4XX", error);
  responses.set("5XX", error);
  out.set("responses", std::move(responses));
  return out;
}

json::Object components() {
  json::Object errors;
  for (const Protocol protocol :
       {Protocol::kOpenAi, Protocol::kAnthropic, Protocol::kDashscope, Protocol::kOllama, Protocol::kService})
    errors.set(std::string(name_of(protocol)) + "_error",
               json::Object{{"description", "Why not."},
                            {"content", content({"application/json"}, parsed(error_schema(protocol)))}});
  return {{"securitySchemes",
           json::Object{{"bearer", json::Object{{"type", "http"}, {"scheme", "bearer"}}},
                        {"x-api-key", json::Object{{"type", "apiKey"}, {"in", "header"}, {"name", "x-api-key"}}}}},
          {"responses", std::move(errors)}};
}

}  // namespace

json::Value openapi_document() {
  json::Object paths;
  for (const Route& route : routes()) {
    json::Array parameters;
    const std::string path = plain_path(route, parameters);
    if (paths.find(path) == nullptr) {
      json::Object item;
      // OpenAI's routes are also where DashScope has them.
      if (route.protocol == Protocol::kOpenAi && path.starts_with("/v1/"))
        item.set("servers", json::Array{json::Object{{"url", "/"}}, json::Object{{"url", "/compatible-mode"}}});
      paths.set(path, std::move(item));
    }
    std::string method;
    for (const char* c = route.method; *c != '\0'; ++c) method += static_cast<char>(*c | 0x20);
    paths.find(path)->as_object().set(method, operation(route, std::move(parameters)));
  }
  return json::Object{
      {"openapi", "3.1.0"},
      {"info", json::Object{{"title", "qianwen"},
                            {"version", "1"},
                            {"description",
                             "Every route of the service. Fields that are not listed are accepted and "
                             "named in X-Ignored-Params; x-right is what a key must be allowed to do."}}},
      {"servers", json::Array{json::Object{{"url", "/"}}}},
      {"security", json::Array{json::Object{{"bearer", json::Array{}}}, json::Object{{"x-api-key", json::Array{}}},
                               json::Object{}}},
      {"paths", std::move(paths)},
      {"components", components()}};
}

}  // namespace qw::api
