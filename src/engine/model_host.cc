#include "engine/model_host.h"

#include <algorithm>
#include <cstdio>
#include <future>
#include <utility>

namespace qw::engine {
namespace {

constexpr const char* kStopping = "the program is stopping";

std::string gigabytes(std::int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

}  // namespace

ModelHost::ModelHost(std::int64_t budget) : budget_(budget), thread_([this] { run(); }) {}

ModelHost::~ModelHost() { stop(); }

void ModelHost::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
  for (auto& entry : entries_)
    for (Then& then : std::exchange(entry->waiting, {})) then(fail(ErrorKind::kInterrupted, kStopping));
}

void ModelHost::each(const std::function<void(Resident&)>& visit) {
  std::vector<Lease> loaded;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& entry : entries_)
      if (entry->resident != nullptr) loaded.push_back(entry->resident);
  }
  for (const Lease& lease : loaded) visit(*lease);
}

ModelHost::Entry* ModelHost::find(const std::string& name) {
  const auto at = std::find_if(entries_.begin(), entries_.end(), [&](const auto& e) { return e->source.name == name; });
  return at == entries_.end() ? nullptr : at->get();
}

Status ModelHost::add(Source source) {
  const std::lock_guard lock(mutex_);
  if (find(source.name) != nullptr) return fail(ErrorKind::kUsage, "there are two models of the name " + source.name);
  auto entry = std::make_unique<Entry>();
  entry->source = std::move(source);
  entries_.push_back(std::move(entry));
  return {};
}

void ModelHost::acquire(const std::string& name, Then then) {
  Lease lease;
  bool known = false;
  {
    const std::lock_guard lock(mutex_);
    Entry* entry = find(name);
    if (entry != nullptr) {
      known = true;
      entry->used = ++calls_;
      lease = entry->resident;
      if (lease == nullptr && !stopping_) {
        if (entry->waiting.empty()) queue_.push_back(entry);
        entry->waiting.push_back(std::move(then));
        wake_.notify_one();
        return;
      }
    }
  }
  if (lease != nullptr) return then(std::move(lease));
  if (known) return then(fail(ErrorKind::kInterrupted, kStopping));
  then(fail(ErrorKind::kUsage, "there is no model " + name));
}

Result<ModelHost::Lease> ModelHost::acquire(const std::string& name) {
  std::promise<Result<Lease>> done;
  acquire(name, [&](Result<Lease> lease) { done.set_value(std::move(lease)); });
  return done.get_future().get();
}

Status ModelHost::unload(const std::string& name) {
  Lease gone;  // destroyed outside of the lock
  const std::lock_guard lock(mutex_);
  Entry* entry = find(name);
  if (entry == nullptr) return fail(ErrorKind::kUsage, "there is no model " + name);
  if (entry->resident == nullptr) return {};
  if (!entry->idle()) return fail(ErrorKind::kUsage, "the model " + name + " is in use");
  gone = std::move(entry->resident);
  entry->bytes = 0;
  return {};
}

std::vector<ModelHost::Info> ModelHost::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<Info> out;
  for (const auto& e : entries_)
    out.push_back({e->source.name, e->resident != nullptr, e->resident != nullptr ? e->bytes : 0,
                   e->resident != nullptr ? e->resident.use_count() - 1 : 0, e->loads});
  return out;
}

// The models to give up so that `need` bytes fit; nothing is given up if that would not be enough.
Result<std::vector<ModelHost::Lease>> ModelHost::make_room(const Entry& wanted, std::int64_t need) {
  std::vector<Lease> out;
  if (budget_ == 0) return out;
  const std::string what = "the model " + wanted.source.name + " needs " + gigabytes(need) + " of memory";
  if (need > budget_)
    return fail(ErrorKind::kResource, what + ", more than the " + gigabytes(budget_) + " that all models may take");
  std::int64_t used = 0, kept = 0;
  std::vector<Entry*> idle;
  std::string in_use;
  for (const auto& e : entries_) {
    used += e->bytes;
    if (e->idle()) {
      idle.push_back(e.get());
    } else if (e->resident != nullptr) {
      kept += e->bytes;
      in_use += (in_use.empty() ? "" : ", ") + e->source.name;
    }
  }
  if (kept + need > budget_)
    return fail(ErrorKind::kResource,
                what + "; of " + gigabytes(budget_) + ", " + gigabytes(kept) + " are in use by " + in_use);
  std::sort(idle.begin(), idle.end(), [](const Entry* a, const Entry* b) { return a->used < b->used; });
  for (Entry* e : idle) {
    if (used + need <= budget_) break;
    used -= std::exchange(e->bytes, 0);
    out.push_back(std::move(e->resident));
  }
  return out;
}

Result<ModelHost::Lease> ModelHost::load(Entry& entry) {
  QW_ASSIGN(const std::int64_t need, entry.source.need());
  {
    std::vector<Lease> gone;  // destroyed outside of the lock, before anything is loaded
    const std::lock_guard lock(mutex_);
    QW_ASSIGN(gone, make_room(entry, need));
    entry.bytes = need;
  }
  auto made = entry.source.load();
  const std::lock_guard lock(mutex_);
  if (!made) {
    entry.bytes = 0;
    return tl::unexpected(std::move(made).error());
  }
  entry.resident = std::move(*made);
  entry.bytes = entry.resident->bytes();
  ++entry.loads;
  return entry.resident;
}

void ModelHost::run() {
  for (;;) {
    Entry* entry = nullptr;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      entry = queue_.front();
      queue_.erase(queue_.begin());
    }
    Result<Lease> lease = load(*entry);
    std::vector<Then> waiting;
    {
      const std::lock_guard lock(mutex_);
      std::swap(waiting, entry->waiting);
    }
    for (std::size_t i = 0; i + 1 < waiting.size(); ++i) waiting[i](lease);
    if (!waiting.empty())
      waiting.back()(std::move(lease));  // nothing of it stays here: who has it may give it back at once
  }
}

}  // namespace qw::engine
