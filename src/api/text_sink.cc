#include "api/text_sink.h"

namespace qw::api {

TextSink::TextSink(const tokenizer::Tokenizer& tokenizer, const sampling::SamplingParams& params, bool skip_special,
                   std::shared_ptr<TextReceiver> receiver, std::shared_ptr<const sampling::LoopWatch> loops,
                   bool tells_stop)
    : text_(tokenizer, params, skip_special),
      details_(params.logprobs),
      tells_stop_(tells_stop && params.logprobs),
      receiver_(std::move(receiver)),
      loops_(std::move(loops)) {}

engine::Verdict TextSink::on_token(const engine::TokenEvent& event) noexcept {
  tell_prompt();
  if (keeps_drawn_) drawn_.push_back(event.id);
  if (event.stop) {  // the engine ends the request itself
    if (tells_stop_) pending_.push_back({event.id, event.logprob, {event.top.begin(), event.top.end()}});
    return engine::Verdict::kContinue;
  }
  std::string text = text_.push(event.id);
  ++pending_count_;
  if (details_) pending_.push_back({event.id, event.logprob, {event.top.begin(), event.top.end()}});
  bool stops = false;
  if (!text.empty())
    stops = receiver_->on_piece({std::move(text), std::exchange(pending_count_, 0), std::exchange(pending_, {})}) ==
            engine::Verdict::kStop;
  const bool repeats = loops_ != nullptr && loops_->answer_repeats();
  return stops || text_.stopped() || repeats ? engine::Verdict::kStop : engine::Verdict::kContinue;
}

void TextSink::on_prompt_token(const engine::TokenEvent& event) noexcept {
  prompt_.push_back({event.id, event.logprob, {event.top.begin(), event.top.end()}});
}

void TextSink::tell_prompt() {
  if (!prompt_.empty()) receiver_->on_prompt(std::exchange(prompt_, {}));
}

void TextSink::on_finished(const engine::Finished& finished) noexcept {
  if (finished.reason == engine::FinishReason::kLength) tell_prompt();
  // A model that ended with half a character wrote that; one that was ended did not.
  const bool cut = finished.reason != engine::FinishReason::kStop || (loops_ != nullptr && loops_->answer_repeats());
  std::string rest = text_.finish(cut);
  if (!rest.empty() || pending_count_ > 0 || !pending_.empty())
    receiver_->on_piece({std::move(rest), std::exchange(pending_count_, 0), std::exchange(pending_, {})});
  const bool repeats = loops_ != nullptr && loops_->answer_repeats() && !text_.stopped();
  if (keeps_drawn_) receiver_->on_drawn(std::move(drawn_));
  receiver_->on_end(finished, repeats ? kRepeats : text_.matched());
}

}  // namespace qw::api
