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
    Match best{-1, 0};
    std::uint64_t base = root_;
    for (const char* at = begin; at != end; ++at) {
      const auto byte = static_cast<unsigned char>(*at);
      const std::uint64_t unit = units_[base ^ byte];
      if ((unit & kLabelMask) != byte) break;
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

  class Builder;
  std::vector<std::uint64_t> units_;
  std::uint64_t root_ = 0;
};

}  // namespace qw::tokenizer
