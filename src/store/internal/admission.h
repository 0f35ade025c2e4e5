// The arithmetic of limits: pure functions, no database.
#pragma once

#include <cstdint>
#include <string>

namespace qw::store {

constexpr std::int64_t kMinuteUs = 60'000'000;

// Generic cell rate: `tat_us` is when all that was taken will have been earned again. Taking n of `limit` a minute
// moves it by n/limit minutes; it may lie a minute ahead of now at most.
struct Rate {
  std::int64_t limit = 0, tat_us = 0;

  std::int64_t cost_us(std::int64_t n) const;  // of n, rounded up
  std::int64_t ahead_us(std::int64_t now_us) const { return tat_us > now_us ? tat_us - now_us : 0; }
  std::int64_t available(std::int64_t now_us) const;  // how many could be taken now
  // 0 if n can be taken now; else how long until they can; -1: never (n > limit).
  std::int64_t wait_us(std::int64_t n, std::int64_t now_us) const;
  void take(std::int64_t n, std::int64_t now_us) { tat_us = now_us + ahead_us(now_us) + cost_us(n); }
};

// When the period that holds `now_us` began and ends (UTC). "total" began at 0 and never ends (-1).
struct Period {
  std::int64_t begin_us = 0, end_us = -1;
};
Period period_of(const std::string& period, std::int64_t now_us);

}  // namespace qw::store
