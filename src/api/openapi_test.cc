// The document of the routes: what it says is what the service does, and the reverse.
#include <map>
#include <set>

#include "api/auth.h"
#include "api/field_reader.h"
#include "api/internal/test_accounts.h"
#include "api/routes.h"

namespace qw::api {
namespace {

constexpr const char* kMethods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};

using test::HttpAnswer;

class OpenApiTest : public test::AccountsServiceTest {
 protected:
  // A path of the pattern: what is in braces becomes a name that nothing has.
  static std::string example(std::string pattern) {
    for (std::size_t open; (open = pattern.find('{')) != std::string::npos;)
      pattern.replace(open, pattern.find('}') + 1 - open, "none");
    return pattern;
  }
  HttpAnswer ask_with_key(const std::string& method, const std::string& path) {
    return ask(method, path, "{}", bearer(key_));
  }
  const json::Value& schema_of(const char* path) {
    const json::Value& post = at(at(at(document_, "paths"), path), "post");
    return at(at(at(at(post, "requestBody"), "content"), "application/json"), "schema");
  }
  static std::string field(const json::Value& schema, const char* name) {
    return dump(at(schema, "properties").find(name));
  }

  const json::Value document_ = openapi_document();
};

// The service asks the table before it asks anybody, so a route that no row has is not there; here the reverse, and
// that the methods of a path are those of its rows.
TEST_F(OpenApiTest, EveryRouteIsAnsweredWithItsMethodsAndNoOthers) {
  std::map<std::string, std::set<std::string>> methods;
  for (const Route& route : routes()) methods[route.path].insert(route.method);
  for (const auto& [pattern, taken] : methods) {
    const std::string path = example(pattern);
    // There only with a desk or a file of stops, which adapters.sh, model_swap.sh and policy.sh have.
    if (path.starts_with("/admin/adapters") || path.starts_with("/admin/models") || path.starts_with("/admin/stops"))
      continue;
    for (const char* method : kMethods) {
      const HttpAnswer answer = ask_with_key(method, path);
      const bool absent = answer.body.find("There is nothing at") != std::string::npos;
      EXPECT_EQ(answer.status != 405 && !absent, taken.contains(method))
          << method << " " << path << " " << answer.status << " " << answer.body;
    }
  }
  for (const char* path : {"/v1/files/a/b", "/v1/chat", "/v1/chat/completions/x", "/v1/responses/a/events", "/api/v1",
                           "/v1/models/", "/v1/batches/a/b/c"}) {
    const HttpAnswer answer = ask_with_key("GET", path);
    EXPECT_EQ(answer.status, 404) << path;
    EXPECT_NE(answer.body.find("There is nothing at"), std::string::npos) << path << " " << answer.body;
  }
  const HttpAnswer slashes = ask_with_key("GET", "/v1/models/Qwen/none");
  EXPECT_NE(slashes.body.find("Qwen/none"), std::string::npos) << slashes.body;
}

TEST_F(OpenApiTest, EveryRouteNeedsARightOrIsNamedHere) {
  const std::set<std::string_view> for_every_key = {"/openapi.json",    "/api/version",        "/auth/login",
                                                    "/auth/oidc/login", "/auth/oidc/callback", "/auth/session",
                                                    "/auth/logout",     "/auth/logout_all"};
  for (const Route& route : routes())
    EXPECT_EQ(action_of(route.method, example(route.path)).empty(), for_every_key.contains(route.path)) << route.path;
}

TEST_F(OpenApiTest, TheDocumentIsServedToKeysOnly) {
  EXPECT_EQ(ask("GET", "/openapi.json", "").status, 401);
  const HttpAnswer answer = ask_with_key("GET", "/openapi.json");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, json::dump(document_, json::WriteStyle::compact()));
}

TEST_F(OpenApiTest, FieldsAreThoseThatTheReadersAskFor) {
  const json::Value& chat = schema_of("/v1/chat/completions");
  EXPECT_EQ(field(chat, "temperature"), R"({"type": ["number", "null"], "minimum": 0.0, "maximum": 2.0})");
  EXPECT_EQ(field(chat, "n"), R"({"type": ["integer", "null"], "minimum": 1, "maximum": 16})");
  EXPECT_EQ(field(chat, "functions"), R"({"type": "null", "description": "Not supported."})");
  EXPECT_EQ(dump(chat.find("required")), R"(["messages"])");
  EXPECT_EQ(dump(at(at(at(chat, "properties"), "stream_options"), "properties").find("include_usage")),
            R"({"type": ["boolean", "null"]})");
  EXPECT_EQ(field(schema_of("/v1/embeddings"), "encoding_format"),
            R"({"type": ["string", "null"], "enum": ["float", "base64", null]})");
  EXPECT_EQ(dump(schema_of("/v1/messages").find("required")), R"(["max_tokens", "messages"])");
  EXPECT_EQ(dump(schema_of("/v1/messages/count_tokens").find("required")), R"(["messages"])");
  EXPECT_EQ(dump(schema_of("/v1/batches").find("required")), R"(["input_file_id", "endpoint", "completion_window"])");
  EXPECT_EQ(dump(schema_of("/v1/tokenize").find("required")), "(absent)");
  EXPECT_EQ(at(schema_of("/v1/tokenize"), "allOf").as_array().size(), 1u);
  const json::Value& generation = schema_of("/api/v1/services/aigc/text-generation/generation");
  EXPECT_EQ(dump(generation.find("required")), R"(["input"])");
  const json::Value& parameters = at(at(generation, "properties"), "parameters");
  EXPECT_EQ(field(parameters, "result_format"), R"({"type": ["string", "null"], "enum": ["text", "message", null]})");
  const json::Value& rerank = schema_of("/api/v1/services/rerank/text-rerank/text-rerank");
  EXPECT_EQ(dump(rerank.find("required")), R"(["input"])");
  EXPECT_EQ(dump(at(at(rerank, "properties"), "input").find("required")), R"(["query", "documents"])");
}

TEST_F(OpenApiTest, WhatTheAdministrationReadsAndAnswersIsThere) {
  const json::Value& keys = schema_of("/admin/v1/keys");
  EXPECT_EQ(dump(keys.find("required")), R"(["project"])");
  EXPECT_EQ(field(keys, "days"), R"({"type": ["integer", "null"], "minimum": 1, "maximum": 36500})");
  EXPECT_EQ(field(keys, "scopes"), R"({"type": ["array", "null"], "items": {"type": "string"}})");
  EXPECT_EQ(field(keys, "repeat_id"), "(absent)") << "it is a header's";
  EXPECT_EQ(field(schema_of("/admin/v1/keys/{key}/rotate"), "key"), "(absent)") << "it stands in the path";
  EXPECT_EQ(dump(schema_of("/admin/v1/budgets").find("required")), R"(["subject", "amount"])");
  EXPECT_EQ(field(schema_of("/auth/login"), "password"), R"({"type": ["string", "null"]})");
  const json::Value& list = at(at(at(document_, "paths"), "/admin/v1/usage/rows"), "get");
  std::string query;
  for (const json::Value& one : at(list, "parameters").as_array()) query += at(one, "name").as_string() + " ";
  EXPECT_EQ(query, "key user project organisation from to limit after format ");
  const json::Value& answer = at(at(at(at(at(list, "responses"), "200"), "content"), "application/json"), "schema");
  EXPECT_NE(dump(&answer).find("\"prompt_tokens\": {\"type\": \"integer\"}"), std::string::npos) << dump(&answer);
}

// What a document says of bodies is what is read: every field of every operation, and no other.
TEST_F(OpenApiTest, AdministrationReadsWhatTheDocumentNames) {
  for (const Route& route : routes()) {
    if (route.administers == nullptr || std::string_view(route.method) != "POST") continue;
    if (at(at(at(document_, "paths"), route.path), "post").find("requestBody") == nullptr) continue;  // it reads nothing
    const json::Value& schema = schema_of(route.path);
    for (const auto& [name, type] : at(schema, "properties").as_object()) {
      const json::Object body{{name, json::Object{{"of", "another type"}}}};
      const auto answer = ask(route.method, example(route.path), json::dump(body), bearer(key_));
      EXPECT_EQ(answer.body.find("is not known here"), std::string::npos) << route.path << " " << name << answer.body;
    }
  }
}

// Shapes are written by hand beside the code that checks them; each must at least be a schema.
TEST_F(OpenApiTest, EveryShapeIsJson) {
  EXPECT_EQ(json::dump(document_).find("\"error\": \"{"), std::string::npos);
  const std::string text = json::dump(document_);
  EXPECT_EQ(text.find("\"properties\": {}"), std::string::npos);
}

// Taking notes is for describing only: a request is read as if there were none.
TEST_F(OpenApiTest, RequestsAreReadWithoutNotes) {
  const json::Object body{{"a", 1}};
  FieldReader in(body);
  EXPECT_EQ(in.object("o"), nullptr);
  EXPECT_EQ(in.one_of({"b", "c"}), nullptr);
  ASSERT_TRUE(in.error().has_value());
  EXPECT_EQ(in.error()->message, "Either 'b' or 'c' is required.");
  FieldReader other(body);
  EXPECT_STREQ(other.one_of({"a", "c"}), "a");
  EXPECT_EQ(other.choice("a", {"x", "y"}), std::nullopt);
  EXPECT_EQ(other.error()->message, "'a' must be a string, not integer.");
}

}  // namespace
}  // namespace qw::api
