// Which two neighbouring characters of three bytes (Chinese, kana, most punctuation of theirs) a token may hold bytes
// of. Between any other two no merge can join anything, whatever stands around them, so what is left and what is right
// of them can be encoded by themselves. Most of Chinese text falls apart into words of few characters that way.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace qw::tokenizer {

class CharPairs {
 public:
  // Every token that any merge makes must be among `tokens`.
  static CharPairs of(std::span<const std::string> tokens);

  // `second`: where the second of the two begins. Never false for a pair that a token holds bytes of.
  bool may_join(const char* second) const {
    const std::uint64_t at = place(second - 3);
    return (((bits_[at / 64] >> (at % 64)) | (open_leads_ >> (second[0] & 0x0F))) & 1) != 0;
  }

 private:
  // 128 KiB. Qwen's vocabularies set some 50 000: 18 000 pairs of whole characters, and what goes with 33 tokens that
  // are the last byte of any character and a whole one.
  static constexpr int kBits = 20;

  CharPairs() : bits_((std::size_t{1} << kBits) / 64) {}
  static std::uint64_t place(const char* six) {
    std::uint32_t low;
    std::uint16_t high;
    std::memcpy(&low, six, sizeof low);
    std::memcpy(&high, six + sizeof low, sizeof high);
    return (((std::uint64_t{high} << 32) | low) * 0x9E3779B97F4A7C15u) >> (64 - kBits);
  }
  void add_seam(std::string_view token, std::size_t seam);
  void add_all(std::string_view left, std::string_view right);

  std::vector<std::uint64_t> bits_;  // by place
  std::uint32_t open_leads_ = 0;     // bit of a lead byte's low half: characters that begin so join to any
};

}  // namespace qw::tokenizer
