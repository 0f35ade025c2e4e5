// The OpenAI protocol: POST /v1/chat/completions, /v1/completions and /v1/embeddings, GET /v1/models, GET
// /v1/models/{id}; and what others added to it: POST /v1/rerank (also /rerank and /v2/rerank), and as vLLM has them
// /v1/score, /v1/tokenize and /v1/detokenize (also without /v1).
#pragma once

#include <memory>

#include "api/background.h"
#include "api/exchange.h"
#include "api/openai/request.h"
#include "api/served_model.h"
#include "net/http_server.h"

namespace qw::api::openai {

class Api {
 public:
  // `models` must outlive this object and every request it began.
  explicit Api(const ModelList& models) : models_(models) {}
  // Answers of chats are kept so many days in the store, for feedback; must outlive what it began.
  void keeps_answers(Background* background, std::int64_t days) {
    background_ = background;
    days_kept_ = days;
  }
  // True if the path belongs to this protocol; the exchange is then answered, now or later.
  bool handle(const net::Request& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  void chat(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const;
  void complete(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const;
  void embed(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const;
  void rerank(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const;
  void score(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const;
  void tokenize(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const;
  void detokenize(const json::Object& body, const std::shared_ptr<Exchange>& exchange) const;
  void list_models(const std::shared_ptr<Exchange>& exchange) const;
  const ModelList& models_;
  Background* background_ = nullptr;
  std::int64_t days_kept_ = 0;
};

}  // namespace qw::api::openai
