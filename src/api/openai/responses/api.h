// OpenAI's responses: POST /v1/responses and /v1/responses/input_tokens; GET and DELETE /v1/responses/{id}, GET
// /v1/responses/{id}/input_items of those that are kept. Without a store none is kept, and none can be gone on from.
#pragma once

#include <memory>

#include "api/background.h"
#include "api/openai/files.h"
#include "api/served_model.h"

namespace qw::api::openai {

class ResponsesApi {
 public:
  // Both must outlive this object and every request it began.
  ResponsesApi(const ModelList& models, Background& background) : models_(models), background_(background) {}
  // True if the path belongs here; the exchange is then answered, now or later.
  bool handle(const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  void create(const net::Request& http, const std::shared_ptr<Exchange>& exchange, bool counting) const;
  const ModelList& models_;
  Background& background_;
};

}  // namespace qw::api::openai
