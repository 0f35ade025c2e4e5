// Answers that reach their most tokens in the middle of a tool call, in every protocol: what is finished is a call,
// what is not is a beginning of one where the protocol can say that, whole characters of it, and markup is never text.
#include "api/internal/test_service.h"

namespace qw::api {
namespace {

constexpr std::string_view kText = "Both.";
const std::string kCall = "<tool_call>\n{\"name\": \"weigh\", \"arguments\": {\"unit\": \"千克\"}}\n</tool_call>";
constexpr std::string_view kArguments = R"({"unit": "千克"})";

class CutCallsTest : public test::ServiceTest {
 protected:
  struct Told {
    std::string content, reason;
    std::vector<std::string> names, arguments, statuses;
  };
  void SetUp() override {
    model_.prompt_tokens = 3;
    const std::string text = std::string(kText) + "\n" + kCall + "\n" + kCall;
    model_.script = tokenizer_.encode(text);
    ASSERT_EQ(model_.script.size(), text.size());
    test::ServiceTest::SetUp();
  }
  static std::string tools(const char* schema_name, bool wrapped) {
    const std::string inner = std::string(R"({"name":"weigh",")") + schema_name +
                              R"(":{"type":"object","properties":{"unit":{"enum":["千克"]}},"required":["unit"]}})";
    return R"("tools":[)" + (wrapped ? R"({"type":"function","function":)" + inner + "}" : inner) + "]";
  }
  // The JSON of each line that has some: of events behind "data:".
  std::vector<json::Value> told(const std::string& path, const std::string& body, const std::string& headers = "") {
    const auto answer = ask("POST", path, body, headers);
    EXPECT_EQ(answer.status, 200) << answer.body;
    const bool whole = answer.head.find("chunked") == std::string::npos;
    return test::json_of_lines(whole ? answer.body : test::dechunked(answer.body));
  }
  static std::string text_of(const json::Value& v, std::string_view key) {
    const json::Value* text = v.find(key);
    return text != nullptr && text->is_string() ? text->as_string() : "";
  }
  // OpenAI's and DashScope's calls: pieces belong to the call of their index.
  static void add_calls(const json::Value& message, Told& out) {
    const json::Value* calls = message.find("tool_calls");
    if (calls == nullptr) return;
    for (std::size_t i = 0; i < calls->as_array().size(); ++i) {
      const json::Value& call = calls->as_array()[i];
      const json::Value* index = call.find("index");
      const std::size_t at = index == nullptr ? i : static_cast<std::size_t>(index->as_int());
      out.names.resize(std::max(out.names.size(), at + 1));
      out.arguments.resize(out.names.size());
      out.names[at] += text_of(*call.find("function"), "name");
      out.arguments[at] += text_of(*call.find("function"), "arguments");
    }
  }
  // What a protocol said. `whole_only`: it cannot say a beginning of arguments.
  void expect(const Told& told, std::size_t tokens, const char* reason, bool whole_only = false) {
    SCOPED_TRACE(testing::Message() << tokens << " tokens");
    EXPECT_EQ(told.reason, reason);
    EXPECT_TRUE(told.content == kText || told.content == std::string(kText) + "\n" ||
                (tokens < kText.size() && kText.starts_with(told.content)))
        << told.content;
    const std::size_t each = kCall.size() + 1, said = tokens > kText.size() + 1 ? tokens - kText.size() - 1 : 0;
    const std::size_t finished = said / each, rest = said % each;
    ASSERT_GE(told.arguments.size(), finished);
    ASSERT_LE(told.arguments.size(), finished + 1);
    for (std::size_t i = 0; i < told.arguments.size(); ++i) {
      EXPECT_EQ(told.names[i], "weigh");
      const bool whole = i < finished || rest >= kCall.size() - std::string("\n</tool_call>").size() || whole_only;
      if (whole) {
        EXPECT_EQ(told.arguments[i], kArguments);
      } else {
        EXPECT_TRUE(kArguments.starts_with(told.arguments[i])) << told.arguments[i];
      }
      if (!told.statuses.empty()) {
        EXPECT_EQ(told.statuses[i], whole ? "completed" : "incomplete");
      }
    }
    // From its name on a call is told.
    if (!whole_only && rest > 40) {
      EXPECT_EQ(told.arguments.size(), finished + 1);
    }
  }
  // An open object: OpenAI's request and Anthropic's differ in their tools only.
  static std::string messages_body(std::size_t n, const std::string& tools) {
    return R"({"model":"alphabet","messages":[{"role":"user","content":"abc"}],"max_tokens":)" + std::to_string(n) +
           "," + tools;
  }
  static std::vector<std::size_t> lengths() { return {3, 8, 20, 34, 52, 57, 60, 61, 63, 64, 72, 78, 95, 110, 120, 128}; }
};

TEST_F(CutCallsTest, OpenAi) {
  for (const std::size_t n : lengths()) {
    const std::string body = messages_body(n, tools("parameters", true));
    Told whole, streamed;
    const auto answer = told("/v1/chat/completions", body + "}").at(0);
    const json::Value& choice = at(answer, "choices").as_array()[0];
    whole.content = text_of(at(choice, "message"), "content");
    whole.reason = text_of(choice, "finish_reason");
    add_calls(at(choice, "message"), whole);
    expect(whole, n, "length");
    for (const json::Value& event : told("/v1/chat/completions", body + R"(,"stream":true})")) {
      const json::Value& piece = at(event, "choices").as_array()[0];
      streamed.content += text_of(at(piece, "delta"), "content");
      streamed.reason += text_of(piece, "finish_reason");
      add_calls(at(piece, "delta"), streamed);
    }
    expect(streamed, n, "length");
    EXPECT_EQ(streamed.arguments, whole.arguments);
  }
}

TEST_F(CutCallsTest, Responses) {
  for (const std::size_t n : lengths()) {
    std::string body = R"({"model":"alphabet","input":"abc","max_output_tokens":)" + std::to_string(n) + "," +
                       tools("parameters", false);
    body.insert(body.find(R"({"name":"weigh")") + 1, R"("type":"function",)");
    const auto read = [&](const json::Value& response) {
      Told out;
      out.reason = text_of(response, "status") + " " + text_of(at(response, "incomplete_details"), "reason");
      for (const json::Value& item : at(response, "output").as_array()) {
        if (text_of(item, "type") == "message") {
          out.content += text_of(at(item, "content").as_array()[0], "text");
          continue;
        }
        out.names.push_back(text_of(item, "name"));
        out.arguments.push_back(text_of(item, "arguments"));
        out.statuses.push_back(text_of(item, "status"));
      }
      return out;
    };
    const auto whole = read(told("/v1/responses", body + "}").at(0));
    expect(whole, n, "incomplete max_output_tokens");
    const auto events = told("/v1/responses", body + R"(,"stream":true})");
    EXPECT_EQ(text_of(events.back(), "type"), "response.incomplete");
    const auto streamed = read(at(events.back(), "response"));
    expect(streamed, n, "incomplete max_output_tokens");
    EXPECT_EQ(streamed.arguments, whole.arguments);
    std::vector<std::string> done, statuses;
    for (const json::Value& event : events)
      if (text_of(event, "type") == "response.output_item.done")
        if (text_of(at(event, "item"), "type") == "function_call") {
          done.push_back(text_of(at(event, "item"), "arguments"));
          statuses.push_back(text_of(at(event, "item"), "status"));
        }
    EXPECT_EQ(done, whole.arguments);
    EXPECT_EQ(statuses, whole.statuses);
  }
}

TEST_F(CutCallsTest, Anthropic) {
  for (const std::size_t n : lengths()) {
    const std::string body = messages_body(n, tools("input_schema", false));
    Told whole, streamed;
    const auto answer = told("/v1/messages", body + "}").at(0);
    whole.reason = text_of(answer, "stop_reason");
    for (const json::Value& block : at(answer, "content").as_array()) {
      whole.content += text_of(block, "text");
      if (text_of(block, "type") != "tool_use") continue;
      whole.names.push_back(text_of(block, "name"));
      // An object in any case; empty where the call was cut.
      const std::string input = json::dump(at(block, "input"));
      whole.arguments.push_back(input == "{}" ? "" : input);
    }
    expect(whole, n, "max_tokens");
    for (const json::Value& event : told("/v1/messages", body + R"(,"stream":true})")) {
      if (const json::Value* block = event.find("content_block"); block && text_of(*block, "type") == "tool_use") {
        streamed.names.push_back(text_of(*block, "name"));
        streamed.arguments.emplace_back();
      }
      if (const json::Value* delta = event.find("delta")) {
        streamed.content += text_of(*delta, "text");
        streamed.reason += text_of(*delta, "stop_reason");
        if (!streamed.arguments.empty()) streamed.arguments.back() += text_of(*delta, "partial_json");
      }
    }
    expect(streamed, n, "max_tokens");
  }
}

TEST_F(CutCallsTest, DashScope) {
  for (const std::size_t n : lengths())
    for (const bool incremental : {false, true}) {
      const std::string body =
          R"({"model":"alphabet","input":{"messages":[{"role":"user","content":"abc"}]},"parameters":{"result_format":"message",)"
          R"("incremental_output":)" +
          std::string(incremental ? "true" : "false") + R"(,"max_tokens":)" + std::to_string(n) + "," +
          tools("parameters", true) + "}}";
      const char* path = "/api/v1/services/aigc/text-generation/generation";
      for (const bool streams : {false, true}) {
        Told out;
        for (const json::Value& event : told(path, body, streams ? "Accept: text/event-stream\r\n" : "")) {
          if (!incremental || !streams) out = {};
          const json::Value& choice = at(at(event, "output"), "choices").as_array()[0];
          out.content += text_of(at(choice, "message"), "content");
          out.reason = text_of(choice, "finish_reason");
          add_calls(at(choice, "message"), out);
        }
        expect(out, n, "length");
      }
    }
}

TEST_F(CutCallsTest, Ollama) {
  for (const std::size_t n : lengths())
    for (const char* stream : {"true", "false"}) {
      Told out;
      for (const json::Value& line :
           told("/api/chat", R"({"model":"alphabet","messages":[{"role":"user","content":"abc"}],"stream":)" +
                                 std::string(stream) + R"(,"options":{"num_predict":)" + std::to_string(n) + "}," +
                                 tools("parameters", true) + "}")) {
        const json::Value& message = at(line, "message");
        out.content += text_of(message, "content");
        out.reason += text_of(line, "done_reason");
        if (const json::Value* calls = message.find("tool_calls"))
          for (const json::Value& call : calls->as_array()) {
            out.names.push_back(text_of(at(call, "function"), "name"));
            out.arguments.push_back(json::dump(at(at(call, "function"), "arguments")));
          }
      }
      expect(out, n, "length", /*whole_only=*/true);
    }
}

}  // namespace
}  // namespace qw::api
