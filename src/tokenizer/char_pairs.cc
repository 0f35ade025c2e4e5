#include "tokenizer/internal/char_pairs.h"

#include <algorithm>
#include <string_view>

namespace qw::tokenizer {
namespace {

constexpr std::size_t kLeads = 16, kFollows = 64;  // E0 to EF, 80 to BF
// Pairs that one seam of a token may stand for before all characters with its lead byte count as joined.
constexpr std::size_t kMaxPairs = 4096;

bool is_lead(char c) { return (c & 0xF0) == 0xE0; }
bool is_follow(char c) { return (c & 0xC0) == 0x80; }

// How many characters of three bytes end with (begin with) these one to three bytes.
std::size_t count_of_ends(std::string_view left) {
  return left.size() == 3 ? 1 : left.size() == 2 ? kLeads : kLeads * kFollows;
}
std::size_t count_of_begins(std::string_view right) {
  return right.size() == 3 ? 1 : right.size() == 2 ? kFollows : kFollows * kFollows;
}

}  // namespace

CharPairs CharPairs::of(std::span<const std::string> tokens) {
  CharPairs pairs;
  for (const std::string& token : tokens) {
    for (std::size_t seam = 1; seam < token.size(); ++seam) {
      if (is_lead(token[seam]) && is_follow(token[seam - 1])) pairs.add_seam(token, seam);
    }
  }
  return pairs;
}

// The token's bytes on both sides, as far as they are of the two characters that meet there.
void CharPairs::add_seam(std::string_view token, std::size_t seam) {
  const std::string_view left = token.substr(seam - std::min<std::size_t>(seam, 3), std::min<std::size_t>(seam, 3));
  const std::string_view right = token.substr(seam, 3);
  const auto follow = [](std::string_view bytes) { return std::all_of(bytes.begin(), bytes.end(), is_follow); };
  // Bytes that no two characters of three bytes have there.
  if (!follow(left.size() == 3 ? left.substr(1) : left) || (left.size() == 3 && !is_lead(left[0]))) return;
  if (!follow(right.substr(1))) return;
  if (count_of_ends(left) * count_of_begins(right) > kMaxPairs)
    open_leads_ |= 1u << (right[0] & 0x0F);
  else
    add_all(left, right);
}

void CharPairs::add_all(std::string_view left, std::string_view right) {
  const std::size_t ends = count_of_ends(left), begins = count_of_begins(right);
  for (std::size_t i = 0; i < ends * begins; ++i) {
    const std::size_t end = i / begins, begin = i % begins;
    // Numbers stand for the bytes that are missing.
    char six[6] = {static_cast<char>(0xE0 | (end % kLeads)),     static_cast<char>(0x80 | (end / kLeads)),    0, 0,
                   static_cast<char>(0x80 | (begin / kFollows)), static_cast<char>(0x80 | (begin % kFollows))};
    std::copy(left.begin(), left.end(), six + 3 - left.size());
    std::copy(right.begin(), right.end(), six + 3);
    const std::uint64_t at = place(six);
    bits_[at / 64] |= std::uint64_t{1} << (at % 64);
  }
}

}  // namespace qw::tokenizer
