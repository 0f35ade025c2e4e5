// Draws that order training data: streams of the Philox key, so that uses never share draws.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/rng.h"

namespace qw::data {

inline constexpr std::uint64_t kShuffleStream = 0x7368756666;
inline constexpr std::uint64_t kRepeatStream = 0x7265706561;
inline constexpr std::uint64_t kMismatchStream = 0x6d69736d61;

inline std::uint64_t stream_of(std::uint64_t kind, std::uint64_t epoch) { return kind + (epoch << 40); }

template <class T>
void shuffle(std::vector<T>& items, base::Rng& rng) {
  for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[static_cast<std::size_t>(rng.below(i))]);
}

// How often an epoch sees one document of a source of this weight.
inline std::int64_t times_seen(double weight, base::Rng& repeat) {
  const double whole = std::floor(weight);
  return static_cast<std::int64_t>(whole) + (repeat.next_double() < weight - whole ? 1 : 0);
}

}  // namespace qw::data
