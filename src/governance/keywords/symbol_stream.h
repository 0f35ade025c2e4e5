// From bytes to the symbols that keywords are made of: folded, white space as one blank, and what hides between
// characters of a script without blanks taken out.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/utf8.h"
#include "governance/keywords/folding.h"

namespace qw::governance {

class SymbolStream {
 public:
  static constexpr std::uint32_t kMostGaps = 3;  // that hide between two characters

  explicit SymbolStream(const Folding& folding) : folding_(&folding) {}

  // Calls take(symbol, begin, end) in order; begin and end are bytes since the stream began. Bytes that are no UTF-8
  // count as U+FFFD.
  template <class Take>
  void push(std::string_view bytes, Take&& take) {
    std::size_t at = cut_ > 0 ? complete(bytes, take) : 0;
    const std::uint64_t base = bytes_;
    while (at < bytes.size()) {
      at = plain(bytes, at, base, take);
      if (at == bytes.size()) break;
      const auto c = base::utf8_at(bytes, at);
      if (c.cut) {
        for (cut_ = 0; at + cut_ < bytes.size(); ++cut_) cut_bytes_[cut_] = bytes[at + cut_];
        break;
      }
      code(c.code == base::kInvalidCode ? 0xFFFD : c.code, base + at, base + at + c.size, take);
      at += c.size;
    }
    bytes_ = base + bytes.size();
  }
  // No more bytes come.
  template <class Take>
  void finish(Take&& take) {
    if (cut_ > 0) code(0xFFFD, bytes_ - cut_, bytes_, take);
    cut_ = 0;
    give_gaps(take);
  }
  // Every byte before this has become symbols that were taken, or none.
  std::uint64_t taken() const { return gap_count_ > 0 ? gaps_[0].begin : bytes_ - cut_; }

 private:
  // Takes what most texts consist of, quickly: ASCII and characters of three bytes that are one symbol, and hide
  // nothing. Returns where it ends or something else stands.
  template <class Take>
  std::size_t plain(std::string_view bytes, std::size_t at, std::uint64_t base, Take&& take) {
    if (gap_count_ > 0) return at;
    const auto* const data = reinterpret_cast<const unsigned char*>(bytes.data());
    Symbol last = last_;
    bool after_ideograph = after_ideograph_;
    while (at < bytes.size()) {
      std::uint32_t code = data[at];
      std::size_t size = 1;
      if (code >= 0x80) {
        // From U+1000 on; of these, second bytes are out of range for surrogates alone.
        if (code < 0xE1 || code > 0xEF || at + 2 >= bytes.size()) break;
        const std::uint32_t second = data[at + 1] ^ 0x80U, third = data[at + 2] ^ 0x80U;
        if ((second | third) >= 0x40) break;
        code = (code & 0xF) << 12 | second << 6 | third;
        if (code >> 11 == 0xD800 >> 11) break;
        size = 3;
      }
      const Symbol symbol = folding_->one(code);
      if (symbol.bits == 0) break;
      const SymbolKind kind = symbol.kind();
      if (kind == SymbolKind::kBlank || kind == SymbolKind::kGap) {
        if (after_ideograph) break;
        at += size;
        if (kind == SymbolKind::kBlank && last == symbol) continue;
      } else {
        after_ideograph = kind == SymbolKind::kIdeograph;
        at += size;
      }
      last = symbol;
      take(symbol, base + at - size, base + at);
    }
    last_ = last;
    after_ideograph_ = after_ideograph;
    return at;
  }
  struct Gap {
    Symbol symbol;
    std::uint64_t begin, end;
  };

  // Puts the beginning of `bytes` behind what was left of the last push; returns how many bytes that took.
  template <class Take>
  std::size_t complete(std::string_view bytes, Take&& take) {
    std::size_t used = 0;
    while (cut_ > 0) {
      const auto c = base::utf8_at({cut_bytes_.data(), cut_}, 0);
      if (!c.cut) {
        // What does not continue it is looked at again by itself.
        const std::size_t again = cut_ - c.size;
        const std::uint64_t begin = bytes_ + used - cut_;
        cut_ = 0;
        code(c.code == base::kInvalidCode ? 0xFFFD : c.code, begin, begin + c.size, take);
        return used - again;
      }
      if (used == bytes.size()) break;
      cut_bytes_[cut_++] = bytes[used++];
    }
    return used;
  }

  template <class Take>
  void code(std::uint32_t code, std::uint64_t begin, std::uint64_t end, Take&& take) {
    const Symbol symbol = folding_->one(code);
    if (symbol.bits != 0) {
      one(symbol, begin, end, take);
    } else {
      for (const Symbol part : folding_->several(code)) one(part, begin, end, take);
    }
  }
  template <class Take>
  void one(Symbol symbol, std::uint64_t begin, std::uint64_t end, Take&& take) {
    const SymbolKind kind = symbol.kind();
    if (kind == SymbolKind::kBlank || kind == SymbolKind::kGap) {
      if (kind == SymbolKind::kBlank && last_ == symbol) return;
      last_ = symbol;
      if (after_ideograph_) {
        if (gap_count_ < kMostGaps) {
          gaps_[gap_count_++] = {symbol, begin, end};
          return;
        }
        give_gaps(take);
      }
    } else {
      last_ = symbol;
      const bool ideograph = kind == SymbolKind::kIdeograph;
      if (gap_count_ > 0) {
        if (ideograph)
          gap_count_ = 0;
        else
          give_gaps(take);
      }
      after_ideograph_ = ideograph;
    }
    take(symbol, begin, end);
  }
  template <class Take>
  void give_gaps(Take&& take) {
    const std::uint32_t count = gap_count_;
    gap_count_ = 0;
    after_ideograph_ = false;
    for (std::uint32_t i = 0; i < count; ++i) take(gaps_[i].symbol, gaps_[i].begin, gaps_[i].end);
  }

  const Folding* folding_;
  std::uint64_t bytes_ = 0;  // of all pushes
  std::array<char, 4> cut_bytes_{};
  std::uint32_t cut_ = 0;
  Symbol last_{};
  bool after_ideograph_ = false;
  std::array<Gap, kMostGaps> gaps_{};
  std::uint32_t gap_count_ = 0;
};

}  // namespace qw::governance
