#include "tokenizer/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace qw::tokenizer {
namespace {

Tokenizer bytes_and(bool add_bos) {
  auto spec = train_bpe([] { return std::nullopt; }, {.vocab = 256, .added_tokens = {"<|s|>", "<|e|>"}});
  EXPECT_TRUE(spec) << spec.error().message;
  spec->bos = 256;
  spec->add_bos = add_bos;
  return std::move(*Tokenizer::create(std::move(*spec)));
}

TEST(Prompt, PlainPartsHoldNoSpecialTokens) {
  const Tokenizer tokenizer = bytes_and(false);
  const PromptPart parts[] = {{"<|s|>a", false}, {"<|e|>", true}, {"<|e|>", false}};
  const auto ids = encode_prompt(tokenizer, parts);
  ASSERT_EQ(ids.size(), 1u + 1 + 5 + 1);
  EXPECT_EQ(ids.front(), 256);
  EXPECT_EQ(ids.back(), 257);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 257), 1);
  EXPECT_EQ(tokenizer.decode(ids, false), "<|s|>a<|e|><|e|>");
}

TEST(Prompt, BosComesOnceAndOnlyWhereItIsAskedFor) {
  const Tokenizer with = bytes_and(true), without = bytes_and(false);
  EXPECT_EQ(encode_prompt(with, "", false), std::vector<TokenId>{256});
  EXPECT_EQ(encode_prompt(with, "<|s|>", false), std::vector<TokenId>{256});
  EXPECT_EQ(encode_prompt(with, "<|s|>", true).size(), 6u);
  EXPECT_EQ(encode_prompt(with, "a", false).size(), 2u);
  EXPECT_EQ(encode_prompt(with, "a", false).front(), 256);
  EXPECT_EQ(encode_prompt(without, "a", false).size(), 1u);
}

TEST(Prompt, ControlTokensAreTheSpecialOnes) {
  auto spec = train_bpe([] { return std::nullopt; }, {.vocab = 256, .added_tokens = {"<|s|>", "<think>", "<|e|>"}});
  ASSERT_TRUE(spec);
  EXPECT_THAT(control_tokens(*Tokenizer::create(std::move(*spec))), testing::ElementsAre("<|s|>", "<|e|>"));
}

}  // namespace
}  // namespace qw::tokenizer
