// Anthropic's protocol: POST /v1/messages and /v1/messages/count_tokens; and GET /v1/models for clients that say
// anthropic-version.
#pragma once

#include <memory>

#include "api/exchange.h"
#include "api/served_model.h"
#include "net/http_server.h"

namespace qw::api::anthropic {

// {"type": "error", "error": {"type", "message"}, "request_id"}
json::Value error_body(const ApiError& error, const std::string& request_id);

class Api {
 public:
  // `models` must outlive this object and every request it began.
  explicit Api(const ModelList& models) : models_(models) {}
  // Whether a request is of this protocol.
  static bool speaks(const net::Request& request);
  // True if there is such a route; the exchange is then answered, now or later.
  bool handle(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  const ModelList& models_;
};

}  // namespace qw::api::anthropic
