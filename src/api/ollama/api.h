// Ollama's protocol: POST /api/chat, /api/generate, /api/embed, /api/embeddings, /api/show; GET /api/tags, /api/ps,
// /api/version. What manages models there (pull, create, copy, delete, push) is refused: models are managed by
// `qianwen models`.
#pragma once

#include <memory>

#include "api/exchange.h"
#include "api/served_model.h"
#include "net/http_server.h"

namespace qw::api::ollama {

// {"error": "..."}
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
  void chat(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const;
  void generate(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const;
  void embed(const net::Request& request, const std::shared_ptr<Exchange>& exchange, bool one) const;
  void show(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const;
  const ModelList& models_;
};

}  // namespace qw::api::ollama
