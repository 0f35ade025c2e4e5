// The protocols beside OpenAI's, on the wire: what they read, how they answer, stream, call tools, and refuse.
#include "api/internal/test_accounts.h"

namespace qw::api {
namespace {

class ProtocolsTest : public test::ServiceTest {
 protected:
  // The events of a stream: name and data.
  struct Event {
    std::string name;
    json::Value data;
  };
  static std::vector<Event> events(const std::string& chunked) {
    std::vector<Event> out;
    const std::string text = test::dechunked(chunked);
    std::string name;
    for (std::size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find('\n', at), text.size());
      const std::string line = text.substr(at, end - at);
      at = end + 1;
      if (line.starts_with("event:")) name = line.substr(line.find_first_not_of(' ', 6));
      if (line.starts_with("data:")) out.push_back({name, *json::parse(line.substr(line.find_first_not_of(' ', 5)))});
    }
    return out;
  }
  static std::vector<json::Value> lines(const std::string& chunked) {
    std::vector<json::Value> out;
    const std::string text = test::dechunked(chunked);
    for (std::size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find('\n', at), text.size());
      out.push_back(*json::parse(text.substr(at, end - at)));
      at = end + 1;
    }
    return out;
  }
  std::string message(const std::string& path, const std::string& body, int status = 400) {
    const json::Value answer = ask_json(path, body, status);
    const json::Value* error = answer.find("error");
    return error == nullptr     ? dump(answer.find("message"))
           : error->is_string() ? error->as_string()
                                : dump(error->find("message"));
  }
};

// ---- Anthropic
// --------------------------------------------------------------------------------------------------------
constexpr const char* kMessages = "/v1/messages";

TEST_F(ProtocolsTest, AnthropicAnswersAMessageOfBlocks) {
  const json::Value answer = ask_json(
      kMessages,
      R"({"model":"alphabet","max_tokens":4,"system":"s","messages":[{"role":"user","content":[{"type":"text","text":"abc","cache_control":{"type":"ephemeral"}}]}]})");
  EXPECT_EQ(at(answer, "type").as_string(), "message");
  EXPECT_EQ(dump(answer.find("content")), R"([{"type": "text", "text": "defg"}])");
  EXPECT_EQ(at(answer, "stop_reason").as_string(), "max_tokens");
  EXPECT_EQ(
      dump(answer.find("usage")),
      R"({"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 4})");
  const json::Value stopped = ask_json(
      kMessages,
      R"({"model":"alphabet","max_tokens":9,"stop_sequences":["zz","f"],"messages":[{"role":"user","content":"abc"}]})");
  EXPECT_EQ(at(stopped, "stop_reason").as_string(), "stop_sequence");
  EXPECT_EQ(at(stopped, "stop_sequence").as_string(), "f");
  EXPECT_EQ(dump(stopped.find("content")), R"([{"type": "text", "text": "de"}])");
}

TEST_F(ProtocolsTest, AnthropicStreamsTheEventsThatBuildTheMessage) {
  const auto answer =
      ask("POST", kMessages,
          R"({"model":"alphabet","max_tokens":3,"stream":true,"messages":[{"role":"user","content":"abc"}]})");
  ASSERT_EQ(answer.status, 200);
  std::string names, text;
  for (const Event& event : events(answer.body)) {
    EXPECT_EQ(at(event.data, "type").as_string(), event.name);
    names += event.name + " ";
    if (event.name == "content_block_delta") text += at(at(event.data, "delta"), "text").as_string();
    if (event.name == "message_delta") {
      EXPECT_EQ(
          dump(event.data.find("usage")),
          R"({"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 3})");
    }
  }
  EXPECT_EQ(text, "def");
  EXPECT_TRUE(names.starts_with("message_start content_block_start content_block_delta ")) << names;
  EXPECT_TRUE(names.ends_with("content_block_stop message_delta message_stop ")) << names;
}

// The alphabet cannot write a call by itself; under the grammar it must.
TEST_F(ProtocolsTest, AnthropicCallsTools) {
  const std::string tools =
      R"("tools":[{"name":"look","description":"d","input_schema":{"type":"object","properties":{"n":{"type":"integer","minimum":0,"maximum":9}},"required":["n"],"additionalProperties":false}}],"tool_choice":{"type":"tool","name":"look","disable_parallel_tool_use":true})";
  const std::string rest = R"("messages":[{"role":"user","content":"abc"}])";
  const json::Value answer = ask_json(kMessages, R"({"model":"alphabet","max_tokens":200,)" + tools + "," + rest + "}");
  EXPECT_EQ(at(answer, "stop_reason").as_string(), "tool_use");
  const json::Value& block = at(answer, "content").as_array().at(0);
  EXPECT_EQ(at(block, "type").as_string(), "tool_use");
  EXPECT_TRUE(at(block, "id").as_string().starts_with("toolu_"));
  EXPECT_EQ(at(block, "name").as_string(), "look");
  EXPECT_TRUE(at(at(block, "input"), "n").is_int());
  const auto stream =
      ask("POST", kMessages, R"({"model":"alphabet","stream":true,"max_tokens":200,)" + tools + "," + rest + "}");
  std::string arguments, start;
  for (const Event& event : events(stream.body)) {
    if (event.name == "content_block_start") start = dump(at(event.data, "content_block").find("name"));
    if (event.name == "content_block_delta") arguments += at(at(event.data, "delta"), "partial_json").as_string();
  }
  EXPECT_EQ(start, "\"look\"");
  EXPECT_EQ(json::dump(*json::parse(arguments)), json::dump(at(block, "input")));
}

TEST_F(ProtocolsTest, AnthropicReadsConversationsWithToolsAndAnswersThatWereBegun) {
  const json::Value counted =
      ask_json("/v1/messages/count_tokens", R"({"model":"alphabet","messages":[{"role":"user","content":"hi"},
    {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":""},{"type":"tool_use","id":"toolu_1","name":"look","input":{"n":1}}]},
    {"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"four"}]}]}]})");
  EXPECT_EQ(at(counted, "input_tokens").as_int(), 4);  // the template writes the last message: the tool's
  const json::Value begun = ask_json(
      kMessages,
      R"({"model":"alphabet","max_tokens":2,"messages":[{"role":"user","content":"abc"},{"role":"assistant","content":"xy"}]})");
  EXPECT_EQ(dump(begun.find("content")), R"([{"type": "text", "text": "z{"}])");
}

TEST_F(ProtocolsTest, AnthropicRefusesInItsOwnShape) {
  const auto answer = ask_json(kMessages, R"({"model":"alphabet","messages":[{"role":"user","content":"a"}]})", 400);
  EXPECT_EQ(at(answer, "type").as_string(), "error");
  EXPECT_EQ(dump(at(answer, "error").find("type")), "\"invalid_request_error\"");
  EXPECT_NE(answer.find("request_id"), nullptr);
  EXPECT_EQ(
      dump(at(ask_json(kMessages, R"({"model":"none","max_tokens":1,"messages":[{"role":"user","content":"a"}]})", 404),
              "error")
               .find("type")),
      "\"not_found_error\"");
  for (
      const char* body :
      {"[]", R"({"max_tokens":1})", R"({"max_tokens":1,"messages":[{"role":"robot","content":"a"}]})",
       R"({"max_tokens":1,"messages":[{"role":"user","content":[{"type":"image"}]}]})",
       R"({"max_tokens":1,"messages":[{"role":"user","content":"a"}],"tools":[{"type":"web_search_20250305","name":"web_search"}]})",
       R"({"max_tokens":1,"messages":[{"role":"user","content":"a"}],"tool_choice":{"type":"any"}})"})
    EXPECT_NE(message(kMessages, body), "(absent)") << body;
  EXPECT_EQ(ask("GET", kMessages, "").status, 405);
}

TEST_F(ProtocolsTest, AnthropicListsModels) {
  const auto answer = ask("GET", "/v1/models", "", "anthropic-version: 2023-06-01\r\n");
  const json::Value list = *json::parse(answer.body);
  EXPECT_EQ(at(at(list, "data").as_array()[0], "type").as_string(), "model");
  EXPECT_EQ(at(at(list, "data").as_array()[0], "created_at").as_string(), "1970-01-01T00:00:01Z");
  EXPECT_EQ(at(list, "first_id").as_string(), "alphabet");
}

// ---- Ollama
// -----------------------------------------------------------------------------------------------------------
TEST_F(ProtocolsTest, OllamaStreamsLinesUnlessToldNotTo) {
  const auto answer = ask(
      "POST", "/api/chat",
      R"({"model":"alphabet:latest","messages":[{"role":"user","content":"abc"}],"options":{"num_predict":3,"num_ctx":2048}})");
  ASSERT_EQ(answer.status, 200);
  EXPECT_NE(answer.head.find("application/x-ndjson"), std::string::npos);
  EXPECT_NE(answer.head.find("X-Ignored-Params: options.num_ctx"), std::string::npos) << answer.head;
  std::string text;
  const auto all = lines(answer.body);
  for (const json::Value& line : all) text += at(at(line, "message"), "content").as_string();
  EXPECT_EQ(text, "def");
  EXPECT_EQ(dump(all.front().find("done")), "false");
  EXPECT_EQ(dump(all.back().find("done_reason")), "\"length\"");
  EXPECT_EQ(at(all.back(), "prompt_eval_count").as_int(), 3);
  EXPECT_EQ(at(all.back(), "eval_count").as_int(), 3);
  EXPECT_GT(at(all.back(), "total_duration").as_int(), 0);
  const json::Value whole = ask_json(
      "/api/chat",
      R"({"model":"alphabet","stream":false,"logprobs":true,"messages":[{"role":"user","content":"abc"}],"options":{"num_predict":2}})");
  EXPECT_EQ(at(at(whole, "message"), "content").as_string(), "de");
  EXPECT_EQ(at(whole, "logprobs").as_array().size(), 2u);
}

TEST_F(ProtocolsTest, OllamaGeneratesRawOrThroughTheTemplateAndLoads) {
  EXPECT_EQ(
      at(ask_json("/api/generate",
                  R"({"model":"alphabet","prompt":"abc","stream":false,"options":{"num_predict":2,"stop":["e"]}})"),
         "response")
          .as_string(),
      "d");
  EXPECT_EQ(at(ask_json("/api/generate",
                        R"({"model":"alphabet","prompt":"abc","raw":true,"stream":false,"options":{"num_predict":2}})"),
               "response")
                .as_string(),
            "de");
  EXPECT_EQ(at(ask_json("/api/generate", R"({"model":"alphabet"})"), "done_reason").as_string(), "load");
  EXPECT_EQ(at(ask_json("/api/chat", R"({"model":"alphabet","messages":[]})"), "done_reason").as_string(), "load");
  EXPECT_NE(message("/api/generate", R"({"model":"alphabet","prompt":"a","suffix":"b"})").find("fill in the middle"),
            std::string::npos);
  const json::Value form =
      ask_json("/api/generate", R"({"model":"alphabet","prompt":"abc","stream":false,"format":{"enum":["yes"]}})");
  EXPECT_EQ(at(form, "response").as_string(), "\"yes\"");
}

TEST_F(ProtocolsTest, OllamaCallsToolsWithArgumentsAsObjects) {
  const auto answer = ask(
      "POST", "/api/chat",
      R"({"model":"alphabet","messages":[{"role":"user","content":"abc"},{"role":"assistant","content":"","tool_calls":[{"function":{"name":"look","arguments":{"n":1}}}]},{"role":"tool","tool_name":"look","content":"abc"}],"stream":false,"options":{"num_predict":1}})");
  EXPECT_EQ(answer.status, 200) << answer.body;
}

TEST_F(ProtocolsTest, OllamaShowsAndEmbeds) {
  EXPECT_EQ(ask("GET", "/api/version", "").status, 200);
  const json::Value tags = *json::parse(ask("GET", "/api/tags", "").body);
  EXPECT_EQ(at(at(tags, "models").as_array()[0], "name").as_string(), "alphabet");
  const json::Value loaded = *json::parse(ask("GET", "/api/ps", "").body);
  ASSERT_EQ(at(loaded, "models").as_array().size(), 2u);
  EXPECT_EQ(at(at(loaded, "models").as_array()[0], "expires_at").as_string().size(), 20u);  // a moment that clients can read
  EXPECT_EQ(at(at(ask_json("/api/show", R"({"model":"alphabet"})"), "model_info"), "context_length").as_int(), 512);
  const json::Value vectors = ask_json("/api/embed", R"({"model":"vectors","input":["a","b"],"dimensions":4})");
  EXPECT_EQ(at(vectors, "embeddings").as_array().size(), 2u);
  EXPECT_EQ(at(vectors, "embeddings").as_array()[0].as_array().size(), 4u);
  EXPECT_EQ(at(ask_json("/api/embeddings", R"({"model":"vectors","prompt":"a"})"), "embedding").as_array().size(),
            test::AlphabetModel::kVocab);
}

TEST_F(ProtocolsTest, OllamaRefusesInItsOwnShape) {
  EXPECT_EQ(ask("POST", "/api/chat", R"({"model":"none","messages":[{"role":"user","content":"a"}]})")
                .body.find(R"({"error":"The model `none`)"),
            0u);
  EXPECT_EQ(ask("POST", "/api/pull", R"({"model":"x"})").status, 501);
  EXPECT_EQ(ask("GET", "/api/chat", "").status, 405);
  for (const char* body : {R"({"messages":[{"role":"user","content":"a","images":["x"]}]})",
                           R"({"messages":[{"role":"user","content":"a"}],"options":{"temperature":9}})",
                           R"({"messages":[{"role":"user","content":"a"}],"format":3})", "{",
                           R"({"messages":[{"role":"user","content":"a"}],"think":3})"})
    EXPECT_NE(message("/api/chat", body), "(absent)") << body;
}

// ---- DashScope
// --------------------------------------------------------------------------------------------------------
constexpr const char* kGeneration = "/api/v1/services/aigc/text-generation/generation";

TEST_F(ProtocolsTest, DashScopeAnswersInBothFormats) {
  const json::Value text =
      ask_json(kGeneration, R"({"model":"alphabet","input":{"prompt":"abc"},"parameters":{"max_tokens":3}})");
  EXPECT_EQ(dump(text.find("output")), R"({"text": "def", "finish_reason": "length"})");
  EXPECT_EQ(at(at(text, "usage"), "total_tokens").as_int(), 6);
  EXPECT_NE(text.find("request_id"), nullptr);
  EXPECT_EQ(text.find("code"), nullptr);
  const json::Value whole = ask_json(
      kGeneration,
      R"({"model":"alphabet","input":{"messages":[{"role":"user","content":"abc"}]},"parameters":{"max_tokens":3,"result_format":"message","stop":[[69]]}})");
  EXPECT_EQ(dump(at(whole, "output").find("choices")),
            R"([{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "de"}}])");
  const json::Value parts = ask_json(
      "/api/v1/services/aigc/multimodal-generation/generation",
      R"({"model":"alphabet","input":{"messages":[{"role":"user","content":[{"text":"abc"}]}]},"parameters":{"max_tokens":1}})");
  EXPECT_EQ(dump(at(at(at(parts, "output"), "choices").as_array()[0], "message").find("content")),
            R"([{"text": "d"}])");
}

TEST_F(ProtocolsTest, DashScopeStreamsFramesThatGrowOrAdd) {
  for (const bool incremental : {false, true}) {
    const auto answer = ask(
        "POST", kGeneration,
        R"({"model":"alphabet","input":{"messages":[{"role":"user","content":"abc"}]},"parameters":{"max_tokens":3,"result_format":"message","incremental_output":)" +
            std::string(incremental ? "true" : "false") + "}}",
        "X-DashScope-SSE: enable\r\n");
    ASSERT_EQ(answer.status, 200);
    const std::string text = test::dechunked(answer.body);
    EXPECT_TRUE(text.starts_with("id:1\nevent:result\n:HTTP_STATUS/200\ndata:{")) << text;
    EXPECT_EQ(text.find("[DONE]"), std::string::npos);
    std::string joined, last, reasons;
    std::int64_t output = 0;
    for (const Event& event : events(answer.body)) {
      const json::Value& choice = at(at(event.data, "output"), "choices").as_array()[0];
      last = at(at(choice, "message"), "content").as_string();
      joined += last;
      reasons += at(choice, "finish_reason").as_string() + " ";
      EXPECT_GE(at(at(event.data, "usage"), "output_tokens").as_int(), output);  // a running total in every frame
      output = at(at(event.data, "usage"), "output_tokens").as_int();
    }
    EXPECT_EQ(incremental ? joined : last, "def");
    EXPECT_EQ(reasons, "null null null length ");
    EXPECT_EQ(output, 3);
  }
}

TEST_F(ProtocolsTest, DashScopeStopsAtSequencesOfIdsAndGoesOnFromABeginning) {
  EXPECT_EQ(
      at(at(ask_json(kGeneration,
                     R"({"model":"alphabet","input":{"prompt":"abc"},"parameters":{"max_tokens":9,"stop":[[69,70]]}})"),
            "output"),
         "text")
          .as_string(),
      "de");
  EXPECT_EQ(
      at(at(ask_json(
                kGeneration,
                R"({"model":"alphabet","input":{"messages":[{"role":"user","content":"abc"},{"role":"assistant","content":"mn","partial":true}]},"parameters":{"max_tokens":2}})"),
            "output"),
         "text")
          .as_string(),
      "op");
  EXPECT_EQ(
      at(at(ask_json(
                kGeneration,
                R"({"model":"alphabet","input":{"prompt":"xyz","history":[{"user":"a","bot":"b"}]},"parameters":{"max_tokens":1}})"),
            "output"),
         "text")
          .as_string(),
      "{");
}

// What is wrong with a request for a stream is an event; who may not ask, or asks for what is not there, hears it by
// the status.
TEST_F(ProtocolsTest, DashScopeTellsErrorsInStreams) {
  const auto streamed = [&](const std::string& body) {
    return ask("POST", kGeneration, body, "X-DashScope-SSE: enable\r\n");
  };
  for (const std::string body :
       {"{", R"({"model":"alphabet","input":{"prompt":"a"},"parameters":{"temperature":9}})",
        R"({"model":"alphabet","input":{"prompt":"a"},"parameters":{"logit_bias":{"99999999":1}}})"}) {
    const auto answer = streamed(body);
    EXPECT_EQ(answer.status, 200) << body;
    const std::string text = test::dechunked(answer.body);
    EXPECT_TRUE(text.starts_with("id:1\nevent:error\n:HTTP_STATUS/400\ndata:{\"code\":\"InvalidParameter\",")) << text;
    EXPECT_EQ(text.find("id:2"), std::string::npos);
  }
  EXPECT_EQ(streamed(R"({"model":"none","input":{"prompt":"a"}})").status, 404);
  const std::string z = std::to_string(*tokenizer_.find("z"));
  EXPECT_EQ(
      at(at(ask_json(kGeneration,
                     R"({"model":"alphabet","input":{"prompt":"a"},"parameters":{"max_tokens":2,"logit_bias":{")" + z +
                         R"(":100}}})"),
            "output"),
         "text")
          .as_string(),
      "zz");
}

TEST_F(ProtocolsTest, DashScopeCallsTools) {
  const std::string body =
      R"({"model":"alphabet","input":{"messages":[{"role":"user","content":"abc"}]},"parameters":{"max_tokens":200,"incremental_output":true,"result_format":"message",
    "tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{"n":{"type":"integer","minimum":0,"maximum":9}},"required":["n"],"additionalProperties":false}}}],
    "tool_choice":{"type":"function","function":{"name":"look"}},"parallel_tool_calls":false}})";
  const json::Value whole = ask_json(kGeneration, body);
  const json::Value& choice = at(at(whole, "output"), "choices").as_array()[0];
  EXPECT_EQ(at(choice, "finish_reason").as_string(), "tool_calls");
  const std::string arguments =
      at(at(at(at(choice, "message"), "tool_calls").as_array()[0], "function"), "arguments").as_string();
  std::string pieces, names, ids;
  for (const Event& event : events(ask("POST", kGeneration, body, "Accept: text/event-stream\r\n").body)) {
    const json::Value* calls = at(at(at(event.data, "output"), "choices").as_array()[0], "message").find("tool_calls");
    if (calls == nullptr) continue;
    const json::Value& call = calls->as_array()[0];
    ids += at(call, "id").as_string().empty() ? "-" : "+";
    if (const json::Value* name = at(call, "function").find("name")) names += name->as_string();
    pieces += at(at(call, "function"), "arguments").as_string();
  }
  EXPECT_EQ(pieces, arguments);
  EXPECT_EQ(names, "look");
  EXPECT_TRUE(ids.starts_with("+-")) << ids;
}

TEST_F(ProtocolsTest, DashScopeEmbedsRanksTokenizesAndLists) {
  const json::Value embedded =
      ask_json("/api/v1/services/embeddings/text-embedding/text-embedding",
               R"({"model":"vectors","input":{"texts":["a","b"]},"parameters":{"dimension":3}})");
  EXPECT_EQ(at(at(at(embedded, "output"), "embeddings").as_array()[1], "text_index").as_int(), 1);
  EXPECT_EQ(at(at(at(embedded, "output"), "embeddings").as_array()[1], "embedding").as_array().size(), 3u);
  const json::Value ranked = ask_json(
      "/api/v1/services/rerank/text-rerank/text-rerank",
      R"({"model":"vectors","input":{"query":"q","documents":["x","y"]},"parameters":{"top_n":1,"return_documents":true}})");
  EXPECT_EQ(at(at(ranked, "output"), "results").as_array().size(), 1u);
  const json::Value tokens =
      ask_json("/api/v1/tokenizer", R"({"model":"alphabet","input":{"messages":[{"role":"user","content":"ab"}]}})");
  EXPECT_EQ(dump(tokens.find("output")), R"({"token_ids": [64, 65], "tokens": ["a", "b"]})");
  EXPECT_EQ(at(at(*json::parse(ask("GET", "/api/v1/models", "").body), "output"), "total").as_int(), 2);
  EXPECT_EQ(at(at(ask_json("/compatible-mode/v1/chat/completions",
                           R"({"model":"alphabet","max_tokens":1,"messages":[{"role":"user","content":"abc"}]})"),
                  "choices")
                   .as_array()[0],
               "finish_reason")
                .as_string(),
            "length");
  ask_json("/api/v2/apps/protocols/compatible-mode/v1/responses", R"({"model":"alphabet","input":"abc"})");
  ask_json("/apps/anthropic/v1/messages",
           R"({"model":"alphabet","max_tokens":1,"messages":[{"role":"user","content":"abc"}]})");
}

TEST_F(ProtocolsTest, DashScopeRefusesInItsOwnShape) {
  const json::Value error = ask_json(kGeneration, R"({"model":"none","input":{"prompt":"a"}})", 404);
  EXPECT_EQ(at(error, "code").as_string(), "ModelNotFound");
  EXPECT_NE(error.find("request_id"), nullptr);
  for (const char* body : {"[]", R"({"model":"alphabet"})", R"({"model":"alphabet","input":{}})",
                           R"({"model":"alphabet","input":{"prompt":"a"},"parameters":{"enable_search":true}})",
                           R"({"model":"alphabet","input":{"prompt":"a"},"parameters":{"temperature":3}})",
                           R"({"model":"alphabet","input":{"messages":[{"role":"user","content":[{"image":"x"}]}]}})"})
    EXPECT_EQ(at(ask_json(kGeneration, body, 400), "code").as_string(), "InvalidParameter") << body;
}

TEST_F(ProtocolsTest, WhatIsNotActedOnInsideOthersIsNamed) {
  const auto search = ask("POST", kGeneration,
                          R"({"model":"alphabet","input":{"prompt":"a"},"parameters":{"max_tokens":1,"search_options":{"forced_search":true}}})");
  EXPECT_EQ(search.status, 200) << search.body;
  EXPECT_NE(search.head.find("X-Ignored-Params: search_options\r\n"), std::string::npos) << search.head;
  const auto response = ask("POST", "/v1/responses",
                            R"({"model":"alphabet","input":"a","max_output_tokens":1,"text":{"format":{"type":"text"},"verbosity":"low"},"odd":1})");
  EXPECT_EQ(response.status, 200) << response.body;
  EXPECT_NE(response.head.find("X-Ignored-Params: text.verbosity,odd\r\n"), std::string::npos) << response.head;
}

// ---- of OpenAI's, with the rest
// --------------------------------------------------------------------------------------
TEST_F(ProtocolsTest, OpenAiGoesOnFromAPartialMessage) {
  const json::Value answer = ask_json(
      "/v1/chat/completions",
      R"({"model":"alphabet","max_tokens":2,"messages":[{"role":"user","content":"abc"},{"role":"assistant","content":"pq","partial":true}]})");
  EXPECT_EQ(at(at(at(answer, "choices").as_array()[0], "message"), "content").as_string(), "rs");
}

constexpr const char* kResponses = "/v1/responses";

TEST_F(ProtocolsTest, ResponsesAnswerWithItems) {
  const json::Value answer =
      ask_json(kResponses, R"({"model":"alphabet","input":"abc","max_output_tokens":3,"metadata":{"a":"b"}})");
  EXPECT_EQ(at(answer, "status").as_string(), "incomplete");
  EXPECT_EQ(dump(answer.find("incomplete_details")), R"({"reason": "max_output_tokens"})");
  EXPECT_EQ(dump(at(at(answer, "output").as_array()[0], "content").as_array()[0].find("text")), "\"def\"");
  EXPECT_EQ(at(at(answer, "usage"), "total_tokens").as_int(), 6);
  EXPECT_EQ(dump(answer.find("metadata")), R"({"a": "b"})");
  EXPECT_EQ(dump(answer.find("store")), "false");  // there is nowhere to
  EXPECT_EQ(
      at(ask_json("/v1/responses/input_tokens", R"({"model":"alphabet","input":"abcd"})"), "input_tokens").as_int(), 4);
  EXPECT_EQ(ask("GET", "/v1/responses/resp_x", "").status, 501);
  ask_json(kResponses, R"({"model":"alphabet","input":"abc","previous_response_id":"resp_x"})", 501);
}

TEST_F(ProtocolsTest, ResponsesStreamNumberedEvents) {
  const auto answer = ask(
      "POST", kResponses,
      R"({"model":"alphabet","input":[{"role":"user","content":[{"type":"input_text","text":"abc"}]}],"max_output_tokens":2,"stream":true})");
  ASSERT_EQ(answer.status, 200);
  std::string names, text;
  std::int64_t number = 0;
  for (const Event& event : events(answer.body)) {
    EXPECT_EQ(at(event.data, "type").as_string(), event.name);
    EXPECT_EQ(at(event.data, "sequence_number").as_int(), number++);
    if (event.name.ends_with(".delta")) {
      text += at(event.data, "delta").as_string();
      if (names.ends_with("delta ")) continue;
    }
    names += event.name.substr(9) + " ";
  }
  EXPECT_EQ(text, "de");
  EXPECT_EQ(names,
            "created in_progress output_item.added content_part.added output_text.delta output_text.done "
            "content_part.done output_item.done incomplete ");
}

TEST_F(ProtocolsTest, ResponsesCallTools) {
  const std::string body =
      R"({"model":"alphabet","input":"abc","max_output_tokens":200,"parallel_tool_calls":false,"tool_choice":{"type":"function","name":"look"},
    "tools":[{"type":"function","name":"look","parameters":{"type":"object","properties":{"n":{"type":"integer","minimum":0,"maximum":9}},"required":["n"],"additionalProperties":false}}])";
  const json::Value answer = ask_json(kResponses, body + "}");
  const json::Value& item = at(answer, "output").as_array().at(0);
  EXPECT_EQ(at(item, "type").as_string(), "function_call");
  EXPECT_EQ(at(item, "name").as_string(), "look");
  std::string arguments;
  for (const Event& event : events(ask("POST", kResponses, body + R"(,"stream":true})").body))
    if (event.name == "response.function_call_arguments.delta") arguments += at(event.data, "delta").as_string();
  EXPECT_EQ(arguments, at(item, "arguments").as_string());
}

TEST_F(ProtocolsTest, ResponsesSayWhatIsWrong) {
  for (const char* body :
       {R"({"model":"alphabet"})", R"({"input":[]})", R"({"input":[{"type":"image_generation_call"}]})",
        R"({"input":[{"role":"user","content":[{"type":"input_image"}]}]})",
        R"({"input":"a","tools":[{"type":"web_search"}]})", R"({"input":"a","tool_choice":"required"})",
        R"({"input":"a","truncation":"sometimes"})", R"({"input":"a","background":true,"store":false})"})
    EXPECT_NE(message(kResponses, body), "(absent)") << body;
  EXPECT_EQ(ask("GET", kResponses, "").status, 405);
}

class GuardedProtocolsTest : public test::AccountsServiceTest {};

TEST_F(GuardedProtocolsTest, AResponseIsKeptReadGoneOnFromAndDeleted) {
  const json::Value first =
      ask_json(kResponses, R"({"model":"alphabet","input":"abc","max_output_tokens":2})", 200, bearer(key_));
  const std::string id = at(first, "id").as_string(), path = std::string(kResponses) + "/" + id;
  const auto read = ask("GET", path, "", bearer(key_));
  EXPECT_EQ(json::dump(*json::parse(read.body)), json::dump(first));
  const json::Value items = *json::parse(ask("GET", path + "/input_items", "", bearer(key_)).body);
  EXPECT_EQ(dump(at(at(items, "data").as_array()[0], "content").as_array()[0].find("text")), "\"abc\"");
  const json::Value second = ask_json(
      kResponses, R"({"model":"alphabet","input":"xyz","max_output_tokens":1,"previous_response_id":")" + id + "\"}",
      200, bearer(key_));
  EXPECT_EQ(at(second, "previous_response_id").as_string(), id);
  const std::string kept = store_->documents().find(project_, "response", at(second, "id").as_string())->body;
  EXPECT_EQ(
      dump(json::parse(kept)->find("messages")),
      R"([{"role": "user", "content": "abc"}, {"role": "assistant", "content": "de"}, {"role": "user", "content": "xyz"}, {"role": "assistant", "content": "{"}])");
  ASSERT_TRUE(store_->tenants().add_project("o", "other").has_value());
  const auto other = *store_->tenants().add_key({"other", "", "", {"*"}, {}, {}, 0});
  EXPECT_EQ(ask("GET", path, "", bearer(other)).status, 404);
  ask_json(kResponses, R"({"model":"alphabet","input":"a","previous_response_id":")" + id + "\"}", 400, bearer(other));
  EXPECT_EQ(ask("DELETE", path, "", bearer(key_)).status, 200);
  EXPECT_EQ(ask("GET", path, "", bearer(key_)).status, 404);
  const json::Value unkept = ask_json(
      kResponses, R"({"model":"alphabet","input":"abc","max_output_tokens":2,"store":false})", 200, bearer(key_));
  EXPECT_EQ(ask("GET", std::string(kResponses) + "/" + at(unkept, "id").as_string(), "", bearer(key_)).status, 404);
}

TEST_F(GuardedProtocolsTest, WithoutAKeyEachProtocolRefusesInItsShape) {
  EXPECT_NE(ask("POST", kMessages, "{}").body.find(R"({"type":"error","error":{"type":"authentication_error")"),
            std::string::npos);
  EXPECT_EQ(ask("POST", "/api/chat", "{}").body.find(R"({"error":"This service needs)"), 0u);
  EXPECT_NE(ask("POST", kGeneration, "{}").body.find(R"("code":"InvalidApiKey")"), std::string::npos);
  const auto reader = key({"models.read"});
  EXPECT_EQ(ask("POST", kMessages, "{}", bearer(reader)).status, 403);
  EXPECT_NE(ask("POST", kGeneration, "{}", bearer(reader)).body.find(R"("code":"AccessDenied")"), std::string::npos);
  EXPECT_EQ(ask("GET", "/api/tags", "", bearer(reader)).status, 200);
}

TEST_F(GuardedProtocolsTest, EveryProtocolPaysTheSame) {
  const auto used = [&] {
    const auto sums = store_->ledger().usage_sums({}, "");
    return sums->empty() ? std::int64_t{0} : sums->at(0).tokens.prompt + sums->at(0).tokens.output;
  };
  std::int64_t before = used();
  const auto paid = [&](const std::string& path, const std::string& body) {
    EXPECT_EQ(ask("POST", path, body, bearer(key_)).status, 200);
    const std::int64_t now = used(), cost = now - before;
    before = now;
    return cost;
  };
  EXPECT_EQ(paid("/v1/chat/completions",
                 R"({"model":"alphabet","max_tokens":2,"messages":[{"role":"user","content":"abc"}]})"),
            5);
  EXPECT_EQ(paid(kMessages, R"({"model":"alphabet","max_tokens":2,"messages":[{"role":"user","content":"abc"}]})"), 5);
  EXPECT_EQ(paid(kMessages,
                 R"({"model":"alphabet","max_tokens":2,"stream":true,"messages":[{"role":"user","content":"abc"}]})"),
            5);
  EXPECT_EQ(paid("/api/chat",
                 R"({"model":"alphabet","options":{"num_predict":2},"messages":[{"role":"user","content":"abc"}]})"),
            5);
  EXPECT_EQ(paid(kGeneration, R"({"model":"alphabet","input":{"prompt":"abc"},"parameters":{"max_tokens":2}})"), 5);
}

}  // namespace
}  // namespace qw::api
