#include <algorithm>

#include "sampling/params.h"

namespace qw::sampling {

VocabularyMask vocabulary_mask(const tokenizer::Tokenizer& tokenizer, std::int64_t vocab) {
  VocabularyMask mask;
  mask.usable = std::min(vocab, tokenizer.vocab_size());
  for (TokenId id = 0; id < mask.usable; ++id)
    if (tokenizer.token_bytes(id).empty()) mask.holes.push_back(id);
  return mask;
}

}  // namespace qw::sampling
