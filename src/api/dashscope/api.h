// DashScope's own protocol, which the public Tongyi SDKs speak, under /api/v1: text and multimodal generation, text
// embeddings, rerank, tokenizer, models.
#pragma once

#include <memory>

#include "api/exchange.h"
#include "api/served_model.h"
#include "net/http_server.h"

namespace qw::api::dashscope {

// {"code", "message", "request_id"}
json::Value error_body(const ApiError& error, const std::string& request_id);

class Api {
 public:
  // `models` must outlive this object and every request it began.
  explicit Api(const ModelList& models) : models_(models) {}
  // Whether a request is of this protocol.
  static bool speaks(const net::Request& request) { return request.path.starts_with("/api/v1/"); }
  // Whether a path under /api/v1/services is a route that answers with one object.
  static bool answers(std::string_view path);
  // True if there is such a route; the exchange is then answered, now or later.
  bool handle(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  void generate(const net::Request& http, const json::Object& body, const std::shared_ptr<Exchange>& exchange,
                bool multimodal) const;
  void embed(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const;
  void rerank(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const;
  void tokenize(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const;
  void list_models(Exchange& exchange) const;
  const ModelList& models_;
};

}  // namespace qw::api::dashscope
