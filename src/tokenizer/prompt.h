// What a model is given to read: ids with the bos its tokenizer asks for in front (TokenizerSpec::add_bos), and prompts
// put together from text that may hold special tokens and text that may not.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

struct PromptPart {
  std::string_view text;
  bool plain = false;  // special tokens in it are ordinary text: somebody wrote them who may not
};

// The parts one after the other, each encoded by itself. bos comes in front if the tokenizer asks for it and the parts
// do not begin with it already.
std::vector<TokenId> encode_prompt(const Tokenizer& tokenizer, std::span<const PromptPart> parts);
// The same for one text.
std::vector<TokenId> encode_prompt(const Tokenizer& tokenizer, std::string_view text, bool plain);

// The texts of all special tokens, by id; they live as long as the tokenizer.
std::vector<std::string_view> control_tokens(const Tokenizer& tokenizer);

}  // namespace qw::tokenizer
