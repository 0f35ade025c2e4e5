// Which MCP servers a service may call for its clients, and the threads that wait for them.
//
// A server is permitted by the operator: by a name, under which clients ask for it, and which may lie anywhere; or by a
// pattern of addresses that clients may name themselves, and which must lie on the public internet.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/background.h"
#include "api/error.h"
#include "mcp/client.h"

namespace qw::api {

struct McpServerName {
  std::string label, url;
};

struct McpOptions {
  std::vector<McpServerName> servers;
  // "https://tools.example.org/", "https://*.example.org/mcp": of the same scheme, host (or below it) and port, whose
  // path begins so, up to a border.
  std::vector<std::string> patterns;
  mcp::Limits limits;
  int rounds = 16;                        // of calls and answers in one response
  std::size_t result_bytes = 128 * 1024;  // of a call's result; longer ones are errors to the model
  int threads = 4;                        // servers that are waited for together
};

// "LABEL=URL" of the command line; kUsage.
Result<McpServerName> parse_mcp_server(const std::string& text);
Status check_mcp_pattern(const std::string& pattern);

class McpDesk {
 public:
  explicit McpDesk(McpOptions options);
  ~McpDesk();  // stop()
  bool offers() const { return !options_.servers.empty() || !options_.patterns.empty(); }
  const McpOptions& options() const { return options_; }

  // Where the server of that label is, which a client may have given an address for; an error of the request if it may
  // not be called. `headers`: the client's own.
  ApiResult<mcp::Server> permitted(const std::string& label, const std::string& url, net::Headers headers) const;

  mcp::Connector& connector() { return connector_; }
  // False: too much waits.
  bool post(std::function<void()> work) { return threads_.post(std::move(work)); }
  // Set once: what waits for servers on its behalf gives up. Told of stop(), too.
  std::shared_ptr<std::atomic<bool>> cancellation();
  // What waits for servers gives up.
  void stop();

 private:
  const McpOptions options_;
  mcp::Connector connector_;
  std::mutex mutex_;
  std::vector<std::weak_ptr<std::atomic<bool>>> open_;
  bool stopping_ = false;
  Background threads_;
};

}  // namespace qw::api
