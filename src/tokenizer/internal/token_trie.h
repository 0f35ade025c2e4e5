// The tokens as a double-array trie (Aoe, "An efficient digital search algorithm by using a double-array structure",
// IEEE TSE 1989; children found by exclusive or, as in Yata's darts-clone): the longest token at a place of the text is
// found with one load a byte.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "base/huge_vector.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

class TokenTrie {
 public:
  struct Entry {
    std::string_view text;  // not empty
    TokenId id;
  };
  struct Match {
    TokenId id;          // -1 if no token starts here
    std::uint32_t size;  // in bytes
  };

  // The texts must differ; they are not needed afterwards. Nothing comes back if they are too long together for the
  // array's numbers. `shorter`, by id, gets the longest other token that the token begins with, or -1; it must have
  // room for all ids.
  static std::optional<TokenTrie> build(std::vector<Entry> entries, base::HugeVector<TokenId>& shorter);

  Match longest(const char* begin, const char* end) const {
    Match best{-1, 0};
    std::uint64_t base = root_;
    const char* at = begin;
    if (end - begin >= 3 && is_three_bytes(begin)) {
      const Start& start = starts_[start_of(begin)];
      best = {static_cast<TokenId>(start.id), start.size};
      if (end - begin >= 6 && start.alone && !may_begin(begin)) return best;
      base = start.base;
      at += 3;
    }
    for (; at != end; ++at) {
      const auto label = static_cast<unsigned char>(*at);
      const std::uint64_t unit = units_[base ^ label];
      if ((unit & kLabelMask) != label) break;
      if (const std::uint64_t id = unit >> kIdShift; id != 0) {
        best = {static_cast<TokenId>(id - 1), static_cast<std::uint32_t>(at - begin) + 1};
      }
      base = (unit >> kBaseShift) & kBaseMask;
    }
    return best;
  }

 private:
  // A unit is a node: bits 0-8 the byte that leads to it (256: no node), 9-36 the base of its children, which are at
  // base ^ byte, 37-63 the token that ends here plus 1. No two nodes with children have the same base, so the byte is
  // enough to tell whose child a unit is; nodes without children have base 0, where there are no nodes.
  static constexpr int kBaseShift = 9, kIdShift = 37;
  static constexpr std::uint64_t kLabelMask = 0x1FF, kNoNode = 0x100, kBaseMask = (std::uint64_t{1} << 28) - 1;

  // Where the walk is after a character of three bytes, as most of Chinese is: one load instead of three.
  struct Start {
    std::uint32_t base = 0;
    std::uint32_t size : 2 = 0;   // of the longest token among its bytes
    std::uint32_t alone : 1 = 0;  // no token is it and a part of a character
    std::int32_t id : 29 = -1;
  };
  // Whether a lead byte of three and two that continue stand here, a character or not.
  static bool is_three_bytes(const char* at) {
    return (at[0] & 0xF0) == 0xE0 && (at[1] & 0xC0) == 0x80 && (at[2] & 0xC0) == 0x80;
  }
  static std::size_t start_of(const char* at) {
    return static_cast<std::size_t>(((at[0] & 0x0F) << 12) | ((at[1] & 0x3F) << 6) | (at[2] & 0x3F));
  }
  void fill_starts();
  void fill_six(std::string_view token);
  // Of six bytes, the first three a character: whether a token may begin with them. Told by a bit of their hash, which
  // for a few in a hundred is set by others. Most characters of Chinese are tokens by themselves, and this is the
  // quickest way to see it.
  static std::uint64_t six_bit(const char* six) {
    std::uint32_t a;
    std::uint16_t b;
    std::memcpy(&a, six, sizeof a);
    std::memcpy(&b, six + sizeof a, sizeof b);
    return (((std::uint64_t{b} << 32) | a) * 0x9E3779B97F4A7C15u) >> (64 - kSixBits);
  }
  bool may_begin(const char* six) const {
    const std::uint64_t bit = six_bit(six);
    return ((sixes_[bit / 64] >> (bit % 64)) & 1) != 0;
  }

  class Builder;
  base::HugeVector<std::uint64_t> units_;
  base::HugeVector<Start> starts_;  // [65536], by start_of
  // 64 KiB; Qwen's vocabularies have some 30 000 tokens of more than one Chinese character.
  static constexpr int kSixBits = 19;
  base::HugeVector<std::uint64_t> sixes_;  // by six_bit
  std::uint64_t root_ = 0;
};

}  // namespace qw::tokenizer
