// One number for the behaviour of the whole program: a change that means to change nothing leaves it as it is.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace qw::app {

// Makes a corpus of fixed random words, learns a tokenizer, and for every architecture trains a tiny model, writes it as
// a folder and as quantised GGUF, loads both and lets them answer, greedily and by drawing. The number is a hash of the
// vocabulary, the token ids of prompts and answers, and the losses to three decimals; an architecture that refuses a
// configuration has that refusal hashed. Computed with the portable kernels, so that every processor gives the same
// number, whatever QW_ISA says; the number of threads does not matter. Works in a folder of its own under the
// temporary one; takes seconds.
Result<std::uint64_t> signature(int threads);

}  // namespace qw::app
