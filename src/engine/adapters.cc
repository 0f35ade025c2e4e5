// Adapters that come and go while the engine runs: what any thread asks for happens between two steps.
#include <future>
#include <utility>

#include "engine/engine.h"
#include "engine/internal/adapter_table.h"
#include "engine/internal/sequence.h"

namespace qw::engine {

Status Engine::between_steps(std::function<Status()> call) {
  if (!thread_.joinable()) return call();  // the caller steps the engine
  std::promise<Status> done;
  auto result = done.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return fail(ErrorKind::kInterrupted, "the engine was stopped");
    calls_.push_back({std::move(call), &done});
    has_calls_ = true;
    wake_.notify_one();
  }
  return result.get();
}

void Engine::run_calls(bool stopped) {
  if (!has_calls_) return;
  std::vector<Call> calls;
  {
    const std::lock_guard lock(mutex_);
    std::swap(calls, calls_);
    has_calls_ = false;
  }
  for (Call& call : calls)
    call.done->set_value(stopped ? fail(ErrorKind::kInterrupted, "the engine was stopped") : call.run());
}

Result<std::int32_t> Engine::add_adapter(ops::PreparedAdapter adapter) {
  AdapterTable::Place place{};
  {
    const std::lock_guard lock(mutex_);
    place = adapters_->add(ops::adapter_bytes(adapter));
  }
  Status set = between_steps([&] { return executor_.set_adapter(place.slot, std::move(adapter)); });
  if (set) return place.id;
  const std::lock_guard lock(mutex_);
  std::optional<std::int32_t> slot;
  adapters_->leave(place.id, slot);
  adapters_->emptied(place.slot);
  return tl::unexpected(std::move(set).error());
}

Status Engine::remove_adapter(std::int32_t id) {
  std::optional<std::int32_t> slot;
  {
    const std::lock_guard lock(mutex_);
    if (!adapters_->leave(id, slot)) return fail(ErrorKind::kUsage, "the model has no adapter " + std::to_string(id));
  }
  if (!slot) return {};  // with the last request that uses it
  return between_steps([&] {
    empty_slot(*slot);
    return Status();
  });
}

void Engine::empty_slot(std::int32_t slot) {
  QW_CHECK(executor_.set_adapter(slot, nullptr).has_value());
  const std::lock_guard lock(mutex_);
  adapters_->emptied(slot);
}

// A request ended; not while the executor computes.
void Engine::release_adapter(Sequence& s) {
  if (s.adapter < 0) return;
  std::optional<std::int32_t> slot;
  {
    const std::lock_guard lock(mutex_);
    slot = adapters_->release(s.adapter);
  }
  if (slot) empty_slot(*slot);
}

std::vector<AdapterInfo> Engine::adapters() const {
  const std::lock_guard lock(mutex_);
  std::vector<AdapterInfo> out;
  for (const auto& [id, entry] : adapters_->entries()) out.push_back({id, entry.bytes, entry.users, entry.leaving});
  return out;
}

}  // namespace qw::engine
