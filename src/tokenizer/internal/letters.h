// The order in which the byte tokens of a new vocabulary come: by their letters in GPT-2's alphabet.
#pragma once

#include <array>

namespace qw::tokenizer {

std::array<unsigned char, 256> bytes_in_letter_order();

}  // namespace qw::tokenizer
