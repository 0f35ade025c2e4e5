// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11).
//
// A draw is a pure function of (key, counter); there is no hidden state, so shuffles, initialisation, dropout and
// sampling give the same values whatever the thread count and wherever training was resumed.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace qw::base {

// The ten-round Philox4x32 block function.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

// A stream of draws: `seed` and `stream` name it, `position()` is how many 32-bit words were taken. Copy it to fork it.
class Rng {
 public:
  explicit Rng(std::uint64_t seed, std::uint64_t stream = 0, std::uint64_t position = 0)
      : seed_(seed), stream_(stream), position_(position) {}

  std::uint32_t next_u32();
  std::uint64_t next_u64() { return (std::uint64_t{next_u32()} << 32) | next_u32(); }
  // Uniform in [0, 1) with 24 random bits.
  float next_float() { return static_cast<float>(next_u32() >> 8) * 0x1.0p-24f; }
  // Uniform in [0, 1) with 53 random bits.
  double next_double() { return static_cast<double>(next_u64() >> 11) * 0x1.0p-53; }
  // Uniform integer in [0, n), n > 0, without modulo bias.
  std::uint64_t below(std::uint64_t n);
  // Standard normal by Box-Muller; each call uses two 53-bit draws.
  double next_normal() {
    const double u = 1.0 - next_double(), v = next_double();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
  }
  std::uint64_t position() const { return position_; }

 private:
  std::uint64_t seed_, stream_, position_;
  std::array<std::uint32_t, 4> block_{};
  std::uint64_t block_index_ = ~std::uint64_t{0};
};

}  // namespace qw::base
