#include "api/accounts.h"

#include <chrono>

#include "api/exchange.h"
#include "base/log.h"
#include "base/sha256.h"

namespace qw::api {
namespace {

using namespace std::chrono_literals;

constexpr auto kBelieved = 1s;
// Secrets remembered, known or not: above this all are forgotten, so that guessing cannot fill the memory.
constexpr std::size_t kMostBeliefs = 10'000;
constexpr auto kRenewEvery = std::chrono::microseconds(store::Ledger::kLeaseUs / 3);

}  // namespace

Accounts::Accounts(store::Store& store) : store_(store), instance_(new_id("srv_")) {}

Result<std::unique_ptr<Accounts>> Accounts::start(store::Store& store) {
  QW_ASSIGN(const bool alone, store.serve_alone());
  std::unique_ptr<Accounts> made(new Accounts(store));
  QW_ASSIGN(const std::int64_t left, store.ledger().reclaim(made->instance_, alone));
  if (left > 0) base::log_warning(std::to_string(left) + " requests of a service that ended were settled");
  if (alone) QW_TRY(store.jobs().release_of_others(made->instance_));
  made->books_ = std::thread([raw = made.get()] { raw->keep_books(); });
  made->lookup_ = std::thread([raw = made.get()] { raw->look_up(); });
  return made;
}

Accounts::~Accounts() { stop(); }

void Accounts::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  books_wake_.notify_all();
  lookup_wake_.notify_all();
  if (books_.joinable()) books_.join();
  if (lookup_.joinable()) lookup_.join();
}

void Accounts::who(std::string secret, Credential kind, OnWho then) {
  std::unique_lock lock(mutex_);
  if (stopping_) {
    lock.unlock();
    return then(fail(ErrorKind::kInterrupted, "the service is stopping"));
  }
  const auto known = beliefs_.find((kind == Credential::kKey ? "k" : "s") + base::sha256_hex(secret));
  if (known != beliefs_.end() && known->second.until > std::chrono::steady_clock::now()) {
    Who found = known->second.who;
    lock.unlock();
    return then(std::move(found));
  }
  lookups_.push_back({std::move(secret), kind, std::move(then)});
  lookup_wake_.notify_one();
}

void Accounts::forget() {
  const std::lock_guard lock(mutex_);
  beliefs_.clear();
  ++forgotten_;
}

void Accounts::look_up() {
  std::unique_lock lock(mutex_);
  for (;;) {
    lookup_wake_.wait(lock, [&] { return stopping_ || !lookups_.empty(); });
    if (lookups_.empty()) return;
    auto batch = std::exchange(lookups_, {});
    const std::uint64_t as_of = forgotten_;
    lock.unlock();
    for (Lookup& one : batch) {
      auto found = one.kind == Credential::kKey ? store_.tenants().principal_of_key(one.secret)
                                                : store_.tenants().principal_of_session(one.secret);
      if (!found) {
        base::log_error("store: " + found.error().message);
        one.then(tl::unexpected(found.error()));
        continue;
      }
      Who who = *found ? std::make_shared<const store::Principal>(std::move(**found)) : nullptr;
      {
        const std::lock_guard again(mutex_);
        if (beliefs_.size() >= kMostBeliefs) beliefs_.clear();
        if (forgotten_ == as_of)
          beliefs_[(one.kind == Credential::kKey ? "k" : "s") + base::sha256_hex(one.secret)] = {
              who, std::chrono::steady_clock::now() + kBelieved};
      }
      one.then(std::move(who));
    }
    batch.clear();  // what the callbacks hold is let go without the lock
    lock.lock();
  }
}

void Accounts::admit(store::Asked asked, OnAdmission then) {
  asked.instance = instance_;
  std::unique_lock lock(mutex_);
  if (stopping_) {
    lock.unlock();
    return then(fail(ErrorKind::kInterrupted, "the service is stopping"));
  }
  asked_.emplace_back(std::move(asked), std::move(then));
  books_wake_.notify_one();
}

void Accounts::settle(store::Settlement settlement, OnSettled then) {
  std::unique_lock lock(mutex_);
  watched_.erase(settlement.reservation);
  if (stopping_) {
    lock.unlock();
    if (then) then(false);
    return;
  }
  settled_.emplace_back(std::move(settlement), std::move(then));
  books_wake_.notify_one();
}

void Accounts::keep(store::Content content, OnSettled then) {
  std::unique_lock lock(mutex_);
  if (stopping_) {
    lock.unlock();
    return then(false);
  }
  kept_.emplace_back(std::move(content), std::move(then));
  books_wake_.notify_one();
}

void Accounts::watch(const std::string& reservation, const std::shared_ptr<Charge>& charge) {
  const std::lock_guard lock(mutex_);
  watched_[reservation] = charge;
}

// Everything that waits goes into one transaction of each kind; while it runs, the next batch gathers.
void Accounts::keep_books() {
  auto next_renewal = std::chrono::steady_clock::now() + kRenewEvery;
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto idle = [&] { return asked_.empty() && settled_.empty() && kept_.empty(); };
    books_wake_.wait_until(lock, next_renewal, [&] { return stopping_ || !idle(); });
    if (stopping_ && idle()) return;
    auto settled = std::exchange(settled_, {});
    auto kept = std::exchange(kept_, {});
    auto asked = std::exchange(asked_, {});
    lock.unlock();
    if (!settled.empty()) {
      std::vector<store::Settlement> batch;
      for (auto& one : settled) batch.push_back(std::move(one.first));
      const auto done = store_.ledger().settle(batch);
      if (!done) base::log_error("store: " + done.error().message);
      for (auto& one : settled)
        if (one.second) one.second(done.has_value());
      settled.clear();
    }
    if (!kept.empty()) {
      std::vector<store::Content> batch;
      for (auto& one : kept) batch.push_back(std::move(one.first));
      const auto done = store_.contents().add(batch);
      if (!done) base::log_error("store: " + done.error().message);
      for (auto& one : kept) one.second(done.has_value());
      kept.clear();
    }
    if (!asked.empty()) {
      std::vector<store::Asked> batch;
      for (auto& one : asked) batch.push_back(std::move(one.first));
      auto admissions = store_.ledger().admit(batch);
      if (!admissions) base::log_error("store: " + admissions.error().message);
      for (std::size_t i = 0; i < asked.size(); ++i) {
        if (admissions) {
          asked[i].second(std::move((*admissions)[i]));
        } else {
          asked[i].second(tl::unexpected(admissions.error()));
        }
      }
      asked.clear();
    }
    if (std::chrono::steady_clock::now() >= next_renewal) {
      renew();
      next_renewal = std::chrono::steady_clock::now() + kRenewEvery;
    }
    lock.lock();
  }
}

void Accounts::renew() {
  std::vector<std::pair<std::string, std::shared_ptr<Charge>>> alive;
  {
    const std::lock_guard lock(mutex_);
    for (auto at = watched_.begin(); at != watched_.end();) {
      auto charge = at->second.lock();
      if (charge) alive.emplace_back(at->first, std::move(charge));
      at = at->second.expired() ? watched_.erase(at) : std::next(at);
    }
  }
  std::vector<store::Progress> progress;
  for (const auto& [reservation, charge] : alive) progress.push_back({reservation, charge->acknowledged()});
  if (const auto done = store_.ledger().renew(instance_, progress); !done)
    base::log_error("store: " + done.error().message);
  if (const auto left = store_.ledger().reclaim(instance_, false); !left) {
    base::log_error("store: " + left.error().message);
  } else if (*left > 0) {
    base::log_warning(std::to_string(*left) + " requests of a service that ended were settled");
  }
  if (const auto swept = store_.files().sweep(); !swept) base::log_error("store: " + swept.error().message);
  if (const auto swept = store_.documents().sweep(); !swept) base::log_error("store: " + swept.error().message);
  if (const auto swept = store_.contents().sweep(); !swept) base::log_error("store: " + swept.error().message);
}

Charge::Charge(Accounts& accounts, std::string reservation)
    : accounts_(&accounts), reservation_(std::move(reservation)) {}

Charge::~Charge() {
  if (accounts_ != nullptr && !settled_) accounts_->settle({reservation_, "error", acknowledged_}, {});
}

void Charge::acknowledge(const store::Tokens& more) {
  const std::lock_guard lock(mutex_);
  acknowledged_.prompt += more.prompt;
  acknowledged_.cached += more.cached;
  acknowledged_.reasoning += more.reasoning;
  acknowledged_.output += more.output;
  acknowledged_.trained += more.trained;
}

store::Tokens Charge::acknowledged() const {
  const std::lock_guard lock(mutex_);
  return acknowledged_;
}

void Charge::settle(const std::string& outcome, const store::Tokens& used, Accounts::OnSettled then,
                    std::optional<store::Content> content) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(settled_, true)) return;
  }
  if (accounts_ == nullptr) return then(true);
  accounts_->settle({reservation_, outcome, used, std::move(content)}, std::move(then));
}

}  // namespace qw::api
