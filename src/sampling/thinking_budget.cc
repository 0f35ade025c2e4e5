#include "sampling/thinking_budget.h"

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/utf8.h"

namespace qw::sampling {
namespace {

using tokenizer::TokenId;

constexpr std::string_view kOpen = "<think>", kClose = "</think>", kForced = "\n</think>\n\n";

class ThinkingBudget final : public LogitsProcessor {
 public:
  ThinkingBudget(const tokenizer::Tokenizer& tokenizer, std::int64_t budget, bool open,
                 std::shared_ptr<LoopWatch> loops)
      : tokenizer_(tokenizer),
        budget_(budget),
        loops_(std::move(loops)),
        state_(open ? State::kThinking : State::kStart) {}

  Status prepare(const History&, std::int64_t) override { return {}; }

  Status apply(std::span<float> logits, const History&) override {
    if (state_ == State::kThinking && (tokens_ >= budget_ || thought_repeats()) && at_border()) begin_ending();
    if (state_ != State::kEnding) return {};
    const auto forced = static_cast<std::size_t>(ending_[forced_]);
    if (forced >= logits.size())
      return fail(ErrorKind::kFailed, "the end of a thinking block is no token of this model");
    const float kept = logits[forced];
    std::fill(logits.begin(), logits.end(), -std::numeric_limits<float>::infinity());
    logits[forced] = kept;
    return {};
  }

  Status accept(TokenId id) override {
    if (loops_ != nullptr) watch(id);
    if (state_ == State::kDone) return {};
    if (state_ == State::kEnding) {
      if (++forced_ == ending_.size()) state_ = State::kDone;
      return {};
    }
    text_ += tokenizer_.token_bytes(id);
    if (state_ == State::kStart) {
      look_for_begin();
    } else {
      ++tokens_;
      if (text_.find(kClose) != std::string::npos) {
        state_ = State::kDone;
        if (loops_ != nullptr) loops_->restart();
      }
      if (text_.size() > kKept) text_.erase(0, text_.size() - kKept);
    }
    return {};
  }

 private:
  enum class State : std::uint8_t { kStart, kThinking, kEnding, kDone };
  // Enough for a mark that is cut anywhere, and for a character.
  static constexpr std::size_t kKept = 32;

  void begin_ending() {
    ending_ = tokenizer_.encode(kForced);
    state_ = State::kEnding;
  }
  bool thought_repeats() const { return loops_ != nullptr && loops_->repeated() >= loops_->limits().in_thinking; }

  // Before the state of the token is known: the last of a thought counts as thought.
  void watch(TokenId id) {
    if (state_ == State::kEnding) return loops_->restart();
    loops_->push(id);
    if (state_ != State::kThinking && loops_->repeated() >= loops_->limits().in_answer) loops_->end_answer();
  }

  // White space may stand before <think>.
  void look_for_begin() {
    const std::size_t at = std::min(text_.find_first_not_of(" \t\r\n"), text_.size());
    const std::string_view rest = std::string_view(text_).substr(at);
    if (rest.starts_with(kOpen)) {
      state_ = State::kThinking;
      text_.erase(0, at + kOpen.size());
    } else if (!kOpen.starts_with(rest.substr(0, kOpen.size())) || at > kKept) {
      state_ = State::kDone;
    }
  }

  bool at_border() const {
    for (std::size_t i = text_.size() > 3 ? text_.size() - 3 : 0; i < text_.size(); ++i)
      if (base::utf8_at(text_, i).cut) return false;
    return true;
  }

  const tokenizer::Tokenizer& tokenizer_;
  std::int64_t budget_, tokens_ = 0;
  std::shared_ptr<LoopWatch> loops_;  // may be null
  std::vector<TokenId> ending_;  // once it is forced
  std::size_t forced_ = 0;  // of ending_
  std::string text_;        // the end of the output so far
  State state_;
};

}  // namespace

std::unique_ptr<LogitsProcessor> make_thinking_budget(const tokenizer::Tokenizer& tokenizer, std::int64_t budget,
                                                      bool open) {
  return std::make_unique<ThinkingBudget>(tokenizer, budget, open, nullptr);
}

std::unique_ptr<LogitsProcessor> make_thinking_watch(const tokenizer::Tokenizer& tokenizer,
                                                     std::optional<std::int64_t> budget, bool open,
                                                     std::shared_ptr<LoopWatch> loops) {
  return std::make_unique<ThinkingBudget>(tokenizer, budget.value_or(std::numeric_limits<std::int64_t>::max()), open,
                                          std::move(loops));
}

}  // namespace qw::sampling
