#include "engine/model_host.h"

#include <algorithm>
#include <cstdio>
#include <future>
#include <utility>

namespace qw::engine {
namespace {

using namespace std::chrono_literals;

constexpr const char* kStopping = "the program is stopping";

// How often leases are looked at while their ends are waited for: who gives one back tells nobody. Loading takes far
// longer than this.
constexpr auto kLook = 5ms;

std::string gigabytes(std::int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

}  // namespace

ModelHost::ModelHost(HostLimits limits) : limits_(limits), thread_([this] { run(); }) {}

ModelHost::~ModelHost() { stop(); }

void ModelHost::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
  std::vector<Then> left;
  {
    const std::lock_guard lock(mutex_);
    for (auto& entry : entries_)
      for (Then& then : std::exchange(entry->waiting, {})) left.push_back(std::move(then));
    tasks_.clear();
  }
  for (Then& then : left) then(fail(ErrorKind::kInterrupted, kStopping));
}

void ModelHost::each(const std::function<void(Resident&)>& visit) {
  for (const auto& entry : entries_)
    if (entry->resident != nullptr) visit(*entry->resident);
  for (const Replaced& old : replaced_) visit(*old.resident);
}

ModelHost::Entry* ModelHost::find(const std::string& name) const {
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
  Result<Lease> now = fail(ErrorKind::kUsage, "there is no model " + name);
  {
    const std::lock_guard lock(mutex_);
    if (Entry* entry = find(name); entry != nullptr) {
      if (entry->resident != nullptr && !entry->leaving) {
        entry->used = ++calls_;
        entry->unused_since = Clock::now();
        now = entry->resident;
      } else if (stopping_) {
        now = fail(ErrorKind::kInterrupted, kStopping);
      } else if (entry->waiting.size() >= limits_.max_waiting) {
        now = fail(ErrorKind::kResource, "too many requests wait for the model " + name);
      } else {
        if (entry->waiting.empty()) queue_.push_back(entry);
        entry->waiting.push_back(std::move(then));
        wake_.notify_one();
        return;
      }
    }
  }
  then(std::move(now));
}

Result<ModelHost::Lease> ModelHost::acquire(const std::string& name) {
  std::promise<Result<Lease>> done;
  acquire(name, [&](Result<Lease> lease) { done.set_value(std::move(lease)); });
  return done.get_future().get();
}

ModelHost::Lease ModelHost::peek(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const Entry* entry = find(name);
  return entry == nullptr ? nullptr : entry->resident;
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

void ModelHost::post(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  wake_.notify_one();
}

Status ModelHost::grow(const std::string& name, std::int64_t bytes) {
  std::vector<Lease> gone;  // destroyed outside of the lock
  std::unique_lock lock(mutex_);
  Entry* entry = find(name);
  if (entry == nullptr || entry->resident == nullptr)
    return fail(ErrorKind::kUsage, "the model " + name + " is not loaded");
  if (bytes > 0) {
    QW_ASSIGN(gone, make_room(lock, *entry, bytes));
  }
  entry->bytes += bytes;
  return {};
}

std::vector<ModelHost::Info> ModelHost::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<Info> out;
  for (const auto& e : entries_) {
    const bool loaded = e->resident != nullptr;
    const auto replaced =
        std::count_if(replaced_.begin(), replaced_.end(), [&](const Replaced& r) { return r.entry == e.get(); });
    out.push_back({e->source.name, loaded, e->leaving, loaded ? e->bytes : 0, loaded ? e->resident.use_count() - 1 : 0,
                   e->loads, replaced});
  }
  return out;
}

// The models to give up so that `need` bytes fit beside what `wanted` has already. Where models in use are in the way,
// those used longest ago take no new users, and their ends are waited for.
Result<std::vector<ModelHost::Lease>> ModelHost::make_room(std::unique_lock<std::mutex>& lock, const Entry& wanted,
                                                           std::int64_t need) {
  std::vector<Lease> out;
  if (limits_.bytes == 0) return out;
  const std::string what = "the model " + wanted.source.name + " needs " + gigabytes(need) + " of memory";
  const std::string beside = wanted.bytes > 0 ? " beside the " + gigabytes(wanted.bytes) + " which it has" : "";
  if (wanted.bytes + need > limits_.bytes)
    return fail(ErrorKind::kResource,
                what + beside + ", more than the " + gigabytes(limits_.bytes) + " that all models may take");
  std::vector<Entry*> others;
  for (const auto& e : entries_)
    if (e.get() != &wanted && e->resident != nullptr) others.push_back(e.get());
  const auto stay = [&] {
    for (Entry* e : others) e->leaving = false;
  };
  for (const auto deadline = Clock::now() + limits_.patience;;) {
    const std::int64_t replaced = free_replaced(out);
    std::sort(others.begin(), others.end(), [](const Entry* a, const Entry* b) { return a->used < b->used; });
    std::int64_t used = wanted.bytes + replaced, idle = 0;
    std::string in_use;
    if (replaced > 0) in_use = "replaced models";
    for (const Entry* e : others) {
      used += e->bytes;
      if (e->idle()) idle += e->bytes;
      if (e->resident != nullptr && !e->idle()) in_use += (in_use.empty() ? "" : ", ") + e->source.name;
    }
    if (used - idle + need <= limits_.bytes) {
      for (Entry* e : others) {
        if (used + need <= limits_.bytes) break;
        if (!e->idle()) continue;
        used -= std::exchange(e->bytes, 0);
        out.push_back(std::move(e->resident));
      }
      stay();
      return out;
    }
    if (stopping_ || Clock::now() >= deadline) {
      stay();
      if (stopping_) return fail(ErrorKind::kInterrupted, kStopping);
      return fail(ErrorKind::kResource, what + "; of " + gigabytes(limits_.bytes) + ", " + gigabytes(used - idle) +
                                            " are in use by " + in_use);
    }
    for (Entry* e : others) {  // the same as before, unless one was unloaded or its last user came back
      if (used + need <= limits_.bytes) break;
      if (e->resident != nullptr) e->leaving = true;
      used -= e->bytes;
    }
    wake_.wait_for(lock, kLook);
  }
}

// Takes those that nobody uses any more out of the list; what the others hold.
std::int64_t ModelHost::free_replaced(std::vector<Lease>& gone) {
  std::int64_t bytes = 0;
  std::erase_if(replaced_, [&](Replaced& old) {
    if (old.resident.use_count() > 1) {
      bytes += old.bytes;
      return false;
    }
    gone.push_back(std::move(old.resident));
    return true;
  });
  return bytes;
}

// A model of the source, for which room is counted while it is loaded beside what the entry has.
Result<std::unique_ptr<ModelHost::Resident>> ModelHost::load_beside(std::unique_lock<std::mutex>& lock, Entry& entry,
                                                                    const Source& source) {
  lock.unlock();
  auto need = source.need();
  lock.lock();
  if (!need) return tl::unexpected(std::move(need).error());
  {
    QW_ASSIGN(auto gone, make_room(lock, entry, *need));
    entry.bytes += *need;
    lock.unlock();  // they are destroyed outside of the lock, before anything is loaded
  }
  auto made = source.load();
  lock.lock();
  entry.bytes -= *need;
  return made;
}

Status ModelHost::replace(Source source, bool unload_first) {
  std::unique_lock lock(mutex_);
  Entry* entry = find(source.name);
  if (entry == nullptr) return fail(ErrorKind::kUsage, "there is no model " + source.name);
  if (entry->resident == nullptr) {
    lock.unlock();
    QW_TRY(source.need().map([](auto&&) {}));
    lock.lock();
    entry->source = std::move(source);
    return {};
  }
  if (unload_first) {
    lock.unlock();
    return load_instead(*entry, std::move(source));
  }
  QW_ASSIGN(auto made, load_beside(lock, *entry, source));
  replaced_.push_back({entry, std::move(entry->resident), entry->bytes});
  entry->source = std::move(source);
  entry->resident = std::move(made);
  entry->bytes = entry->resident->bytes();
  entry->unused_since = Clock::now();
  ++entry->loads;
  return {};
}

// New users wait from here on; who waits is served after replace(), as the queue says.
Status ModelHost::wait_until_idle(Entry& entry) {
  std::unique_lock lock(mutex_);
  entry.leaving = true;
  for (const auto deadline = Clock::now() + limits_.patience; !entry.idle();) {
    if (stopping_ || Clock::now() >= deadline) {
      entry.leaving = false;
      if (stopping_) return fail(ErrorKind::kInterrupted, kStopping);
      return fail(ErrorKind::kResource, "the model " + entry.source.name + " is in use, and cannot be unloaded first");
    }
    wake_.wait_for(lock, kLook);
  }
  Lease gone = std::move(entry.resident);
  entry.leaving = false;
  entry.bytes = 0;
  lock.unlock();
  return {};
}

Status ModelHost::load_instead(Entry& entry, Source source) {
  QW_TRY(source.need().map([](auto&&) {}));  // whatever can be said before anything is unloaded
  QW_TRY(wait_until_idle(entry));
  const auto exchange = [&] {  // others look for models by their names meanwhile
    const std::lock_guard lock(mutex_);
    std::swap(entry.source, source);
  };
  exchange();
  Status done = load(entry).map([](auto&&) {});
  if (done) return {};
  exchange();
  if (auto back = load(entry); !back)
    done.error().message += "; and the old one cannot be loaded again: " + back.error().message;
  return done;
}

Result<ModelHost::Lease> ModelHost::load(Entry& entry) {
  {
    const std::lock_guard lock(mutex_);
    if (entry.resident != nullptr) return entry.resident;  // it was to leave, and stayed
  }
  std::unique_lock lock(mutex_);
  QW_ASSIGN(auto made, load_beside(lock, entry, entry.source));
  entry.resident = std::move(made);
  entry.bytes = entry.resident->bytes();
  entry.unused_since = Clock::now();
  entry.used = ++calls_;
  ++entry.loads;
  return entry.resident;
}

// Loads the model and tells everybody who waits for it.
void ModelHost::serve(Entry& entry) {
  Result<Lease> lease = load(entry);
  std::vector<Then> waiting;
  {
    const std::lock_guard lock(mutex_);
    std::swap(waiting, entry.waiting);
  }
  for (std::size_t i = 0; i + 1 < waiting.size(); ++i) waiting[i](lease);
  if (!waiting.empty())
    waiting.back()(std::move(lease));  // nothing of it stays here: who has it may give it back at once
}

void ModelHost::unload_unused() {
  std::vector<Lease> gone;  // destroyed outside of the lock
  const std::lock_guard lock(mutex_);
  free_replaced(gone);
  if (limits_.unload_after.count() == 0) return;
  const auto now = Clock::now();
  for (const auto& e : entries_) {
    if (!e->idle()) {
      e->unused_since = now;
    } else if (now - e->unused_since >= limits_.unload_after) {
      gone.push_back(std::move(e->resident));
      e->bytes = 0;
    }
  }
}

void ModelHost::run() {
  // A model is unloaded at most a quarter later than it might be.
  const auto tick = std::max<std::chrono::milliseconds>(limits_.unload_after / 4, 1ms);
  for (;;) {
    Entry* entry = nullptr;
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      const auto something = [&] { return stopping_ || !queue_.empty() || !tasks_.empty(); };
      if (!replaced_.empty()) {
        wake_.wait_for(lock, kLook, something);
      } else if (limits_.unload_after.count() > 0) {
        wake_.wait_for(lock, tick, something);
      } else {
        wake_.wait(lock, something);
      }
      if (stopping_) return;
      if (!tasks_.empty()) {
        task = std::move(tasks_.front());
        tasks_.pop_front();
      } else if (!queue_.empty()) {
        entry = queue_.front();
        queue_.pop_front();
      }
    }
    if (task) task();
    if (entry != nullptr) serve(*entry);
    unload_unused();
  }
}

}  // namespace qw::engine
