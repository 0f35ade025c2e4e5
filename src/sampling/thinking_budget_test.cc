#include "sampling/thinking_budget.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>

namespace qw::sampling {
namespace {

using tokenizer::TokenId;

tokenizer::Tokenizer byte_tokenizer() {
  tokenizer::TokenizerSpec spec;
  for (int b = 0; b < 256; ++b) spec.tokens.push_back(std::string(1, static_cast<char>(b)));
  spec.added.push_back({"</think>", 256, false, false});
  return std::move(*tokenizer::Tokenizer::create(std::move(spec)));
}

// What comes out when the model wants to write `wanted` byte by byte.
std::string written(const tokenizer::Tokenizer& tokenizer, std::optional<std::int64_t> budget, bool open,
                    const std::string& wanted, std::size_t tokens, std::shared_ptr<LoopWatch> loops = nullptr) {
  auto processor = loops == nullptr ? make_thinking_budget(tokenizer, *budget, open)
                                    : make_thinking_watch(tokenizer, budget, open, loops);
  std::string out;
  std::size_t at = 0;
  for (std::size_t i = 0; i < tokens; ++i) {
    std::vector<float> logits(257, 0.0f);
    const auto want = static_cast<TokenId>(static_cast<unsigned char>(at < wanted.size() ? wanted[at] : '.'));
    logits[static_cast<std::size_t>(want)] = 1;
    EXPECT_TRUE(processor->apply(logits, {}).has_value());
    const auto id = static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    EXPECT_TRUE(processor->accept(id).has_value());
    if (id == want) ++at;
    out += tokenizer.token_bytes(id);
  }
  return out;
}

TEST(ThinkingBudget, EndsWhatIsTooLong) {
  const auto tokenizer = byte_tokenizer();
  EXPECT_EQ(written(tokenizer, 5, true, "thinking on", 16), "think\n</think>\n\ning on.");
  EXPECT_EQ(written(tokenizer, 0, true, "hm", 6), "\n</think>\n\nhm");
  EXPECT_EQ(written(tokenizer, 3, false, "<think>abcdef", 16), "<think>abc\n</think>\n\nde");
}

TEST(ThinkingBudget, LeavesTheRestAlone) {
  const auto tokenizer = byte_tokenizer();
  EXPECT_EQ(written(tokenizer, 20, true, "short</think>answer, as long as it likes to be", 46),
            "short</think>answer, as long as it likes to be");
  EXPECT_EQ(written(tokenizer, 3, false, "an answer without thinking", 26), "an answer without thinking");
}

TEST(ThinkingBudget, EndsThoughtsThatRepeatThemselves) {
  const auto tokenizer = byte_tokenizer();
  const auto watch = [] { return std::make_shared<LoopWatch>(LoopLimits{4, 3, 6, 12}); };
  EXPECT_EQ(written(tokenizer, std::nullopt, true, "x hm hm hm hm", 16, watch()), "x hm hm hm\n</think>\n\n h");
  // What stood in the thoughts does not count for the answer.
  auto loops = watch();
  written(tokenizer, std::nullopt, true, "x hm hm hm hm hm hm hm", 24, loops);
  EXPECT_FALSE(loops->answer_repeats());
  loops = watch();
  written(tokenizer, std::nullopt, true, "a</think>bcbcbcbcbcb", 20, loops);
  EXPECT_FALSE(loops->answer_repeats());
  loops = watch();
  written(tokenizer, std::nullopt, false, "bcbcbcbcbcb", 11, loops);
  EXPECT_FALSE(loops->answer_repeats());
  loops = watch();
  EXPECT_EQ(written(tokenizer, std::nullopt, false, "bcbcbcbcbcbc", 12, loops), "bcbcbcbcbcbc");
  EXPECT_TRUE(loops->answer_repeats());
}

TEST(ThinkingBudget, DoesNotCutCharacters) {
  const auto tokenizer = byte_tokenizer();
  EXPECT_EQ(written(tokenizer, 4, true, "你好吗", 11), "你好\n</think>\n\n\xe5");
}

}  // namespace
}  // namespace qw::sampling
