// GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the other 68 in ascending order for U+0100 and up.
#include "tokenizer/internal/letters.h"

#include <array>

#include "tokenizer/internal/shown.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {
namespace {

struct Alphabet {
  std::array<std::uint32_t, 256> letter{};  // by byte
  std::array<int, 0x100 + 68> byte{};       // by letter, -1 if it is none
  std::array<unsigned char, 256> in_letter_order{};
};

constexpr bool stands_for_itself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

constexpr Alphabet make_alphabet() {
  Alphabet a;
  a.byte.fill(-1);
  std::uint32_t next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const auto i = static_cast<std::size_t>(b);
    a.letter[i] = stands_for_itself(b) ? static_cast<std::uint32_t>(b) : next++;
    a.byte[a.letter[i]] = b;
  }
  std::size_t n = 0;
  for (const int b : a.byte) {
    if (b >= 0) a.in_letter_order[n++] = static_cast<unsigned char>(b);
  }
  return a;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::array<unsigned char, 256> bytes_in_letter_order() { return kAlphabet.in_letter_order; }

std::string bytes_to_letters(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) base::append_utf8(out, kAlphabet.letter[static_cast<unsigned char>(c)]);
  return out;
}

Result<std::string> letters_to_bytes(std::string_view letters) {
  std::string out;
  out.reserve(letters.size());
  for (std::size_t at = 0; at < letters.size();) {
    const base::Utf8Char c = base::utf8_at(letters, at);
    if (c.code >= kAlphabet.byte.size() || kAlphabet.byte[c.code] < 0) {
      return fail(ErrorKind::kBadInput,
                  "token " + shown(letters) + ": byte " + std::to_string(at) + " is no letter of the byte alphabet");
    }
    out.push_back(static_cast<char>(kAlphabet.byte[c.code]));
    at += c.size;
  }
  return out;
}

}  // namespace qw::tokenizer
