#include "tokenizer/prompt.h"

#include <algorithm>

namespace qw::tokenizer {

std::vector<TokenId> encode_prompt(const Tokenizer& tokenizer, std::span<const PromptPart> parts) {
  std::vector<TokenId> ids;
  for (const PromptPart& part : parts) {
    const auto more = tokenizer.encode(part.text, !part.plain);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  const TokenizerSpec& spec = tokenizer.spec();
  if (spec.add_bos && spec.bos && (ids.empty() || ids.front() != *spec.bos)) ids.insert(ids.begin(), *spec.bos);
  return ids;
}

std::vector<TokenId> encode_prompt(const Tokenizer& tokenizer, std::string_view text, bool plain) {
  const PromptPart part{text, plain};
  return encode_prompt(tokenizer, std::span(&part, 1));
}

std::vector<std::string_view> control_tokens(const Tokenizer& tokenizer) {
  std::vector<const AddedToken*> special;
  for (const AddedToken& token : tokenizer.spec().added) {
    if (token.special) special.push_back(&token);
  }
  std::sort(special.begin(), special.end(), [](const auto* a, const auto* b) { return a->id < b->id; });
  std::vector<std::string_view> texts;
  texts.reserve(special.size());
  for (const AddedToken* token : special) texts.push_back(token->text);
  return texts;
}

}  // namespace qw::tokenizer
