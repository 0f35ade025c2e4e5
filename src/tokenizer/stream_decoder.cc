#include "tokenizer/stream_decoder.h"

#include "base/utf8.h"

namespace qw::tokenizer {

std::string StreamDecoder::push(TokenId id) {
  std::string out;
  if (skip_special_ && tokenizer_->is_special(id)) return out;
  if (tokenizer_->spec().characters) return push_characters(id);
  pending_ += tokenizer_->token_bytes(id);
  pending_.erase(0, base::append_valid_utf8(out, pending_, false));
  return out;
}

std::string StreamDecoder::push_characters(TokenId id) {
  const std::string_view bytes = tokenizer_->token_bytes(id);
  if (tokenizer_->is_byte(id)) {
    pending_ += bytes;
    return {};
  }
  std::string out = take_bytes();
  base::append_valid_utf8(out, bytes, true);
  return given(std::move(out));
}

std::string StreamDecoder::take_bytes() {
  std::string out;
  if (base::is_valid_utf8(pending_)) {
    out = pending_;
  } else {
    for (std::size_t i = 0; i < pending_.size(); ++i) out += "\uFFFD";
  }
  pending_.clear();
  return out;
}

std::string StreamDecoder::given(std::string text) {
  if (!begun_ && !text.empty()) {
    begun_ = true;
    if (text[0] == ' ' && tokenizer_->spec().characters->strip_blank) text.erase(0, 1);
  }
  return text;
}

std::string StreamDecoder::finish(bool cut) {
  if (cut) {
    std::string whole;
    pending_.resize(base::append_valid_utf8(whole, pending_, false));
  }
  if (tokenizer_->spec().characters) {
    std::string out = given(take_bytes());
    begun_ = false;
    return out;
  }
  std::string out;
  base::append_valid_utf8(out, pending_, true);
  pending_.clear();
  return out;
}

}  // namespace qw::tokenizer
