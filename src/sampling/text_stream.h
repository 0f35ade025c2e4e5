// From sampled ids to text a reader may see: whole characters, nothing from a stop string onwards.
//
// One object per request. The engine knows no text: whoever receives its tokens pushes them here, and ends the request
// when stopped() (an engine::Sink returns Verdict::kStop).
#pragma once

#include <cstdint>
#include <string>

#include "sampling/params.h"
#include "sampling/stop_matcher.h"
#include "tokenizer/stream_decoder.h"

namespace qw::sampling {

class TextStream {
 public:
  // Uses params.stop and params.min_tokens. `tokenizer` must outlive the stream.
  TextStream(const tokenizer::Tokenizer& tokenizer, const SamplingParams& params, bool skip_special = true);
  // Text which became certain with this token; may be empty.
  std::string push(TokenId id);
  // What is left at the end of the request (nothing after a stop string). `cut`: it had more to say; half a character is
  // left out.
  std::string finish(bool cut = false);
  bool stopped() const { return matcher_.stopped(); }
  // Index in params.stop of the string that matched, or -1.
  std::int32_t matched() const { return matcher_.matched(); }

 private:
  tokenizer::StreamDecoder decoder_;
  StopMatcher matcher_;
  std::int32_t min_tokens_;
  std::int32_t tokens_ = 0;
};

}  // namespace qw::sampling
