// The OpenAPI document: of each route what the table says and what its reader asks for.
#include <map>
#include <string>

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

json::Object parsed(const char* text) {
  auto value = json::parse(text);
  return value && value->is_object() ? std::move(value->as_object()) : json::Object{};
}

json::Object content(std::initializer_list<const char*> types, const json::Value& schema) {
  json::Object out;
  for (const char* type : types) out.set(type, json::Object{{"schema", schema}});
  return out;
}

json::Object answer(Answers answers) {
  const json::Value object(json::Object{{"type", "object"}}), text(json::Object{{"type", "string"}});
  json::Object out;
  switch (answers) {
    case Answers::kJsonOrEvents:
      out = content({"application/json"}, object);
      out.set("text/event-stream",
              json::Object{{"schema", json::Object{{"description", "Events, one after the other."}}}});
      return out;
    case Answers::kJsonOrLines:
      out = content({"application/json"}, object);
      out.set("application/x-ndjson", json::Object{{"schema", text}});
      return out;
    case Answers::kBytes:
      return content({"application/octet-stream"}, json::Value(json::Object{}));
    case Answers::kText:
      return content({"text/plain"}, text);
    case Answers::kJson:
      break;
  }
  return content({"application/json"}, object);
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
  json::Object out{{"tags", json::Array{protocol}}, {"summary", route.summary}};
  if (const std::string action = action_of(route.method, route.path); !action.empty()) out.set("x-right", action);
  if (!parameters.empty()) out.set("parameters", std::move(parameters));
  if (route.read != nullptr) {
    json::Value schema(describe_body(route.read));
    out.set("requestBody",
            json::Object{{"required", true}, {"content", content({"application/json"}, std::move(schema))}});
  } else if (*route.form != '\0') {
    out.set("requestBody",
            json::Object{{"required", true}, {"content", content({"multipart/form-data"}, parsed(route.form))}});
  }
  const json::Value error(json::Object{{"$ref", "#/components/responses/" + protocol + "_error"}});
  out.set("responses", json::Object{{"200", json::Object{{"description", "Done."}, {"content", answer(route.answers)}}},
                                    {"4XX", error},
                                    {"5XX", error}});
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
