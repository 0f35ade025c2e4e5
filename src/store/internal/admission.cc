#include "store/internal/admission.h"

#include <chrono>

namespace qw::store {

std::int64_t Rate::cost_us(std::int64_t n) const {
  const auto product = static_cast<__int128>(n) * kMinuteUs;
  return static_cast<std::int64_t>((product + limit - 1) / limit);
}

std::int64_t Rate::available(std::int64_t now_us) const {
  const std::int64_t room_us = kMinuteUs - ahead_us(now_us);
  return room_us <= 0 ? 0 : static_cast<std::int64_t>(static_cast<__int128>(room_us) * limit / kMinuteUs);
}

std::int64_t Rate::wait_us(std::int64_t n, std::int64_t now_us) const {
  if (n > limit) return -1;
  const std::int64_t over = ahead_us(now_us) + cost_us(n) - kMinuteUs;
  return over > 0 ? over : 0;
}

Period period_of(const std::string& period, std::int64_t now_us) {
  using namespace std::chrono;
  const sys_days day = floor<days>(sys_time<microseconds>(microseconds(now_us)));
  const auto us = [](sys_days d) { return duration_cast<microseconds>(d.time_since_epoch()).count(); };
  if (period == "day") return {us(day), us(day + days(1))};
  if (period == "month") {
    const year_month_day date(day);
    const year_month month = date.year() / date.month();
    return {us(sys_days(month / 1)), us(sys_days((month + months(1)) / 1))};
  }
  return {};
}

}  // namespace qw::store
