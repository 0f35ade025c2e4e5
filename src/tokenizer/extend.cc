#include <algorithm>

#include "tokenizer/internal/shown.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

Result<TokenizerSpec> extend_tokenizer(const Tokenizer& tokenizer, std::span<const std::string> texts, bool special) {
  if (texts.empty()) return fail(ErrorKind::kUsage, "no token to add");
  TokenizerSpec spec = tokenizer.spec();
  auto id = static_cast<TokenId>(tokenizer.vocab_size());
  for (auto at = texts.begin(); at != texts.end(); ++at) {
    if (at->empty()) return fail(ErrorKind::kUsage, "a token to add is empty");
    if (const auto there = tokenizer.find(*at)) {
      return fail(ErrorKind::kUsage, shown(*at) + " is token " + std::to_string(*there) + " already");
    }
    if (std::find(texts.begin(), at, *at) != at) return fail(ErrorKind::kUsage, shown(*at) + " is given twice");
    spec.added.push_back({.text = *at, .id = id++, .special = special});
  }
  return spec;
}

}  // namespace qw::tokenizer
