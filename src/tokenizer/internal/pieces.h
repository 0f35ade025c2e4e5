// Counts the distinct pieces of a corpus, the first step of BPE training.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/internal/pre_tokenizer.h"
#include "tokenizer/internal/string_index.h"

namespace qw::tokenizer {

class PieceCounter {
 public:
  explicit PieceCounter(PreTokenizer kind) : kind_(kind) {}
  // Normalises (NFC) and cuts the document and counts its pieces.
  void add(std::string_view document);

  std::size_t size() const { return counts_.size(); }
  std::uint64_t bytes() const { return arena_.size(); }
  std::string_view piece(std::size_t i) const {
    return std::string_view(arena_).substr(starts_[i], starts_[i + 1] - starts_[i]);
  }
  std::int64_t count(std::size_t i) const { return counts_[i]; }

 private:
  PreTokenizer kind_;
  std::string arena_;
  std::vector<std::uint64_t> starts_{0};
  std::vector<std::int64_t> counts_;
  StringIndex index_;
};

}  // namespace qw::tokenizer
