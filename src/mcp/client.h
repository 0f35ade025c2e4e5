// Tools of other machines, over MCP's HTTP transports: a client for one server at a time.
//
// Servers of three ages are spoken to: those whose every request stands alone (protocol 2026-07-28), those with a
// session that `initialize` begins (2025-03-26 to 2025-11-25), and those with one stream for all answers (2024-11-05).
// Which it is, is found out with the first request. What a server asks of clients (sampling, roots, input) is not
// offered.
//
// Calls work on the calling thread and return when the answer is there, the time is over, or `cancel` was set; a client
// is used by one thread at a time. Errors: kFailed for what may go better another time, kBadInput for servers that do
// not speak the protocol or go beyond a limit, kRefused for what the server will not do, kInterrupted. One line each,
// which names neither address nor headers: those may be secret.
#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "json/value.h"
#include "mcp/message.h"
#include "net/http.h"

namespace qw::mcp {

struct Server {
  std::string url;
  net::Headers headers;            // of every request, such as Authorization
  bool private_addresses = false;  // it may lie in a private network, or on this machine
};

struct Limits {
  std::chrono::milliseconds time{30'000};  // of each request and its answer
  std::size_t message_bytes = 1 << 20;     // of one answer
  std::size_t tools = 256, pages = 32;     // of a list
  std::chrono::milliseconds connect_time{10'000};
};

class Client {
 public:
  virtual ~Client() = default;
  virtual Result<std::vector<Tool>> list_tools() = 0;
  // `tool`: as it was listed.
  virtual Result<CallResult> call_tool(const Tool& tool, const json::Object& arguments) = 0;
};

// Connects, and remembers which age servers have. Any thread.
class Connector {
 public:
  explicit Connector(Limits limits = {}) : limits_(limits) {}
  // `cancel` must outlive the client; may be null.
  Result<std::unique_ptr<Client>> connect(Server server, const std::atomic<bool>* cancel = nullptr);

  enum class Age : std::uint8_t { kUnknown, kAlone, kSession, kStream };

 private:
  const Limits limits_;
  std::mutex mutex_;
  std::map<std::string, Age> ages_;  // by url; as many as there are servers, which the operator permits
};

}  // namespace qw::mcp
