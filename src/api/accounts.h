// Between requests and the store: who a client is, and what its requests may cost. The store blocks and the threads
// which ask here may not, so everything answers by a callback, on a thread of this object (or at once, where it is
// known).
//
// Admissions and settlements that come together share one transaction: the disk is waited for once. An answer's last
// bytes follow its settlement, so what a client has seen to the end is in the ledger, whatever happens to this process;
// what was cut off by a crash is settled by whoever finds it, by what had been sent as of the last renewal.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "store/store.h"

namespace qw::api {

class Charge;

enum class Credential : std::uint8_t { kKey, kSession };

class Accounts {
 public:
  using Who = std::shared_ptr<const store::Principal>;
  using OnWho = std::function<void(Result<Who>)>;  // null: nobody
  using OnAdmission = std::function<void(Result<store::Admission>)>;
  using OnSettled = std::function<void(bool)>;  // false: the store could not enter it

  // Settles what services that died have left. `store` must outlive this object. kRefused: another service runs over
  // the same file.
  static Result<std::unique_ptr<Accounts>> start(store::Store& store);
  ~Accounts();  // stop()
  Accounts(const Accounts&) = delete;
  Accounts& operator=(const Accounts&) = delete;

  // Enters what still waits; returns when no callback runs any more. What is asked afterwards is refused at once, and
  // what is settled afterwards is left to its lease.
  void stop();

  // What was found is believed for a second (kBelieved): where another service, or a command, revokes or changes a key,
  // it works as before for that long.
  void who(std::string secret, Credential kind, OnWho then);
  // What is believed: something was changed here, and holds from the next request on.
  void forget();
  void admit(store::Asked asked, OnAdmission then);
  void settle(store::Settlement settlement, OnSettled then);
  // What is kept of a request that costs nothing.
  void keep(store::Content content, OnSettled then);
  // Its lease is renewed, with its progress, as long as the charge lives.
  void watch(const std::string& reservation, const std::shared_ptr<Charge>& charge);

  store::Store& store() { return store_; }
  const std::string& instance() const { return instance_; }

 private:
  struct Lookup {
    std::string secret;
    Credential kind;
    OnWho then;
  };
  struct Belief {
    Who who;
    std::chrono::steady_clock::time_point until;
  };
  explicit Accounts(store::Store& store);
  void keep_books();
  void look_up();
  void renew();

  store::Store& store_;
  std::string instance_;
  std::mutex mutex_;
  std::condition_variable books_wake_, lookup_wake_;
  bool stopping_ = false;
  std::vector<std::pair<store::Asked, OnAdmission>> asked_;
  std::vector<std::pair<store::Settlement, OnSettled>> settled_;
  std::vector<std::pair<store::Content, OnSettled>> kept_;
  std::vector<Lookup> lookups_;
  std::uint64_t forgotten_ = 0;            // how often: what was read before is not believed afterwards
  std::map<std::string, Belief> beliefs_;  // by kind and SHA-256 of the secret
  std::map<std::string, std::weak_ptr<Charge>> watched_;
  std::thread books_, lookup_;
};

// What one request costs: reserved when it was admitted, settled once. Without accounts it is inert. Threads: any.
class Charge {
 public:
  Charge() = default;  // nothing to pay
  Charge(Accounts& accounts, std::string reservation);
  // Settles what was not settled, by what was acknowledged.
  ~Charge();
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;

  // Tokens that were handed to the client in a stream.
  void acknowledge(const store::Tokens& more);
  store::Tokens acknowledged() const;
  // Once; then(false): the store failed, and the answer must not be given. Runs on a thread of the accounts, or here.
  // `content`: kept in the same transaction. Nothing is without accounts.
  void settle(const std::string& outcome, const store::Tokens& used, Accounts::OnSettled then,
              std::optional<store::Content> content = {});

 private:
  Accounts* accounts_ = nullptr;
  std::string reservation_;
  mutable std::mutex mutex_;
  store::Tokens acknowledged_;
  bool settled_ = false;
};

}  // namespace qw::api
