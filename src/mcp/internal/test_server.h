// For tests: an MCP server of any age, and of any manners.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "json/value.h"
#include "net/http_server.h"

namespace qw::mcp::test {

enum class Age : std::uint8_t { kAlone, kSession, kStream };

class Server {
 public:
  // What stands for the answer to a method; "": the usual one. `id`: of the request, as JSON.
  using Answer = std::function<std::string(const std::string& method, const std::string& id)>;

  explicit Server(Age age, bool streams = false, Answer answer = {})
      : age_(age), streams_(streams), answer_(std::move(answer)) {
    net::ServerOptions options;
    options.port = 0;
    server_ =
        std::move(*net::HttpServer::start(options, [this](net::Request request, std::shared_ptr<net::Reply> reply) {
          handle(request, std::move(reply));
        }));
  }
  ~Server() {
    {
      const std::lock_guard lock(mutex_);
      stream_.reset();
    }
    server_->stop();
  }
  std::string url(const std::string& path = "/mcp") const {
    return "http://127.0.0.1:" + std::to_string(server_->port()) + path;
  }
  std::uint16_t port() const { return server_->port(); }

  // What was asked: methods of POSTs that were answered, "DELETE", in order.
  std::vector<std::string> asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  // The last arguments of a call, as JSON; a header of the last request.
  std::string arguments() const {
    const std::lock_guard lock(mutex_);
    return arguments_;
  }
  std::string header(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    return std::string(net::find_header(headers_, name));
  }

  static std::string result(const std::string& id, const std::string& object) {
    return R"({"jsonrpc":"2.0","id":)" + id + R"(,"result":)" + object + "}";
  }
  static std::string tool(const std::string& name, const std::string& properties = R"({"a":{"type":"integer"}})") {
    return R"({"name":")" + name + R"(","description":"adds","inputSchema":{"type":"object","properties":)" +
           properties + R"(,"required":["a"]},"annotations":{"readOnlyHint":true}})";
  }

 private:
  std::string usual(const std::string& method, const std::string& id, const json::Value& message) {
    const std::string kind = age_ == Age::kAlone ? R"("resultType":"complete",)" : "";
    if (method == "initialize")
      return result(id,
                    R"({"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"t","version":"1"}})");
    if (method == "tools/list") {
      const json::Value* params = message.find("params");
      const bool second = params != nullptr && params->find("cursor") != nullptr;
      return second ? result(id, "{" + kind + R"("tools":[)" + tool("minus") + "]}")
                    : result(id, "{" + kind + R"("tools":[)" + tool("plus") + R"(],"nextCursor":"more"})");
    }
    if (method == "tools/call") {
      arguments_ = json::dump(*message.find("params")->find("arguments"));
      return result(id, "{" + kind + R"("content":[{"type":"text","text":"42"}],"isError":false})");
    }
    return R"({"jsonrpc":"2.0","id":)" + id + R"(,"error":{"code":-32601,"message":"no such method"}})";
  }

  void handle(const net::Request& request, std::shared_ptr<net::Reply> reply) {
    std::unique_lock lock(mutex_);
    if (request.method == "DELETE") {
      asked_.push_back("DELETE");
      return reply->send({200, {}, ""});
    }
    if (request.method == "GET") {
      if (age_ != Age::kStream) return reply->send({405, {}, ""});
      reply->begin_stream({200, {{"Content-Type", "text/event-stream"}}, ""}, "");
      reply->write("event: endpoint\r\ndata: /say?session=1\r\n\r\n");
      stream_ = std::move(reply);
      return;
    }
    if (age_ == Age::kStream && request.path != "/say") return reply->send({405, {}, "no"});
    const auto message = json::parse(request.body);
    const std::string method = message && message->find("method") ? message->find("method")->as_string() : "";
    const json::Value* given = message ? message->find("id") : nullptr;
    const std::string id = given != nullptr ? json::dump(*given) : "null";
    headers_ = request.headers;
    const bool stands_alone = !net::find_header(request.headers, "Mcp-Method").empty();
    if (age_ == Age::kSession) {
      const bool known = net::find_header(request.headers, "Mcp-Session-Id") == "s1";
      if (stands_alone || (method != "initialize" && !known)) return reply->send({400, {}, "no session"});
    }
    if (age_ == Age::kAlone && !stands_alone)
      return reply->send({400, {}, R"({"jsonrpc":"2.0","id":null,"error":{"code":-32020,"message":"headers"}})"});
    asked_.push_back(method);
    std::string text = answer_ ? answer_(method, id) : "";
    if (text.empty()) text = usual(method, id, *message);
    net::Headers headers;
    if (method == "initialize" && age_ == Age::kSession) headers.emplace_back("Mcp-Session-Id", "s1");
    if (given == nullptr) return reply->send({202, headers, ""});
    if (age_ == Age::kStream) {
      reply->send({202, headers, ""});
      if (stream_) stream_->write("event: message\ndata: " + text + "\n\n");
      return;
    }
    if (!streams_) {
      headers.emplace_back("Content-Type", "application/json");
      return reply->send({200, headers, text});
    }
    headers.emplace_back("Content-Type", "text/event-stream");
    reply->begin_stream({200, headers, ""}, "");
    reply->write(": ping\n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n");
    reply->write("id: 7\ndata: " + text + "\n\n");
    kept_.push_back(std::move(reply));  // the stream stays open: the client must not wait for its end
  }

  const Age age_;
  const bool streams_;
  const Answer answer_;
  mutable std::mutex mutex_;
  std::vector<std::string> asked_;
  std::string arguments_;
  net::Headers headers_;
  std::shared_ptr<net::Reply> stream_;
  std::vector<std::shared_ptr<net::Reply>> kept_;
  std::unique_ptr<net::HttpServer> server_;
};

}  // namespace qw::mcp::test
