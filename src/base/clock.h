// The time of day, by the system's clock.
#pragma once

#include <chrono>
#include <cstdint>

namespace qw::base {

inline constexpr std::int64_t kSecondUs = 1'000'000;

// Microseconds since 1970.
inline std::int64_t unix_us() {
  using namespace std::chrono;
  return duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
}

inline std::int64_t unix_seconds() { return unix_us() / kSecondUs; }

}  // namespace qw::base
