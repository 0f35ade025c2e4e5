// The client against servers of every age, in their right minds and out of them.
#include "mcp/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "mcp/event_stream.h"
#include "mcp/internal/test_server.h"

namespace qw::mcp {
namespace {

using namespace std::chrono_literals;
using test::Age;
using test::Server;
using testing::ElementsAre;
using testing::HasSubstr;

Limits quick() {
  Limits limits;
  limits.time = 1s;
  limits.message_bytes = 64 * 1024;
  return limits;
}

mcp::Server local(const Server& server) { return {server.url(), {{"Authorization", "Bearer secret"}}, true}; }

struct Outcome {
  std::vector<std::string> names;
  std::string answer, error;
  bool failed = false;
};

Outcome talk(Connector& connector, const mcp::Server& server, const std::atomic<bool>* cancel = nullptr) {
  Outcome out;
  const auto go = [&]() -> Status {
    QW_ASSIGN(auto client, connector.connect(server, cancel));
    QW_ASSIGN(const auto tools, client->list_tools());
    for (const Tool& tool : tools) out.names.push_back(tool.name);
    QW_ASSIGN(const CallResult result, client->call_tool(tools.at(0), {{"a", 1}}));
    out.answer = result.text;
    out.failed = result.failed;
    return {};
  };
  if (const Status done = go(); !done) out.error = done.error().message;
  return out;
}

TEST(McpClient, SpeaksWithServersOfEveryAge) {
  for (const Age age : {Age::kAlone, Age::kSession, Age::kStream}) {
    for (const bool streams : {false, true}) {
      Server server(age, streams);
      Connector connector(quick());
      const Outcome first = talk(connector, local(server));
      EXPECT_EQ(first.error, "") << static_cast<int>(age) << streams;
      EXPECT_THAT(first.names, ElementsAre("plus", "minus"));
      EXPECT_EQ(first.answer, "42");
      EXPECT_EQ(server.arguments(), R"({"a": 1})");
      EXPECT_EQ(server.header("Authorization"), "Bearer secret");
      const std::size_t before = server.asked().size();
      EXPECT_EQ(talk(connector, local(server)).error, "");
      // The second time nothing has to be found out.
      if (age == Age::kAlone) {
        EXPECT_THAT(server.asked(),
                    ElementsAre("tools/list", "tools/list", "tools/call", "tools/list", "tools/list", "tools/call"));
        EXPECT_EQ(server.header("Mcp-Name"), "plus");
        EXPECT_EQ(server.header("MCP-Protocol-Version"), "2026-07-28");
      } else {
        EXPECT_EQ(server.asked().size(), 2 * before);
        EXPECT_EQ(server.asked()[0], "initialize");
        EXPECT_EQ(server.asked()[1], "notifications/initialized");
      }
      if (age == Age::kSession) {
        EXPECT_EQ(server.asked().back(), "DELETE");
      }
    }
  }
}

TEST(McpClient, AnArgumentIsRepeatedInAHeaderWhereTheServerWantsIt) {
  Server server(Age::kAlone, false, [](const std::string& method, const std::string& id) -> std::string {
    if (method != "tools/list") return "";
    return Server::result(id, R"({"resultType":"complete","tools":[)" +
                                  Server::tool("plus", R"({"a":{"type":"integer","x-mcp-header":"Left"}})") + "]}");
  });
  Connector connector(quick());
  EXPECT_EQ(talk(connector, local(server)).error, "");
  EXPECT_EQ(server.header("Mcp-Param-Left"), "1");
}

TEST(McpClient, ServersOutOfTheirMindsGiveOneClearError) {
  const struct {
    const char *what, *error;
    std::function<std::string(const std::string& id)> list;
  } kCases[] = {
      {"garbage", "no JSON", [](const std::string&) { return "<html>"; }},
      {"another's answer", "not asked", [](const std::string&) { return Server::result("99", R"({"tools":[]})"); }},
      {"its id as a text", "not asked",
       [](const std::string& id) { return Server::result("\"" + id + "\"", R"({"tools":[]})"); }},
      {"neither result nor error", "without result",
       [](const std::string& id) { return R"({"jsonrpc":"2.0","id":)" + id + "}"; }},
      {"no list", "without tools", [](const std::string& id) { return Server::result(id, R"({"tools":{}})"); }},
      {"a tool without schema", "without a name or a schema",
       [](const std::string& id) { return Server::result(id, R"({"tools":[{"name":"x"}]})"); }},
      {"a name with a line end", "without a name or a schema",
       [](const std::string& id) { return Server::result(id, R"({"tools":[{"name":"x\ny","inputSchema":{}}]})"); }},
      {"its own error", "over there",
       [](const std::string& id) {
         return R"({"jsonrpc":"2.0","id":)" + id + R"(,"error":{"code":1,"message":"over there"}})";
       }},
      {"pages without end", "pages",
       [](const std::string& id) { return Server::result(id, R"({"tools":[],"nextCursor":"x"})"); }},
      {"too many tools", "tools",
       [](const std::string& id) {
         std::string tools;
         for (int i = 0; i < 300; ++i) tools += (i > 0 ? "," : "") + Server::tool("t" + std::to_string(i));
         return Server::result(id, R"({"tools":[)" + tools + "]}");
       }},
      {"too many bytes", "bytes",
       [](const std::string& id) {
         return Server::result(id, R"({"tools":[],"x":")" + std::string(200'000, 'x') + "\"}");
       }},
      {"too deep", "no JSON", [](const std::string& id) { return Server::result(id, std::string(5000, '[')); }},
  };
  for (const auto& one : kCases) {
    for (const Age age : {Age::kSession, Age::kStream}) {
      for (const bool streams : {false, true}) {
        Server server(age, streams, [&](const std::string& method, const std::string& id) {
          return method == "tools/list" ? one.list(id) : std::string();
        });
        Connector connector(quick());
        const Outcome outcome = talk(connector, local(server));
        EXPECT_THAT(outcome.error, HasSubstr(one.error)) << one.what << " age " << static_cast<int>(age) << streams;
        EXPECT_EQ(outcome.error.find("127.0.0.1"), std::string::npos) << outcome.error;
        EXPECT_EQ(outcome.error.find('\n'), std::string::npos);
      }
    }
  }
}

TEST(McpClient, AServerThatSaysNothingIsGivenUp) {
  // It speaks all the time, and never answers.
  net::ServerOptions options;
  options.port = 0;
  options.heartbeat = 20ms;
  std::vector<std::shared_ptr<net::Reply>> kept;
  std::mutex mutex;
  auto server = std::move(*net::HttpServer::start(options, [&](net::Request, std::shared_ptr<net::Reply> reply) {
    reply->begin_stream({200, {{"Content-Type", "text/event-stream"}}, ""}, ": still here\n\n");
    const std::lock_guard lock(mutex);
    kept.push_back(std::move(reply));
  }));
  const mcp::Server there{"http://127.0.0.1:" + std::to_string(server->port()) + "/mcp", {}, true};
  Limits limits = quick();
  limits.time = 300ms;
  Connector connector(limits);
  EXPECT_THAT(talk(connector, there).error, HasSubstr("in time"));

  std::atomic<bool> cancel{false};
  std::thread later([&] {
    std::this_thread::sleep_for(100ms);
    cancel.store(true);
  });
  limits.time = 20s;
  Connector patient(limits);
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_THAT(talk(patient, there, &cancel).error, HasSubstr("interrupted"));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 10s);
  later.join();
  kept.clear();
  server->stop();
}

TEST(McpClient, NothingIsSentToPrivateAddressesOrElsewhere) {
  Server server(Age::kSession);
  Connector connector(quick());
  mcp::Server there = local(server);
  there.private_addresses = false;
  EXPECT_THAT(talk(connector, there).error, HasSubstr("may not be connected to"));
  EXPECT_TRUE(server.asked().empty());
  there.url = "http://localhost:" + std::to_string(server.port()) + "/mcp";
  EXPECT_THAT(talk(connector, there).error, HasSubstr("may not be connected to"));
  EXPECT_TRUE(server.asked().empty());

  // A redirect is not followed, and a stream does not send requests elsewhere.
  net::ServerOptions options;
  options.port = 0;
  bool redirects = true;
  auto other = std::move(*net::HttpServer::start(options, [&](net::Request request, std::shared_ptr<net::Reply> reply) {
    if (redirects) return reply->send({307, {{"Location", server.url()}}, ""});
    if (request.method != "GET") return reply->send({405, {}, ""});
    reply->begin_stream({200, {{"Content-Type", "text/event-stream"}}, ""}, "");
    reply->write("event: endpoint\ndata: " + server.url() + "\n\n");
    reply->finish();
  }));
  there = {"http://127.0.0.1:" + std::to_string(other->port()) + "/mcp", {{"Authorization", "Bearer secret"}}, true};
  EXPECT_THAT(talk(connector, there).error, HasSubstr("another address"));
  redirects = false;
  EXPECT_THAT(talk(connector, there).error, HasSubstr("another address"));
  EXPECT_TRUE(server.asked().empty());
  other->stop();
}

TEST(McpClient, ResultsAreTextForAModel) {
  const auto read = [](const char* text) { return read_call_result(json::parse(text)->as_object()); };
  EXPECT_EQ(read(R"({"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]})")->text, "a\nb");
  EXPECT_EQ(read(R"({"content":[{"type":"image","mimeType":"image/png","data":"AAAA"}]})")->text,
            "[image image/png is not shown]");
  EXPECT_EQ(read(R"({"content":[{"type":"resource","resource":{"uri":"x","text":"t"}}]})")->text, "t");
  EXPECT_EQ(read(R"({"content":[],"structuredContent":{"a":[1]}})")->text, R"({"a":[1]})");
  EXPECT_TRUE(read(R"({"content":[{"type":"text","text":"no"}],"isError":true})")->failed);
  EXPECT_FALSE(read("{}"));
  EXPECT_FALSE(read(R"({"content":"x"})"));
  EXPECT_EQ(read(R"({"resultType":"input_required"})").error().kind, ErrorKind::kRefused);
  EXPECT_EQ(header_value("plus"), "plus");
  EXPECT_EQ(header_value("加"), "=?base64?5Yqg?=");
  EXPECT_EQ(header_value(" x"), "=?base64?IHg=?=");
}

TEST(McpEventStream, ReadsWhatTheStandardShows) {
  const auto read = [](std::string_view text) {
    std::vector<std::string> out;
    EventStream stream(1000);
    for (const char c : text)
      EXPECT_TRUE(stream.push({&c, 1}, [&](StreamEvent event) -> Status {
        out.push_back(event.name + "|" + event.data);
        return {};
      }));
    return out;
  };
  EXPECT_THAT(read(": c\n\ndata: one\n\ndata: two\ndata:lines\n\n"), ElementsAre("message|one", "message|two\nlines"));
  EXPECT_THAT(read("event: x\r\ndata: a\r\n\r\nevent:y\rdata\r\r"), ElementsAre("x|a", "y|"));
  EXPECT_THAT(read("\xef\xbb\xbf"
                   "data: a\n\nevent: lost\n\ndata: cut"),
              ElementsAre("message|a"));
  EventStream small(10);
  EXPECT_FALSE(small.push("data: 0123456789", [](StreamEvent) -> Status { return {}; }));
}

}  // namespace
}  // namespace qw::mcp
