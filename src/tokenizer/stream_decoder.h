// Turns a stream of token ids into text pieces that are always whole UTF-8 characters.
#pragma once

#include <string>

#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}
  // Text that became certain with this token; may be empty while a character is incomplete. Invalid bytes -> U+FFFD.
  std::string push(TokenId id);
  // What is left at the end (an incomplete character -> U+FFFD).
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace qw::tokenizer
