// One message to a server by POST, and what comes back: JSON, or a stream of events that holds the answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "mcp/client.h"
#include "net/http_client.h"

namespace qw::mcp::internal {

// A client that follows no redirect (it would carry the headers elsewhere) and connects to where it may.
Result<net::HttpClient> make_http(const Server& server, const Limits& limits);
// Errors of the network without the address; the caller knows whom it asked.
Error without_address(Error error, const std::string& url);

struct Posted {
  int status = 0;
  std::string session;         // Mcp-Session-Id; ""
  std::optional<Reply> reply;  // if there was one
  std::string body;            // else what came, if it was no stream
};
// `id` 0: a notification, nothing is waited for. A status of 4xx or 5xx is no error here.
Result<Posted> post(const net::HttpClient& http, const Server& server, const Limits& limits, net::Headers headers,
                    const std::string& text, std::int64_t id, const std::atomic<bool>* cancel);

}  // namespace qw::mcp::internal
