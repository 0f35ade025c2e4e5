#include "sampling/text_stream.h"

#include <gtest/gtest.h>

namespace qw::sampling {
namespace {

// Bytes, one merge ("ab"), a special token and an ordinary added one.
tokenizer::Tokenizer small_tokenizer() {
  tokenizer::TokenizerSpec spec;
  for (int b = 0; b < 256; ++b) spec.tokens.push_back(std::string(1, static_cast<char>(b)));
  spec.tokens.push_back("ab");
  spec.merges = {{"a", "b"}};
  spec.added = {{"<|im_end|>", 257, true}, {"<think>", 260, false}};
  auto made = tokenizer::Tokenizer::create(std::move(spec));
  EXPECT_TRUE(made) << made.error().message;
  return std::move(*made);
}

struct Streamed {
  std::string text;
  std::vector<std::string> pieces;
  int tokens = 0;      // until stopped
  int matched = -1;
};
Streamed stream(const tokenizer::Tokenizer& t, const SamplingParams& params, const std::vector<TokenId>& ids) {
  TextStream text(t, params);
  Streamed out;
  for (const TokenId id : ids) {
    if (text.stopped()) break;
    out.pieces.push_back(text.push(id));
    ++out.tokens;
  }
  out.pieces.push_back(text.finish());
  for (const std::string& p : out.pieces) out.text += p;
  out.matched = text.matched();
  return out;
}

TEST(TextStream, StopsInsideATokenAndAcrossTokens) {
  const auto t = small_tokenizer();
  SamplingParams p;
  p.stop = {"xab", "b!"};
  const auto ids = t.encode("say xyab! more");
  const Streamed s = stream(t, p, ids);
  EXPECT_EQ(s.text, "say xya");
  EXPECT_EQ(s.matched, 1);
  EXPECT_LT(s.tokens, static_cast<int>(ids.size()));
}

TEST(TextStream, PiecesAreWholeCharactersAndLoseNothing) {
  const auto t = small_tokenizer();
  const std::string text = "通义千问 😀 ab é";
  const Streamed s = stream(t, {}, t.encode(text));
  EXPECT_EQ(s.text, text);
  for (const std::string& piece : s.pieces) {
    if (!piece.empty()) {
      EXPECT_NE(static_cast<unsigned char>(piece[0]) & 0xC0, 0x80);
    }
  }
}

TEST(TextStream, SpecialTokensAreNoText) {
  const auto t = small_tokenizer();
  EXPECT_EQ(stream(t, {}, {'h', 'i', 257, 260}).text, "hi<think>");
}

TEST(TextStream, MinTokensLetsEarlyStopStringsPass) {
  const auto t = small_tokenizer();
  SamplingParams p;
  p.stop = {"."};
  p.min_tokens = 4;
  const Streamed s = stream(t, p, {'a', '.', 'c', 'd', 'e', '.', 'f'});
  EXPECT_EQ(s.text, "a.cde");
  EXPECT_EQ(s.tokens, 6);
}

TEST(TextStream, AnUnfinishedCharacterAtTheEndIsReplaced) {
  const auto t = small_tokenizer();
  EXPECT_EQ(stream(t, {}, {'a', 0xE9, 0x80}).text, "a\xEF\xBF\xBD");
}

TEST(VocabularyMask, KnowsHolesAndRowsBeyondTheTokenizer) {
  const auto t = small_tokenizer();
  ASSERT_EQ(t.vocab_size(), 261);
  const VocabularyMask mask = vocabulary_mask(t, 300);
  EXPECT_EQ(mask.usable, 261);
  EXPECT_EQ(mask.holes, (std::vector<TokenId>{258, 259}));
  EXPECT_EQ(vocabulary_mask(t, 100).usable, 100);
}

}  // namespace
}  // namespace qw::sampling
