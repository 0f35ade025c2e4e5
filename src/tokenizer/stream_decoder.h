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
  // Joined with what finish() gives it is what Tokenizer::decode gives: tokens of bytes wait until another one comes.
  std::string push(TokenId id);
  // What is left at the end. An incomplete character -> U+FFFD; `cut`: it was still being written, and is left out.
  std::string finish(bool cut = false);

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string push_characters(TokenId id);
  std::string take_bytes();
  // The text as it is given out: without the blank at the front, if that goes.
  std::string given(std::string text);

  std::string pending_;
  bool begun_ = false;  // something was given out
};

}  // namespace qw::tokenizer
