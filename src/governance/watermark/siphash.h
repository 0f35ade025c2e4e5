// SipHash-2-4 (Aumasson and Bernstein, 2012): a keyed hash of short inputs that nobody without the key can predict.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>

namespace qw::governance {

// The state between blocks, so that inputs with the same beginning hash that once.
class SipState {
 public:
  SipState(std::uint64_t k0, std::uint64_t k1)
      : v_{k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u} {}
  // Eight bytes of the input, the first one lowest.
  void block(std::uint64_t word) {
    v_[3] ^= word;
    round();
    round();
    v_[0] ^= word;
  }
  // `last`: the bytes that are left (at most 7), the input's length modulo 256 in the highest byte.
  std::uint64_t finish(std::uint64_t last) const {
    SipState s = *this;
    s.block(last);
    s.v_[2] ^= 0xff;
    for (int i = 0; i < 4; ++i) s.round();
    return s.v_[0] ^ s.v_[1] ^ s.v_[2] ^ s.v_[3];
  }

 private:
  void round() {
    auto& [a, b, c, d] = v_;
    a += b, b = std::rotl(b, 13) ^ a, a = std::rotl(a, 32);
    c += d, d = std::rotl(d, 16) ^ c;
    a += d, d = std::rotl(d, 21) ^ a;
    c += b, b = std::rotl(b, 17) ^ c, c = std::rotl(c, 32);
  }
  std::array<std::uint64_t, 4> v_;
};

}  // namespace qw::governance
