// The routes that there are. What is no row of this table is answered by nobody (server.cc), and what is one is in the
// OpenAPI document (openapi.h) with the fields that its own reader asks for.
#pragma once

#include <initializer_list>
#include <span>
#include <string_view>

#include "json/value.h"

namespace qw::api {

enum class Protocol { kOpenAi, kAnthropic, kDashscope, kOllama, kService };

// What a route answers with when all is well.
enum class Answers {
  kJson,
  kJsonOrEvents,  // server-sent events if the request asks for a stream
  kJsonOrCsv,     // with format=csv
  kJsonOrLines,   // a line of JSON each, as Ollama has it
  kBytes,
  kText,
  kHtml,  // for people
};

namespace admin {
struct Operation;
}

struct Parameter {
  const char* name;
  const char* schema;  // JSON
};

struct Route {
  const char* method;
  const char* path;  // "/v1/files/{file_id}"; a last "{model*}" holds slashes too
  Protocol protocol;
  const char* summary;
  Answers answers = Answers::kJson;
  void (*read)(const json::Object& body) = nullptr;  // as the handler reads it; null: the request has no JSON
  std::initializer_list<Parameter> query = {};
  const char* form = "";  // the schema of a multipart form
  const admin::Operation* administers = nullptr;  // which says the rest itself
};

std::span<const Route> routes();

// The row of a request; null: there is none.
const Route* route_at(std::string_view method, std::string_view path);

// Whether any method of a route is at this path.
bool has_route(std::string_view path);

// The OpenAPI 3.1 document of all of them.
json::Value openapi_document();

}  // namespace qw::api
