#include "api/preparation.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "api/auth.h"
#include "api/exchange.h"

namespace qw::api {

Preparation::Preparation(int threads, std::size_t most_waiting) : most_waiting_(most_waiting) {
  for (int i = 0; i < std::max(1, threads); ++i) threads_.emplace_back([this] { run(); });
}

Preparation::~Preparation() { stop(); }

bool Preparation::post(const std::string& tenant, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return false;
    const auto [it, fresh] = tenants_.try_emplace(tenant);
    if (it->second.waiting.size() >= most_waiting_) return false;
    if (fresh) it->second.turn = 2 * turns_ - 1;  // before who had a thread last
    it->second.waiting.push_back(std::move(work));
  }
  wake_.notify_one();
  return true;
}

std::size_t Preparation::outstanding() const {
  const std::lock_guard lock(mutex_);
  std::size_t sum = 0;
  for (const auto& [name, tenant] : tenants_) sum += tenant.waiting.size() + tenant.running;
  return sum;
}

void Preparation::stop() {
  std::map<std::string, Tenant> dropped;  // let go without the mutex: it may hold anything
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (auto& [name, tenant] : tenants_) dropped[name].waiting.swap(tenant.waiting);
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Preparation::run() {
  std::unique_lock lock(mutex_);
  const auto before = [](const auto& a, const auto& b) {
    const auto rank = [](const Tenant& t) { return std::tuple(t.waiting.empty(), t.running, t.turn); };
    return rank(a.second) < rank(b.second);
  };
  while (true) {
    auto next = tenants_.end();
    wake_.wait(lock, [&] {
      next = std::min_element(tenants_.begin(), tenants_.end(), before);
      return stopping_ || (next != tenants_.end() && !next->second.waiting.empty());
    });
    if (stopping_) return;
    Tenant& tenant = next->second;
    std::function<void()> work = std::move(tenant.waiting.front());
    tenant.waiting.pop_front();
    ++tenant.running;
    tenant.turn = 2 * ++turns_;
    lock.unlock();
    work();
    work = nullptr;
    lock.lock();
    if (--tenant.running == 0 && tenant.waiting.empty()) tenants_.erase(next);
  }
}

void prepare(const std::shared_ptr<Exchange>& exchange, bool takes_long, std::function<void()> work) {
  Preparation* const preparation = exchange->preparation();
  if (!takes_long || preparation == nullptr) return work();
  const bool taken = preparation->post(tenant_of(*exchange), [exchange, work = std::move(work)] {
    if (!exchange->reply().closed()) work();
  });
  if (!taken)
    exchange->send_error(
        {503, "overloaded_error", "Too many long requests of yours wait to be read.", "", "overloaded"});
}

}  // namespace qw::api
