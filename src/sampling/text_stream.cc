#include "sampling/text_stream.h"

namespace qw::sampling {

TextStream::TextStream(const tokenizer::Tokenizer& tokenizer, const SamplingParams& params, bool skip_special)
    : decoder_(tokenizer, skip_special), matcher_(params.stop), min_tokens_(params.min_tokens) {}

std::string TextStream::push(TokenId id) {
  std::string text = decoder_.push(id);
  // Text of the first min_tokens tokens never stops the request, so it does not enter the matcher.
  if (++tokens_ < min_tokens_) return text;
  return matcher_.push(text);
}

std::string TextStream::finish(bool cut) {
  std::string text = matcher_.push(decoder_.finish(cut));
  return text + matcher_.finish();
}

}  // namespace qw::sampling
