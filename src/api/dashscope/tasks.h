// DashScope's asynchronous calls: any request under /api/v1/services with the header "X-DashScope-Async: enable"
// becomes a task, which is answered through the same routes later. GET /api/v1/tasks and /api/v1/tasks/{id}, POST
// /api/v1/tasks/{id}/cancel. They need a store.
#pragma once

#include <memory>

#include "api/background.h"
#include "api/deferred.h"
#include "api/openai/files.h"
#include "api/served_model.h"

namespace qw::api::dashscope {

class TasksApi {
 public:
  // Both must outlive this object and what it began.
  TasksApi(const ModelList& models, Background& background) : models_(models), background_(background) {}
  // Does the tasks; must outlive this object. null: another service of the store does.
  void deferred_to(DeferredRunner* runner) { runner_ = runner; }
  // True if the request belongs here; the exchange is then answered, now or later.
  bool handle(const openai::SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  void create(const net::Request& http, const std::shared_ptr<Exchange>& exchange) const;
  const ModelList& models_;
  Background& background_;
  DeferredRunner* runner_ = nullptr;
};

}  // namespace qw::api::dashscope
