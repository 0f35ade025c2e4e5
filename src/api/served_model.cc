#include "api/served_model.h"

#include <algorithm>
#include <utility>

namespace qw::api {

Status ModelList::add(ServedModel model) {
  const std::lock_guard lock(mutex_);
  for (const ModelEntry& entry : entries_)
    if (entry->id == model.id) return fail(ErrorKind::kUsage, "there are two models of the name " + model.id);
  entries_.push_back(std::make_shared<const ServedModel>(std::move(model)));
  return {};
}

bool ModelList::remove(const std::string& id) {
  const std::lock_guard lock(mutex_);
  return std::erase_if(entries_, [&](const ModelEntry& entry) { return entry->id == id; }) > 0;
}

ModelEntry ModelList::find(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  if (name.empty()) return entries_.empty() ? nullptr : entries_.front();
  const auto at = std::find_if(entries_.begin(), entries_.end(), [&](const ModelEntry& e) { return e->id == name; });
  return at == entries_.end() ? nullptr : *at;
}

std::vector<ModelEntry> ModelList::all() const {
  const std::lock_guard lock(mutex_);
  return entries_;
}

ModelLease loaded_now(const ModelEntry& entry) { return entry->acquire ? entry->peek() : entry; }

void with_model(const ModelEntry& entry, const std::shared_ptr<Exchange>& exchange,
                std::function<void(const ModelLease& model)> then) {
  if (!entry->acquire) return then(entry);
  entry->acquire([exchange, then = std::move(then)](Result<ModelLease> lease) {
    if (exchange->reply().closed()) return;  // it waited for the model, and gave up
    if (!lease) return exchange->send_error(from_internal(lease.error()));
    then(*lease);
  });
}

ApiError not_taken(const ServedModel& model, const Error& error) {
  if (model.adapter < 0) return from_internal(error);
  for (const engine::AdapterInfo& adapter : model.engine->adapters())
    if (adapter.id == model.adapter && !adapter.leaving) return from_internal(error);
  return model_not_found(model.id);
}

}  // namespace qw::api
