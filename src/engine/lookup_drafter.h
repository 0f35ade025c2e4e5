// Prompt lookup: a sequence is expected to go on as it did after the last occurrence of its own ending (Saxena, "Prompt
// lookup decoding", 2023). Pays where answers quote: edits of code, summaries, extraction, repeated structure.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/drafter.h"

namespace qw::engine {

// Where the endings of a growing sequence occurred before: chains of positions by the hash of their last kGram tokens,
// as in LZ77 coders. Adding a token takes constant time, and 8 to 16 bytes; a search looks at no more than kCandidates
// places.
class SuffixIndex {
 public:
  static constexpr std::int64_t kGram = 3;         // a shorter ending recurs by accident
  static constexpr std::int64_t kCandidates = 16;  // latest first
  static constexpr std::int64_t kLongest = 32;     // an ending this long is sure enough

  struct Match {
    std::int64_t end = -1;    // position of its last token; -1: none
    std::int64_t length = 0;  // tokens that agree, at least kGram
  };
  // The longest ending of `tokens` that occurred before, of equally long ones the latest. `tokens` must go on from
  // those of the call before.
  Match find(std::span<const TokenId> tokens);

 private:
  void add(std::span<const TokenId> tokens, std::int64_t position);
  void grow(std::span<const TokenId> tokens, std::int64_t size);
  std::size_t slot(const TokenId* last) const;

  std::vector<std::int32_t> heads_;     // by hash: the latest position, -1 none
  std::vector<std::int32_t> previous_;  // by position: the next older one of the same hash
  int bits_ = 0;
};

class LookupDrafter final : public Drafter {
 public:
  std::int32_t confidences() const override;
  double expected_acceptance(std::int32_t confidence) const override;
  bool free_of_cost() const override { return true; }
  Status propose(std::span<DraftJob> jobs) override;
  void forget(RequestId request) override { indexes_.erase(request); }

 private:
  std::unordered_map<RequestId, SuffixIndex> indexes_;
};

}  // namespace qw::engine
