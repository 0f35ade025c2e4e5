// What the pre-tokeniser and NFC must know of Unicode. The tables are the reference tokenizer's, not the newest
// standard's: a character that Unicode added later has the class here that the models' tokenizers saw in training.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qw::tokenizer {

enum class CharClass : std::uint8_t { kOther, kLetter, kNumber, kSpace, kMark };

class Unicode {
 public:
  static const Unicode& tables();
  // kOther for anything that is not a code point.
  CharClass class_of(std::uint32_t code) const {
    return code < flags_.size() ? static_cast<CharClass>(flags_[code] & 0x7F) : CharClass::kOther;
  }
  // Whether NFC may change the character, move it, or join it to the one before.
  bool unstable(std::uint32_t code) const { return code < flags_.size() && (flags_[code] & 0x80) != 0; }

 private:
  Unicode();
  std::vector<std::uint8_t> flags_;  // one byte a code point: class, and 0x80 for unstable; 1.1 MB
};

// Where the first unstable character at or after `from`, the beginning of a character, begins; the size if there is
// none.
std::size_t find_unstable(std::string_view text, std::size_t from);
// True if `text` holds nothing that NFC could change; never true for a text that NFC changes.
bool surely_nfc(std::string_view text);
// Canonical composition (Unicode standard annex 15). Invalid bytes are kept and separate what is around them. Time is
// n log n whatever the text.
std::string to_nfc(std::string_view text);

}  // namespace qw::tokenizer
