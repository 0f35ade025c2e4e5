// Ranks that are threads of one process, for tests: everything goes through mailboxes.
#pragma once

#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "train/internal/subgroup.h"

namespace qw::train {

class ThreadRanks {
 public:
  // Calls body(ranks) in `n` threads at once and returns when all are done.
  static void run(int n, const std::function<void(Communicator&)>& body) {
    Mail mail;
    std::vector<std::thread> threads;
    for (int r = 0; r < n; ++r)
      threads.emplace_back([&mail, &body, r, n] {
        Rank rank(mail, r, n);
        body(rank);
      });
    for (auto& t : threads) t.join();
  }

 private:
  struct Mail {
    std::mutex mutex;
    std::condition_variable arrived;
    std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> boxes;  // by sender and receiver
  };

  class Rank final : public OverExchange {
   public:
    Rank(Mail& mail, int rank, int size) : mail_(mail), rank_(rank), size_(size) {}
    int rank() const override { return rank_; }
    int size() const override { return size_; }
    int on_host() const override { return size_; }

    Status exchange(std::span<const Sent> sent, std::span<const Received> received) override {
      std::unique_lock lock(mail_.mutex);
      for (const Sent& s : sent) mail_.boxes[{rank_, s.to}].emplace_back(s.bytes.begin(), s.bytes.end());
      mail_.arrived.notify_all();
      for (const Received& r : received) {
        auto& box = mail_.boxes[{r.from, rank_}];
        mail_.arrived.wait(lock, [&box] { return !box.empty(); });
        const std::vector<std::byte> bytes = std::move(box.front());
        box.pop_front();
        if (bytes.size() != r.bytes.size()) return fail(ErrorKind::kFailed, "exchange: another length than was sent");
        std::copy(bytes.begin(), bytes.end(), r.bytes.begin());
      }
      return {};
    }

   private:
    Mail& mail_;
    int rank_, size_;
  };
};

}  // namespace qw::train
