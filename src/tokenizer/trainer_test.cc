#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tokenizer/internal/letters.h"
#include "tokenizer/test_texts.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {
namespace {

Result<TokenizerSpec> train(const std::vector<std::string>& documents, const TrainOptions& options) {
  std::size_t i = 0;
  return train_bpe(
      [&]() -> std::optional<std::string_view> {
        return i < documents.size() ? std::optional<std::string_view>(documents[i++]) : std::nullopt;
      },
      options);
}

// The definition, word for word: recount everything, merge the best pair everywhere, repeat.
TokenizerSpec train_slowly(const std::vector<std::string>& documents, const TrainOptions& options) {
  TokenizerSpec spec;
  std::map<std::string, int> ids;
  for (const unsigned char byte : bytes_in_letter_order()) {
    spec.tokens.emplace_back(1, static_cast<char>(byte));
    ids[spec.tokens.back()] = static_cast<int>(ids.size());
  }
  std::vector<std::vector<int>> words;
  for (const auto& document : documents) {
    pre_tokenize(options.pre_tokenizer, document, [&](std::string_view piece) {
      words.emplace_back();
      for (const char c : piece) words.back().push_back(ids.at(std::string(1, c)));
    });
  }
  while (static_cast<std::int64_t>(spec.tokens.size()) < options.vocab) {
    std::map<std::pair<int, int>, std::int64_t> counts;
    for (const auto& word : words) {
      for (std::size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    }
    std::pair<int, int> best;
    std::int64_t most = 0;
    for (const auto& [pair, count] : counts) {
      if (count > most) best = pair, most = count;
    }
    if (most < options.min_frequency) break;
    const std::string left = spec.tokens[static_cast<std::size_t>(best.first)];
    const std::string right = spec.tokens[static_cast<std::size_t>(best.second)];
    const auto [at, is_new] = ids.emplace(left + right, static_cast<int>(ids.size()));
    if (is_new) spec.tokens.push_back(left + right);
    spec.merges.emplace_back(left, right);
    for (auto& word : words) {
      std::vector<int> next;
      for (std::size_t i = 0; i < word.size(); ++i) {
        if (i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second) {
          next.push_back(at->second);
          ++i;
        } else {
          next.push_back(word[i]);
        }
      }
      word = next;
    }
  }
  return spec;
}

void expect_equal_to_slow(const std::vector<std::string>& documents, const TrainOptions& options) {
  const auto fast = train(documents, options);
  ASSERT_TRUE(fast.has_value()) << fast.error().message;
  const TokenizerSpec slow = train_slowly(documents, options);
  EXPECT_EQ(fast->tokens, slow.tokens);
  EXPECT_EQ(fast->merges, slow.merges);
}

TEST(Trainer, EqualsTheDefinitionOnText) {
  const std::vector<std::string> documents = {"the cat sat on the mat, and the cats sat on the mats\n",
                                              "白日依山盡，黃河入海流。欲窮千里目，更上一層樓。\n",
                                              "春眠不覺曉，處處聞啼鳥。夜來風雨聲，花落知多少。春風春雨春花\n",
                                              "for (int i = 0; i < n; ++i) {\n    total += values[i];\n}\n"};
  TrainOptions options;
  options.vocab = 400;
  expect_equal_to_slow(documents, options);
  options.min_frequency = 1;
  options.vocab = 600;
  expect_equal_to_slow(documents, options);
}

// Runs of few letters: overlapping pairs, and tokens that several pairs make.
TEST(Trainer, EqualsTheDefinitionOnRepetitions) {
  base::Rng rng(11);
  for (int round = 0; round < 60; ++round) {
    std::vector<std::string> documents;
    for (int d = 0; d < 3; ++d) {
      std::string text;
      for (std::uint64_t i = 0; i < 200; ++i) text += "aaab c"[rng.below(6)];
      documents.push_back(text);
    }
    TrainOptions options;
    options.vocab = 256 + static_cast<std::int64_t>(rng.below(120));
    options.min_frequency = 1 + static_cast<std::int64_t>(rng.below(3));
    expect_equal_to_slow(documents, options);
    if (HasFailure()) return;
  }
}

TEST(Trainer, NormalisesItsText) {
  const auto spec = train({"e\u0301e\u0301e\u0301e\u0301"}, {});
  ASSERT_TRUE(spec.has_value());
  EXPECT_THAT(spec->tokens, testing::Contains("\u00E9"));
}

TEST(Trainer, AOneMegabyteWordIsNoTrouble) {
  const auto spec = train({std::string(1 << 20, 'a')}, {.vocab = 275});
  ASSERT_TRUE(spec.has_value());
  EXPECT_EQ(spec->tokens.back(), std::string(1 << 19, 'a'));  // doubles with every merge
}

TEST(Trainer, AddedTokensFollowAndNameTheEnds) {
  const auto spec =
      train({"abab"}, {.vocab = 300, .added_tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"}});
  ASSERT_TRUE(spec.has_value());
  EXPECT_EQ(spec->tokens.size(), 257u);
  ASSERT_EQ(spec->added.size(), 4u);
  EXPECT_EQ(spec->added[0].id, 257);
  EXPECT_EQ(spec->added[3].id, 260);
  EXPECT_TRUE(spec->added[0].special);
  EXPECT_FALSE(spec->added[3].special);
  EXPECT_EQ(spec->eos, 259);
  EXPECT_EQ(spec->pad, 257);
  EXPECT_THAT(spec->stop, testing::ElementsAre(259, 257));
}

TEST(Trainer, RefusesImpossibleOptions) {
  EXPECT_EQ(train({}, {.vocab = 255}).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(train({}, {.pre_tokenizer = "gpt9"}).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(train({}, {.min_frequency = 0}).error().kind, ErrorKind::kUsage);
  EXPECT_FALSE(train({}, {.vocab = 256, .added_tokens = {""}}).has_value());
  EXPECT_FALSE(train({}, {.vocab = 256, .added_tokens = {"<a>", "<a>"}}).has_value());
}

TEST(Trainer, NoTextGivesTheBytes) {
  const auto spec = train({}, {});
  ASSERT_TRUE(spec.has_value());
  EXPECT_EQ(spec->tokens.size(), 256u);
}

}  // namespace
}  // namespace qw::tokenizer
