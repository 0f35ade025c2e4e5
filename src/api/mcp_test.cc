// Responses whose model calls tools of MCP servers.
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "api/internal/test_accounts.h"

namespace qw::api {
namespace {

constexpr const char* kResponses = "/v1/responses";

// A server with the tool "plus", which needs the argument 1.
class ToolServer {
 public:
  ToolServer() {
    net::ServerOptions options;
    options.port = 0;
    server_ =
        std::move(*net::HttpServer::start(options, [this](net::Request request, std::shared_ptr<net::Reply> reply) {
          handle(request, std::move(reply));
        }));
  }
  ~ToolServer() {
    {
      const std::lock_guard lock(mutex_);
      kept_.clear();
    }
    server_->stop();
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(server_->port()) + "/mcp"; }
  int calls() const { return calls_.load(); }
  std::string secret() const {
    const std::lock_guard lock(mutex_);
    return secret_;
  }
  std::string result = R"({"content":[{"type":"text","text":"ab"}]})", list;
  bool silent = false;  // calls are not answered

 private:
  void handle(const net::Request& request, std::shared_ptr<net::Reply> reply) {
    if (request.method == "DELETE") return reply->send({200, {}, ""});
    const auto message = json::parse(request.body);
    const std::string method = message ? message->find("method")->as_string() : "";
    if (method != "initialize" && net::find_header(request.headers, "Mcp-Session-Id").empty())
      return reply->send({400, {}, "no session"});
    if (method == "notifications/initialized") return reply->send({202, {}, ""});
    std::string answer;
    const std::lock_guard lock(mutex_);
    if (method == "initialize") {
      answer = R"({"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"t","version":"1"}})";
    } else if (method == "tools/list") {
      secret_ = net::find_header(request.headers, "Authorization");
      answer = list.empty() ? R"({"tools":[{"name":"plus","description":"adds","inputSchema":{"type":"object",)"
                              R"("properties":{"a":{"const":1}},"required":["a"],"additionalProperties":false}}]})"
                            : list;
    } else {
      ++calls_;
      if (silent) return kept_.push_back(std::move(reply));
      answer = result;
    }
    reply->send({200,
                 {{"Content-Type", "application/json"}, {"Mcp-Session-Id", "s"}},
                 R"({"jsonrpc":"2.0","id":)" + json::dump(*message->find("id")) + R"(,"result":)" + answer + "}"});
  }
  std::atomic<int> calls_{0};
  mutable std::mutex mutex_;
  std::string secret_;
  std::vector<std::shared_ptr<net::Reply>> kept_;
  std::unique_ptr<net::HttpServer> server_;
};

class McpTest : public test::AccountsServiceTest {
 protected:
  void SetUp() override {
    mcp_.servers = {{"sums", tools_.url()}};
    test::AccountsServiceTest::SetUp();
  }
  // The model must call; then it goes on from what the tool said: "ab" is continued by "cd...".
  std::string request(const std::string& approval, const std::string& more = "", const std::string& input = "\"abc\"") {
    return R"({"model":"alphabet","input":)" + input + R"(,"max_output_tokens":100,"parallel_tool_calls":false,"tool_choice":"required",)" +
           R"("tools":[{"type":"mcp","server_label":"sums","require_approval":)" + approval +
           R"(,"authorization":"token"}])" + more + "}";
  }
  std::vector<std::string> types(const json::Value& response) {
    std::vector<std::string> out;
    for (const json::Value& item : at(response, "output").as_array()) out.push_back(at(item, "type").as_string());
    return out;
  }
  json::Value post(const std::string& body, int status = 200) {
    return ask_json(kResponses, body, status, bearer(key_));
  }
  ToolServer tools_;
};

using Types = std::vector<std::string>;

TEST_F(McpTest, AToolIsCalledAndTheModelGoesOnWithWhatItSaid) {
  const json::Value answer = post(request("\"never\""));
  ASSERT_EQ(types(answer), (Types{"mcp_list_tools", "mcp_call", "message"})) << json::dump(answer);
  const json::Array& output = at(answer, "output").as_array();
  EXPECT_EQ(at(output[0], "server_label").as_string(), "sums");
  EXPECT_EQ(at(at(output[0], "tools").as_array()[0], "name").as_string(), "plus");
  EXPECT_EQ(at(output[1], "name").as_string(), "plus");
  EXPECT_EQ(json::parse(at(output[1], "arguments").as_string())->find("a")->as_int(), 1);
  EXPECT_EQ(at(output[1], "output").as_string(), "ab");
  EXPECT_EQ(at(output[1], "status").as_string(), "completed");
  EXPECT_TRUE(at(output[1], "error").is_null());
  EXPECT_TRUE(at(at(output[2], "content").as_array()[0], "text").as_string().starts_with("cdefg"));
  EXPECT_EQ(tools_.calls(), 1);
  EXPECT_EQ(tools_.secret(), "Bearer token");
  // What is secret is not shown, and every round is charged.
  EXPECT_EQ(json::dump(answer).find("token\""), std::string::npos);
  EXPECT_EQ(store_->ledger().usage_sums({}, "")->at(0).requests, 2);
  EXPECT_EQ(at(at(answer, "usage"), "output_tokens").as_int(),
            store_->ledger().usage_sums({}, "")->at(0).tokens.output);
  const std::string id = at(answer, "id").as_string();
  EXPECT_EQ(json::dump(*json::parse(ask("GET", std::string(kResponses) + "/" + id, "", bearer(key_)).body)),
            json::dump(answer));
  // The next response goes on from the whole of it, without the tools.
  const json::Value next =
      post(R"({"model":"alphabet","input":"x","max_output_tokens":2,"previous_response_id":")" + id + "\"}");
  EXPECT_EQ(at(at(at(next, "output").as_array()[0], "content").as_array()[0], "text").as_string(), "yz");
}

TEST_F(McpTest, EventsTellTheSame) {
  const auto stream = ask("POST", kResponses, request("\"never\"", R"(,"stream":true)"), bearer(key_));
  ASSERT_EQ(stream.status, 200) << stream.body;
  Types seen;
  std::int64_t number = 0;
  json::Value last;
  for (std::size_t at_byte = 0; (at_byte = stream.body.find("data: ", at_byte)) != std::string::npos; ++at_byte) {
    last = *json::parse(stream.body.substr(at_byte + 6, stream.body.find('\n', at_byte) - at_byte - 6));
    EXPECT_EQ(at(last, "sequence_number").as_int(), number++);
    const std::string type = at(last, "type").as_string();
    if (seen.empty() || seen.back() != type) seen.push_back(type);
  }
  EXPECT_EQ(seen, (Types{"response.created", "response.in_progress", "response.output_item.added",
                         "response.mcp_list_tools.in_progress", "response.mcp_list_tools.completed",
                         "response.output_item.done", "response.output_item.added", "response.mcp_call.in_progress",
                         "response.mcp_call_arguments.delta", "response.mcp_call_arguments.done",
                         "response.mcp_call.completed", "response.output_item.done", "response.output_item.added",
                         "response.content_part.added", "response.output_text.delta", "response.output_text.done",
                         "response.content_part.done", "response.output_item.done", "response.incomplete"}));
  EXPECT_EQ(types(at(last, "response")), (Types{"mcp_list_tools", "mcp_call", "message"}));
}

TEST_F(McpTest, ACallWaitsForApproval) {
  const json::Value asked = post(request("\"always\""));
  ASSERT_EQ(types(asked), (Types{"mcp_list_tools", "mcp_approval_request"})) << json::dump(asked);
  EXPECT_EQ(at(asked, "status").as_string(), "completed");
  EXPECT_EQ(tools_.calls(), 0);
  const json::Value& waiting = at(asked, "output").as_array()[1];
  EXPECT_EQ(at(waiting, "name").as_string(), "plus");
  const std::string approval = at(waiting, "id").as_string(), previous = at(asked, "id").as_string();
  const auto answer_with = [&](const std::string& word) {
    return R"([{"type":"mcp_approval_response","approval_request_id":")" + approval + R"(","approve":)" + word + "}]";
  };
  const std::string on = R"(,"previous_response_id":")" + previous + "\"";
  std::string body = request("\"always\"", on, answer_with("true"));
  body.replace(body.find("\"required\""), 10, "\"auto\"");
  const json::Value made = post(body);
  ASSERT_EQ(types(made), (Types{"mcp_list_tools", "mcp_call", "message"})) << json::dump(made);
  EXPECT_EQ(at(at(made, "output").as_array()[1], "approval_request_id").as_string(), approval);
  EXPECT_EQ(at(at(made, "output").as_array()[1], "output").as_string(), "ab");
  EXPECT_EQ(tools_.calls(), 1);
  body = request("\"always\"", on, answer_with("false"));
  body.replace(body.find("\"required\""), 10, "\"auto\"");
  const json::Value refused = post(body);
  EXPECT_EQ(types(refused), (Types{"mcp_list_tools", "message"}));
  EXPECT_EQ(tools_.calls(), 1);
  // By hand, without the store: the items themselves come along.
  body = request("\"always\"", R"(,"store":false)",
                 R"([{"role":"user","content":"abc"},)" + json::dump(waiting) + "," + answer_with("true").substr(1));
  body.replace(body.find("\"required\""), 10, "\"auto\"");
  EXPECT_EQ(types(post(body)), (Types{"mcp_list_tools", "mcp_call", "message"}));
  EXPECT_EQ(tools_.calls(), 2);
  // What was not asked cannot be approved.
  body = request(
      "\"always\"", "",
      R"([{"role":"user","content":"a"},{"type":"mcp_approval_response","approval_request_id":"mcpr_x","approve":true}])");
  post(body, 400);
  EXPECT_EQ(tools_.calls(), 2);
}

TEST_F(McpTest, OnlyWhatTheOperatorPermitsIsCalled) {
  const auto with = [](const std::string& tool) {
    return R"({"model":"alphabet","input":"a","tools":[{"type":"mcp",)" + tool + "}]}";
  };
  const std::string url = R"("server_url":")" + tools_.url() + "\"";
  EXPECT_EQ(at(at(post(with(R"("server_label":"mine",)" + url), 403), "error"), "code").as_string(),
            "mcp_server_not_allowed");
  post(with(R"("server_label":"other")"), 400);
  post(with(R"("server_label":"sums","server_url":"http://169.254.169.254/")"), 403);
  post(with(R"("server_label":"sums","headers":{"Host":"x"})"), 400);
  post(with(R"("server_label":"sums","headers":{"X":"a\r\nb"})"), 400);
  post(with(R"("server_label":"sums","require_approval":"sometimes")"), 400);
  post(with(R"("server_label":"sums","connector_id":"x")"), 400);
  post(with(url), 400);
  EXPECT_EQ(tools_.secret(), "");
  mcp_.servers.clear();
  restart();
  post(with(R"("server_label":"sums")"), 400);
  // A pattern permits addresses, and none of a private network.
  mcp_.patterns = {"http://127.0.0.1/"};
  restart();
  post(with(R"("server_label":"mine",)" + url), 403);  // another port
  mcp_.patterns = {tools_.url()};
  restart();
  const json::Value refused = post(with(R"("server_label":"mine",)" + url), 424);
  EXPECT_NE(at(at(refused, "error"), "message").as_string().find("may not be connected to"), std::string::npos);
  EXPECT_EQ(tools_.secret(), "");
}

TEST(McpPermission, PatternsCoverWhatTheySay) {
  McpOptions options;
  options.patterns = {"https://tools.example.org/mcp", "https://*.example.com/"};
  const McpDesk desk(std::move(options));
  const auto fine = [&](const char* url) { return desk.permitted("x", url, {}).has_value(); };
  for (const char* url :
       {"https://tools.example.org/mcp", "https://tools.example.org/mcp/a", "https://tools.example.org/mcp?x=1",
        "https://a.example.com/x", "https://a.b.example.com/", "https://example.com/"})
    EXPECT_TRUE(fine(url)) << url;
  for (const char* url :
       {"http://tools.example.org/mcp", "https://tools.example.org/mcpx", "https://tools.example.org:444/mcp",
        "https://tools.example.org/mcp/../admin", "https://tools.example.org/mcp/%2e%2e/admin",
        "https://evil-example.com/", "https://example.com.evil.org/", "https://u:p@a.example.com/",
        "ftp://a.example.com/", "x", ""})
    EXPECT_FALSE(fine(url)) << url;
  EXPECT_FALSE(parse_mcp_server("x"));
  EXPECT_FALSE(parse_mcp_server("a b=https://x/"));
  EXPECT_FALSE(parse_mcp_server("a=nothing"));
  EXPECT_TRUE(parse_mcp_server("a=http://127.0.0.1:9/mcp"));
  EXPECT_FALSE(check_mcp_pattern("example.org"));
}

TEST_F(McpTest, ServersThatFailGiveOneClearError) {
  tools_.list = R"({"tools":[{"name":"x"}]})";
  const json::Value failed = post(request("\"never\""), 424);
  EXPECT_EQ(at(at(failed, "error"), "message").as_string(), "MCP server `sums`: a tool without a name or a schema.");
  const auto stream = ask("POST", kResponses, request("\"never\"", R"(,"stream":true)"), bearer(key_));
  EXPECT_NE(stream.body.find("event: error\n"), std::string::npos) << stream.body;
  EXPECT_NE(stream.body.find("without a name or a schema"), std::string::npos);
  tools_.list.clear();
  // A call that fails is told to the model, which goes on.
  tools_.result = R"({"content":[{"type":"text","text":"no sums today"}],"isError":true})";
  const json::Value told = post(request("\"never\""));
  const json::Value& call = at(told, "output").as_array()[1];
  EXPECT_EQ(at(call, "status").as_string(), "failed");
  EXPECT_NE(json::dump(at(call, "error")).find("no sums today"), std::string::npos);
  EXPECT_EQ(types(told), (Types{"mcp_list_tools", "mcp_call", "message"}));
  tools_.result = R"({"content":[{"type":"text","text":")" + std::string(200'000, 'x') + R"("}]})";
  EXPECT_NE(json::dump(at(post(request("\"never\"")), "output")).find("bytes, more than"), std::string::npos);
}

TEST_F(McpTest, WhoLeavesAndAServiceThatEndsWaitForNoTool) {
  tools_.silent = true;
  leave_early(kResponses, request("\"never\"", R"(,"stream":true)"), bearer(key_));
  const int fd = send_request("POST", kResponses, request("\"never\""), bearer(key_));
  for (int i = 0; i < 1000 && tools_.calls() < 1; ++i) ::usleep(5'000);
  const auto begun = std::chrono::steady_clock::now();
  service_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(10));
  ::close(fd);
}

}  // namespace
}  // namespace qw::api
