// Copying tokens between blocks of the cache as they are stored (CacheGatherArgs), for each order that the tables keep blocks
// in. Nothing is converted, so a copy means bit for bit what its original does.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/internal/cache_element.h"

namespace qw::kernels {

// n elements of each of `lines` lines that lie `stride` elements apart on both sides; n is a few.
template <class Element>
void copy_lines(const std::uint8_t* from, std::uint8_t* to, std::int64_t lines, std::int64_t stride, std::int64_t n) {
  constexpr std::int64_t kUsual = 4;  // tokens of a block of the index
  const auto bytes = static_cast<std::int64_t>(sizeof(Element));
  if (n == kUsual) {
    for (std::int64_t i = 0; i < lines; ++i) std::memcpy(to + i * stride * bytes, from + i * stride * bytes, kUsual * sizeof(Element));
  } else {
    for (std::int64_t i = 0; i < lines; ++i)
      std::memcpy(to + i * stride * bytes, from + i * stride * bytes, static_cast<std::size_t>(n) * sizeof(Element));
  }
}

// n tokens from place `from` of one strip of a head's keys or values to place `to` of another.
struct StripCopy {
  CacheType type;
  std::int64_t head_dim, strip;
  const std::uint8_t* source;
  std::uint8_t* target;
  std::int64_t from, to, n;

  // Rows one after the other: keys and values of portable, keys of kAmx.
  void rows() const {
    const std::int64_t row = cache_bytes(type, head_dim);
    std::memcpy(target + to * row, source + from * row, static_cast<std::size_t>(n * row));
  }
  // [component][slot] without scales: keys of cached_attention.inc, values of kAmx.
  void transposed() const {
    if (type == CacheType::kF32) copy_lines<std::uint32_t>(source + from * 4, target + to * 4, head_dim, strip, n);
    else copy_lines<std::uint16_t>(source + from * 2, target + to * 2, head_dim, strip, n);
  }
  // Scales of `groups` groups [group][slot], which begin at `at`.
  void scales(std::int64_t groups, std::int64_t at) const {
    copy_lines<std::uint16_t>(source + at + from * 2, target + at + to * 2, groups, kCacheStrip, n);
  }
  std::int64_t groups() const { return head_dim / kCacheGroup; }

  // As cached_attention.inc has them.
  void vector_keys() const {
    if (!has_cache_scales(type)) return transposed();
    const std::int64_t quads = type == CacheType::kQ8 ? 8 : 4, bytes = kCacheStrip * 2 + quads * 4 * kCacheStrip;
    for (std::int64_t g = 0, at = 0; g < groups(); ++g, at += bytes) {
      scales(1, at);
      const std::int64_t quad = at + kCacheStrip * 2;
      copy_lines<std::uint32_t>(source + quad + from * 4, target + quad + to * 4, quads, kCacheStrip, n);
    }
  }
  void vector_values() const {
    if (!has_cache_scales(type)) return rows();
    scales(groups(), 0);
    const std::int64_t row = type == CacheType::kQ8 ? head_dim : head_dim / 2, begin = groups() * 2 * kCacheStrip;
    std::memcpy(target + begin + to * row, source + begin + from * row, static_cast<std::size_t>(n * row));
  }
  // As pair_attention.inc has them: pairs of components [component / 2][slot][2], pairs of slots [slot / 2][component][2].
  void pair_keys() const { copy_lines<std::uint32_t>(source + from * 4, target + to * 4, head_dim / 2, strip, n); }
  void pair_values() const {
    const auto at = [&](std::int64_t slot) { return (slot / 2 * head_dim * 2 + slot % 2) * 2; };
    for (std::int64_t t = 0; t < n;) {
      const std::int64_t pairs = (from + t) % 2 == 0 && (to + t) % 2 == 0 ? (n - t) / 2 : 0;
      if (pairs > 0) {
        std::memcpy(target + at(to + t), source + at(from + t), static_cast<std::size_t>(pairs * head_dim * 4));
        t += 2 * pairs;
      } else {
        copy_lines<std::uint16_t>(source + at(from + t), target + at(to + t), head_dim, 2, 1);
        ++t;
      }
    }
  }
  // As kAmx has values.
  void tile_values() const {
    if (!has_cache_scales(type)) return transposed();
    scales(groups(), 0);
    const std::int64_t begin = groups() * 2 * kCacheStrip, lines = type == CacheType::kQ8 ? head_dim : head_dim / 2;
    copy_lines<std::uint8_t>(source + begin + from, target + begin + to, lines, kCacheStrip, n);
  }
};

// Calls copy(StripCopy) for every piece that lies in one strip on both sides.
template <class Copy>
void gather(const CacheGatherArgs& a, Copy copy) {
  const std::int64_t strip = std::min(kCacheStrip, a.block_tokens), d = a.head_dim;
  std::int64_t at = 0;  // token of a.to
  for (std::int64_t i = 0; i < a.n_runs; ++i) {
    const std::int64_t end = a.runs[i].begin + a.runs[i].tokens;
    for (std::int64_t pos = a.runs[i].begin, n; pos < end; pos += n, at += n) {
      const std::int64_t from = pos % strip, to = at % strip;
      n = std::min(end - pos, strip - std::max(from, to));
      const std::int64_t source = cache_index(a.kv_heads, d, a.block_tokens, a.blocks[pos / a.block_tokens], a.head, pos % a.block_tokens - from);
      const std::int64_t target = cache_index(1, d, a.block_tokens, at / a.block_tokens, 0, at % a.block_tokens - to);
      copy(StripCopy{a.type, d, strip, static_cast<const std::uint8_t*>(a.pool) + cache_bytes(a.type, source),
                     static_cast<std::uint8_t*>(a.to) + cache_bytes(a.type, target), from, to, n});
    }
  }
}

}  // namespace qw::kernels
