// Counts and places are 64-bit signed integers here, as in shapes; containers want theirs unsigned.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qw::ops {

inline std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace qw::ops
