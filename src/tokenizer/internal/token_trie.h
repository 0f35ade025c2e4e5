// The tokens as a double-array trie (Aoe, "An efficient digital search algorithm by using a double-array structure",
// IEEE TSE 1989; children found by exclusive or, as in Yata's darts-clone): the longest token at a place of the text is
// found with one load a byte.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

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
  static std::optional<TokenTrie> build(std::vector<Entry> entries, std::vector<TokenId>& shorter);

  Match longest(const char* begin, const char* end) const {
    const auto byte = [&](std::ptrdiff_t i) { return static_cast<unsigned char>(begin[i]); };
    Match best{-1, 0};
    std::uint64_t base = root_;
    const char* at = begin;
    if (end - begin >= 3 && (byte(0) & 0xF0) == 0xE0 && (byte(1) & 0xC0) == 0x80 && (byte(2) & 0xC0) == 0x80) {
      const Start& start = starts_[start_of(byte(0), byte(1), byte(2))];
      best = {static_cast<TokenId>(start.id), start.size};
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
    std::uint32_t size : 2 = 0;  // of the longest token among its bytes
    std::int32_t id : 30 = -1;
  };
  static constexpr std::size_t start_of(unsigned char a, unsigned char b, unsigned char c) {
    return ((a & 0x0Fu) << 12) | ((b & 0x3Fu) << 6) | (c & 0x3Fu);
  }
  void fill_starts();

  class Builder;
  std::vector<std::uint64_t> units_;
  std::vector<Start> starts_;  // [65536], by start_of
  std::uint64_t root_ = 0;
};

}  // namespace qw::tokenizer
