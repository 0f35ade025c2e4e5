// Transactions over a pool of connections, and the small things the parts of this room share.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "store/internal/database.h"

namespace qw::store {

// "prefix" and 24 hexadecimal digits of the system's randomness.
std::string fresh_id(std::string_view prefix);
// `bytes` random bytes in hexadecimal.
std::string random_hex(std::size_t bytes);

// Lists of words in one column, by commas.
std::string join(const std::vector<std::string>& words);
std::vector<std::string> split(std::string_view text);

class Work {
 public:
  Work(std::unique_ptr<Database> database, std::function<std::int64_t()> now);

  // Runs `body(connection)` (giving a Result or Status) in a transaction: committed if it succeeds, rolled back if not,
  // tried again from the start when others were in the way. It must have no effect but on the database and its result.
  template <class Body>
  auto transact(Body body) -> std::invoke_result_t<Body, Connection&> {
    for (int attempt = 1;; ++attempt) {
      QW_ASSIGN(Lease lease, take());
      Connection& c = *lease.connection;
      auto result = once(c, body);
      if (result) return result;
      const bool again = c.may_try_again() && attempt < kMostAttempts;
      c.roll_back();
      if (!again) return result;
      pause(attempt);
    }
  }
  // The clock of the store.
  Result<std::int64_t> now_us(Connection& c) const { return now_ ? Result<std::int64_t>(now_()) : c.now_us(); }
  Database& database() { return *database_; }
  // Takes a connection that was made before this was, for those who need one.
  void keep(std::unique_ptr<Connection> connection);

 private:
  // A lost connection is made again at most this often; a deadlock is gone after one or two.
  static constexpr int kMostAttempts = 6;
  struct Lease {
    Work* work = nullptr;
    std::unique_ptr<Connection> connection;
    Lease(Work* w, std::unique_ptr<Connection> c) : work(w), connection(std::move(c)) {}
    Lease(Lease&& other) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (connection) work->give_back(std::move(connection));
    }
  };
  template <class Body>
  static auto once(Connection& c, Body& body) -> std::invoke_result_t<Body, Connection&> {
    QW_TRY(c.begin());
    auto result = body(c);
    if (result) QW_TRY(c.commit());
    return result;
  }
  Result<Lease> take();
  void give_back(std::unique_ptr<Connection> connection);
  static void pause(int attempt);

  std::unique_ptr<Database> database_;
  std::function<std::int64_t()> now_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Connection>> idle_;
  std::size_t made_ = 0;
};

}  // namespace qw::store
