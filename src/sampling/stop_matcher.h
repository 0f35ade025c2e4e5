// Finds stop strings in text that arrives in pieces, and lets through at once whatever cannot belong to one.
//
// The match which ends first wins; of those ending at the same byte, the longest. Text before it is let through, the
// stop string and everything after are not. Held back is only the longest tail which could begin a stop string, and an
// unfinished UTF-8 character, so pieces end on character borders whatever the cuts of the input were.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qw::sampling {

class StopMatcher {
 public:
  // Empty strings are ignored. No strings at all: everything passes.
  explicit StopMatcher(const std::vector<std::string>& stops);

  // Text which is certain to be before any stop string. After a match nothing comes any more.
  std::string push(std::string_view text);
  // The text ended: what was held back (nothing after a match).
  std::string finish();

  bool stopped() const { return matched_ >= 0; }
  // Index in `stops` of the string that matched, -1 if none did.
  std::int32_t matched() const { return matched_; }
  std::size_t held_bytes() const { return held_.size(); }

 private:
  // A state of the Aho-Corasick automaton (Aho and Corasick, 1975), as a sorted list of edges: stop strings are few and
  // short, and most bytes leave the root for the root.
  struct Node {
    std::vector<std::pair<unsigned char, std::int32_t>> next;
    std::int32_t failure = 0;
    std::int32_t depth = 0;      // bytes of the longest tail that begins a stop string
    std::int32_t stop = -1;      // the longest stop string which ends here
  };
  std::int32_t child(std::int32_t node, unsigned char byte) const;
  std::int32_t advance(std::int32_t node, unsigned char byte) const;
  void link();

  std::vector<Node> nodes_;
  std::vector<std::size_t> lengths_;
  std::array<bool, 256> starts_{};   // bytes some stop string begins with
  std::int32_t state_ = 0;
  std::int32_t matched_ = -1;
  std::string held_;
};

}  // namespace qw::sampling
