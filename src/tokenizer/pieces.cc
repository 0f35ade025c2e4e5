#include "tokenizer/internal/pieces.h"

namespace qw::tokenizer {

void PieceCounter::add(std::string_view document) {
  std::string changed;
  if (!surely_nfc(document)) {
    changed = to_nfc(document);
    document = changed;
  }
  PieceScanner scanner(kind_, document);
  for (std::string_view p = scanner.next(); !p.empty(); p = scanner.next()) {
    if (const auto found = index_.find(p, [&](std::uint32_t i) { return piece(i); })) {
      ++counts_[*found];
      continue;
    }
    index_.insert(p, static_cast<std::uint32_t>(counts_.size()));
    arena_ += p;
    starts_.push_back(arena_.size());
    counts_.push_back(1);
  }
}

}  // namespace qw::tokenizer
