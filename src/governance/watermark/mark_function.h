// What a key says of a token after a context: the pseudo-random bits of SynthID's layers, or Gumbel's number.
//
// Two sources each: SipHash-2-4, and the published functions, for texts that other implementations marked or shall
// detect. Immutable; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "governance/watermark/mark_key.h"
#include "tokenizer/tokenizer.h"

namespace qw::governance {

using tokenizer::TokenId;

class MarkFunction {
 public:
  explicit MarkFunction(const MarkKey& key);

  // What the key makes of the tokens before. `id` tells contexts apart (two share one with probability 2^-64; with
  // Philox 2^-64 too).
  struct Context {
    std::array<std::uint64_t, 4> state{};
    std::uint64_t id = 0;
  };
  Context context(std::span<const TokenId> tokens) const;

  // SynthID: bit l is g of layer l.
  std::uint32_t bits(const Context& context, TokenId token) const;
  // Gumbel: in (0, 1).
  double uniform(const Context& context, TokenId token) const;

 private:
  MarkScheme scheme_;
  MarkHash hash_;
  std::int32_t layers_;
  std::uint64_t k0_ = 0, k1_ = 0, iv_ = 0;
  std::array<std::uint64_t, kMostLayers> numbers_{};
};

// The start value of the published SynthID hash: SHA-256 of its keys (eight bytes each, lowest first) modulo 2^63 - 1.
std::uint64_t synthid_start(std::span<const std::int64_t> numbers);

}  // namespace qw::governance
