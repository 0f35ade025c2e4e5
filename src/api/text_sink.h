// From an engine's tokens to text: one object per running request, called on the engine's thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/request.h"
#include "sampling/loop_watch.h"
#include "sampling/text_stream.h"
#include "tokenizer/tokenizer.h"

namespace qw::api {

struct TokenDetail {
  engine::TokenId id = 0;
  float logprob = 0;
  std::vector<sampling::TokenLogprob> top;
};

// Text that became certain, and the tokens behind it (themselves only when log-probabilities were asked for).
struct TextPiece {
  std::string text;
  std::int64_t count = 0;  // of tokens; every token but a stop id belongs to one piece
  std::vector<TokenDetail> tokens;
};

inline constexpr std::int32_t kRepeats = -2;

// Gets the pieces of one request in order, then the end, once. Called on the engine's thread: must be quick.
class TextReceiver {
 public:
  virtual ~TextReceiver() = default;
  // kStop: nothing more is wanted. What was drawn with it may still come.
  virtual engine::Verdict on_piece(TextPiece piece) noexcept = 0;
  // The prompt's tokens but the first, before any piece, if log-probabilities of it were asked for; not if it ended
  // before.
  virtual void on_prompt(std::vector<TokenDetail>) noexcept {}
  // Every token that was drawn, the stop id included, right before the end; only if the sink was asked for them.
  virtual void on_drawn(std::vector<engine::TokenId>) noexcept {}
  // `stop`: which of the caller's stop strings ended it, -1: none, kRepeats: it repeated itself.
  virtual void on_end(const engine::Finished& finished, std::int32_t stop) noexcept = 0;
};

class TextSink final : public engine::Sink {
 public:
  // `tokenizer` must outlive the request. `skip_special`: leave special tokens out of the text. `loops`: ends an answer
  // that repeats itself, as a processor of the same request finds; null: none is ended. `tells_stop`: a stop id, which
  // has no text, is among the tokens whose log-probabilities are told.
  TextSink(const tokenizer::Tokenizer& tokenizer, const sampling::SamplingParams& params, bool skip_special,
           std::shared_ptr<TextReceiver> receiver, std::shared_ptr<const sampling::LoopWatch> loops = nullptr,
           bool tells_stop = false);
  void keep_drawn() { keeps_drawn_ = true; }  // before the request begins
  engine::Verdict on_token(const engine::TokenEvent& event) noexcept override;
  void on_prompt_token(const engine::TokenEvent& event) noexcept override;
  void on_finished(const engine::Finished& finished) noexcept override;

 private:
  sampling::TextStream text_;
  void tell_prompt();

  bool details_, tells_stop_;
  std::vector<TokenDetail> prompt_;
  std::vector<TokenDetail> pending_;
  std::vector<engine::TokenId> drawn_;
  bool keeps_drawn_ = false;
  std::int64_t pending_count_ = 0;
  std::shared_ptr<TextReceiver> receiver_;
  std::shared_ptr<const sampling::LoopWatch> loops_;
};

}  // namespace qw::api
