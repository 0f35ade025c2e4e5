// POST and GET /v1/batches, GET /v1/batches/{id}, POST /v1/batches/{id}/cancel. What they ask for is done by the
// BatchRunner.
#pragma once

#include <memory>

#include "api/openai/batch_object.h"
#include "api/openai/batch_runner.h"
#include "api/openai/files.h"

namespace qw::api::openai {

ApiResult<BatchSpec> read_batch_request(const json::Object& body, std::vector<std::string>& ignored);

class BatchesApi {
 public:
  explicit BatchesApi(Background& background) : background_(background) {}
  // Told of new batches; must outlive this object. null: another service of the store runs them.
  void runs_by(BatchRunner* runner) { runner_ = runner; }
  // True if the path belongs here; the exchange is then answered, now or later.
  bool handle(const SharedRequest& request, const std::shared_ptr<Exchange>& exchange) const;

 private:
  Background& background_;
  BatchRunner* runner_ = nullptr;
};

}  // namespace qw::api::openai
