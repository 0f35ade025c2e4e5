#include "governance/watermark/mark_function.h"

#include <bit>
#include <string>

#include "base/rng.h"
#include "governance/audit/merkle.h"
#include "governance/watermark/siphash.h"

namespace qw::governance {
namespace {

std::uint64_t word_at(const std::array<std::uint8_t, 32>& bytes, std::size_t at) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < 8; ++i) out |= std::uint64_t{bytes[at + i]} << 8 * i;
  return out;
}

std::uint32_t word_of(TokenId token) { return static_cast<std::uint32_t>(token); }

// One step of the hash that SynthID's published code uses: Knuth's MMIX constants, wrapping at 64 bits.
std::uint64_t folded(std::uint64_t h, std::uint64_t x) { return (h + x) * 6364136223846793005u + 1; }

// g of one layer, from the hash of context, token and the layer's key: twelve steps that keep the sign, then bit 30.
std::uint32_t published_bit(std::uint64_t x) {
  constexpr int kSteps = 12, kShift = 64 / kSteps, kBit = 30;
  for (int i = 0; i < kSteps; ++i) x = static_cast<std::uint64_t>(static_cast<std::int64_t>(folded(x, 1)) >> kShift);
  return static_cast<std::uint32_t>(x >> kBit & 1);
}

// vLLM's tags of its two uses of Philox ("philox4x32-10-v1").
constexpr std::uint32_t kContextTag = 0x574D4358, kTokenTag = 0x574D544B;

using Words = std::array<std::uint32_t, 4>;

std::uint64_t joined(std::uint32_t low, std::uint32_t high) { return std::uint64_t{high} << 32 | low; }

Words philox_context(std::uint64_t key, std::span<const TokenId> tokens) {
  Words state{kContextTag, static_cast<std::uint32_t>(tokens.size()), 0, 0};
  for (std::size_t at = 0; at < tokens.size(); at += 4) {
    for (std::size_t i = 0; i < 4; ++i)
      state[i] ^= at + i < tokens.size() ? word_of(tokens[at + i]) : 0xFFFFFFFFu - static_cast<std::uint32_t>(i);
    state = base::philox(state, {static_cast<std::uint32_t>(key) ^ static_cast<std::uint32_t>(at),
                                 static_cast<std::uint32_t>(key >> 32)});
  }
  return state;
}

}  // namespace

std::uint64_t synthid_start(std::span<const std::int64_t> numbers) {
  std::string bytes;
  for (const std::int64_t n : numbers)
    for (int shift = 0; shift < 64; shift += 8)
      bytes += static_cast<char>(static_cast<std::uint64_t>(n) >> shift & 255);
  // 256 bits modulo 2^63 - 1, the highest byte first.
  constexpr std::uint64_t kModulus = (std::uint64_t{1} << 63) - 1;
  std::uint64_t rest = 0;
  for (const std::uint8_t byte : sha256(bytes))
    for (int bit = 7; bit >= 0; --bit) rest = (2 * rest + (byte >> bit & 1u)) % kModulus;
  return rest;
}

MarkFunction::MarkFunction(const MarkKey& key)
    : scheme_(key.scheme),
      hash_(key.hash),
      layers_(key.layers),
      k0_(word_at(key.secret, 0)),
      k1_(word_at(key.secret, 8)) {
  if (hash_ == MarkHash::kSipHash) return;
  for (std::size_t i = 0; i < key.numbers.size() && i < numbers_.size(); ++i)
    numbers_[i] = static_cast<std::uint64_t>(key.numbers[i]);
  iv_ = scheme_ == MarkScheme::kSynthId ? synthid_start(key.numbers) : numbers_[0];
}

MarkFunction::Context MarkFunction::context(std::span<const TokenId> tokens) const {
  Context out;
  if (hash_ == MarkHash::kSipHash) {
    SipState state(k0_, k1_);
    for (const TokenId token : tokens) state.block(word_of(token));
    out.state = std::bit_cast<std::array<std::uint64_t, 4>>(state);
    out.id = state.finish(std::uint64_t{1} << 63);  // apart from every token's, whose length byte is below
  } else if (scheme_ == MarkScheme::kSynthId) {
    out.id = iv_;
    for (const TokenId token : tokens) out.id = folded(out.id, word_of(token));
    out.state[0] = out.id;
  } else {
    const Words state = philox_context(iv_, tokens);
    for (std::size_t i = 0; i < 4; ++i) out.state[i] = state[i];
    out.id = joined(state[0], state[1]) ^ joined(state[2], state[3]) * 0x9e3779b97f4a7c15u;
  }
  return out;
}

std::uint32_t MarkFunction::bits(const Context& context, TokenId token) const {
  if (hash_ == MarkHash::kSipHash)
    return static_cast<std::uint32_t>(std::bit_cast<SipState>(context.state).finish(word_of(token)));
  const std::uint64_t h = folded(context.state[0], word_of(token));
  std::uint32_t out = 0;
  for (std::int32_t l = 0; l < layers_; ++l)
    out |= published_bit(folded(h, numbers_[static_cast<std::size_t>(l)])) << l;
  return out;
}

double MarkFunction::uniform(const Context& context, TokenId token) const {
  if (hash_ == MarkHash::kSipHash) {
    const std::uint64_t x = std::bit_cast<SipState>(context.state).finish(word_of(token));
    return (static_cast<double>(x >> 12) + 0.5) * 0x1.0p-52;
  }
  const auto s = [&](std::size_t i) { return static_cast<std::uint32_t>(context.state[i]); };
  const std::uint32_t t = word_of(token);
  const Words out = base::philox({t >> 2, s(0), s(1), s(2)}, {static_cast<std::uint32_t>(iv_) ^ s(3),
                                                              static_cast<std::uint32_t>(iv_ >> 32) ^ kTokenTag});
  return (static_cast<double>(out[t & 3] >> 8) + 1) / ((1 << 24) + 1);
}

}  // namespace qw::governance
