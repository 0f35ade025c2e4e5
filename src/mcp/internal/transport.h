// The ways a request reaches a server and its answer comes back, one for each age of the protocol.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "mcp/client.h"
#include "mcp/message.h"

namespace qw::mcp::internal {

class Transport {
 public:
  virtual ~Transport() = default;
  // `headers`: of the method's own, in the ages that have such.
  virtual Result<Reply> ask(const std::string& method, json::Object params, net::Headers headers) = 0;
};

// Requests that stand alone; no transport: the server is of another age. `first`: what it answered to tools/list.
struct Alone {
  std::unique_ptr<Transport> transport;
  std::optional<Reply> first;
};
Result<Alone> open_alone(const Server& server, const Limits& limits, const std::atomic<bool>* cancel);
// A session; null: the server is of another age.
Result<std::unique_ptr<Transport>> open_session(const Server& server, const Limits& limits,
                                                const std::atomic<bool>* cancel);
// One stream for all answers.
Result<std::unique_ptr<Transport>> open_stream(const Server& server, const Limits& limits,
                                               const std::atomic<bool>* cancel);

}  // namespace qw::mcp::internal
