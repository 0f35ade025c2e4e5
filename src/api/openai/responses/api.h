// OpenAI's responses: POST /v1/responses and /v1/responses/input_tokens; GET and DELETE /v1/responses/{id}, GET
// /v1/responses/{id}/input_items of those that are kept, POST /v1/responses/{id}/cancel of those in the background,
// whose events GET /v1/responses/{id}?stream=true&starting_after=N tells. Without a store none is kept, none is made in
// the background, and none can be gone on from.
#pragma once

#include <memory>

#include "api/background.h"
#include "api/deferred.h"
#include "api/mcp_desk.h"
#include "api/openai/files.h"
#include "api/openai/responses/events.h"
#include "api/openai/responses/request.h"
#include "api/served_model.h"

namespace qw::api::openai {

class ResponsesApi {
 public:
  // Both must outlive this object and every request it began.
  ResponsesApi(const ModelList& models, Background& background) : models_(models), background_(background) {}
  // Makes those in the background; must outlive this object. null: another service of the store does.
  void deferred_to(DeferredRunner* runner) { runner_ = runner; }
  // Streams them; must outlive this object.
  void streamed_by(ResponseEvents* events) { events_ = events; }
  // Calls tools of MCP servers; must outlive this object and what it began. null: none are called.
  void tools_by(McpDesk* desk) { mcp_ = desk; }
  // True if the path belongs here; the exchange is then answered, now or later.
  bool handle(const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  void create(const net::Request& http, const std::shared_ptr<Exchange>& exchange, bool counting) const;
  void defer(json::Object body, ResponseRequest request, const std::shared_ptr<Exchange>& exchange) const;
  void follow(store::Store& store, const std::string& id, const net::Request& http,
              const std::shared_ptr<Exchange>& exchange) const;
  const ModelList& models_;
  Background& background_;
  DeferredRunner* runner_ = nullptr;
  ResponseEvents* events_ = nullptr;
  McpDesk* mcp_ = nullptr;
};

}  // namespace qw::api::openai
