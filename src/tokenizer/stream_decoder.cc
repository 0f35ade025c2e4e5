#include "tokenizer/stream_decoder.h"

#include "base/utf8.h"

namespace qw::tokenizer {

std::string StreamDecoder::push(TokenId id) {
  std::string out;
  if (skip_special_ && tokenizer_->is_special(id)) return out;
  pending_ += tokenizer_->token_bytes(id);
  pending_.erase(0, base::append_valid_utf8(out, pending_, false));
  return out;
}

std::string StreamDecoder::finish() {
  std::string out;
  base::append_valid_utf8(out, pending_, true);
  pending_.clear();
  return out;
}

}  // namespace qw::tokenizer
