#include "api/served_model.h"

#include <utility>

#include "api/error.h"

namespace qw::api {

const ServedModel* find_model(const ModelList& models, const std::string& name) {
  if (name.empty()) return models.empty() ? nullptr : &models.front();
  for (const ServedModel& model : models) {
    if (model.id == name || (!model.alias.empty() && model.alias == name)) return &model;
  }
  return nullptr;
}

void with_model(const ServedModel& model, const std::shared_ptr<Exchange>& exchange,
                std::function<void(const ModelLease& model)> then) {
  if (!model.acquire) return then(ModelLease(ModelLease(), &model));  // nobody needs to hold what is always there
  model.acquire([exchange, then = std::move(then)](Result<ModelLease> lease) {
    if (!lease) return exchange->send_error(from_internal(lease.error()));
    then(*lease);
  });
}

}  // namespace qw::api
