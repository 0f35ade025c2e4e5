#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tokenizer/internal/unicode.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/test_texts.h"

namespace qw::tokenizer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kText =
    "the cat sat on the mat and the cats sat on the mats. 白日依山盡，黃河入海流。欲窮千里目，更上一層樓。春眠不覺曉，"
    "處處聞啼鳥。夜來風雨聲，花落知多少。春風春雨春花 aaaa aaaaaaaa e\u0301\u0301 \u00E9t\u00E9 ====== it's "
    "we'll\n\n\n";

TokenizerSpec small_spec() {
  std::optional<std::string_view> text = kText;
  auto spec = train_bpe([&] { return std::exchange(text, std::nullopt); },
                        {.vocab = 420,
                         .min_frequency = 1,
                         .added_tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "<|im_start|>s"}});
  QW_CHECK(spec.has_value());
  return std::move(*spec);
}

Tokenizer make(TokenizerSpec spec) {
  auto t = Tokenizer::create(std::move(spec));
  QW_CHECK(t.has_value());
  return std::move(*t);
}

std::string error_of(TokenizerSpec spec) {
  const auto t = Tokenizer::create(std::move(spec));
  return t ? "" : t.error().message;
}

// The definition of BPE, word for word, over the pre-tokeniser's pieces.
std::vector<TokenId> encode_slowly(const TokenizerSpec& spec, std::string_view text) {
  std::map<std::string, TokenId> ids;
  for (std::size_t i = 0; i < spec.tokens.size(); ++i) ids[spec.tokens[i]] = static_cast<TokenId>(i);
  std::map<std::pair<std::string, std::string>, std::size_t> ranks;
  for (std::size_t i = 0; i < spec.merges.size(); ++i) ranks[spec.merges[i]] = i;
  std::vector<TokenId> out;
  pre_tokenize(spec.pre_tokenizer, to_nfc(text), [&](std::string_view piece) {
    std::vector<std::string> parts;
    for (const char c : piece) parts.emplace_back(1, c);
    for (;;) {
      std::size_t best = parts.size(), best_rank = spec.merges.size();
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks.find({parts[i], parts[i + 1]});
        if (found != ranks.end() && found->second < best_rank) best = i, best_rank = found->second;
      }
      if (best == parts.size()) break;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    for (const auto& part : parts) out.push_back(ids.at(part));
  });
  return out;
}

TEST(Tokenizer, EqualsTheDefinition) {
  const Tokenizer t = make(small_spec());
  EXPECT_EQ(t.encode(kText), encode_slowly(t.spec(), kText));
  base::Rng rng(5);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = random_bytes(rng, 30);
    ASSERT_EQ(t.encode(text, false), encode_slowly(t.spec(), text));
  }
}

// Pieces of all lengths around the place where the method changes.
TEST(Tokenizer, LongPiecesEqualTheDefinition) {
  const Tokenizer t = make(small_spec());
  base::Rng rng(6);
  for (std::size_t n = 1; n < 300; ++n) {
    std::string text;
    while (text.size() < n) text += std::vector<std::string>{"a", "aa", "the", "cat", "春", "風", "é"}[rng.below(7)];
    ASSERT_EQ(t.encode(text), encode_slowly(t.spec(), text)) << text;
    ASSERT_EQ(t.encode(std::string(n, '=')), encode_slowly(t.spec(), std::string(n, '=')));
  }
}

// Text long enough to be cut into many pieces at a time, of characters that the vocabulary joins in part.
TEST(Tokenizer, LongTextEqualsTheDefinition) {
  TokenizerSpec spec = small_spec();
  const auto add = [&](const std::string& left, const std::string& right) {
    spec.tokens.insert(spec.tokens.end(), left + right);
    spec.merges.emplace_back(left, right);
  };
  // Tokens that are parts of two characters: the end of one and the other, one and the begin of the other.
  spec.added.clear();
  spec.eos = spec.pad = std::nullopt;
  spec.stop.clear();
  add("\xA5", "\xE7");
  add("\xA5\xE7", "\xBE");
  add("\xE7", "\xBE");
  add("春", "\xE7");
  add("\x80", "黃");
  const Tokenizer t = make(spec);
  base::Rng rng(11);
  const std::vector<std::string> parts = {"春", "風", "黃河", "入",   "海流", "白日", "依山", "，",    "。", "“",
                                          "　", "日", "盡",   "美",   "羊",   "the",  " cat", "'s",    "\n", " ",
                                          "7",  "é",  "\xE7", "\xA5", "ー",   "か",   "각",   "\u0301"};
  for (int i = 0; i < 4000; ++i) {
    std::string text;
    const std::size_t kinds = 2 + rng.below(parts.size() - 1), from = rng.below(parts.size());
    while (text.size() < 240) text += parts[(from + rng.below(kinds)) % parts.size()];
    ASSERT_EQ(t.encode(text), encode_slowly(t.spec(), text)) << text;
  }
}

// Words of two letters meet in every way there is; each round is another vocabulary on the same thread.
TEST(Tokenizer, RepetitiveTextEqualsTheDefinition) {
  base::Rng rng(7);
  const auto word = [&](std::size_t n, std::uint64_t letters) {
    std::string text;
    for (; text.size() < n;) text += std::string(1 + rng.below(3), static_cast<char>('a' + rng.below(letters)));
    return text;
  };
  for (int round = 0; round < 40; ++round) {
    const std::uint64_t letters = 1 + rng.below(3);
    std::string text;
    for (int i = 0; i < 60; ++i) text += word(1 + rng.below(40), letters) + " ";
    std::optional<std::string_view> document = text;
    const auto spec = train_bpe([&] { return std::exchange(document, std::nullopt); },
                                {.vocab = 257 + static_cast<std::int64_t>(rng.below(120)), .min_frequency = 1});
    ASSERT_TRUE(spec.has_value());
    const Tokenizer t = make(*spec);
    for (int i = 0; i < 50; ++i) {
      const std::string sample = word(1 + rng.below(150), letters);
      ASSERT_EQ(t.encode(sample), encode_slowly(*spec, sample)) << sample;
    }
  }
}

// A token that two merges make, merges that come before those that make their parts, tokens that no merge makes.
TEST(Tokenizer, DisorderlyVocabulariesEqualTheDefinition) {
  base::Rng rng(17);
  for (int round = 0; round < 100; ++round) {
    TokenizerSpec spec;
    for (int byte = 0; byte < 256; ++byte) spec.tokens.emplace_back(1, static_cast<char>(byte));
    std::vector<std::string> words = {"a", "b", "c"};
    for (int i = 0; i < 12; ++i) {
      const std::string left = words[rng.below(words.size())], right = words[rng.below(words.size())];
      if (std::find(spec.merges.begin(), spec.merges.end(), std::pair(left, right)) != spec.merges.end()) continue;
      spec.merges.emplace_back(left, right);
      if (std::find(words.begin(), words.end(), left + right) != words.end()) continue;
      words.push_back(left + right);
      spec.tokens.push_back(left + right);
    }
    spec.tokens.emplace_back("abcabcabcabc");
    for (std::size_t i = spec.merges.size(); i > 1; --i) std::swap(spec.merges[i - 1], spec.merges[rng.below(i)]);
    const Tokenizer t = make(spec);
    for (int i = 0; i < 50; ++i) {
      std::string sample;
      for (std::uint64_t n = 1 + rng.below(120); n > 0; --n) sample += static_cast<char>('a' + rng.below(3));
      ASSERT_EQ(t.encode(sample), encode_slowly(spec, sample)) << sample;
    }
  }
}

TEST(Tokenizer, ExtendingKeepsAllOtherIds) {
  const Tokenizer old = make(small_spec());
  const std::vector<std::string> texts = {"<|tool|>", "the cats"};
  const auto spec = extend_tokenizer(old, texts, true);
  ASSERT_TRUE(spec.has_value()) << spec.error().message;
  const Tokenizer t = make(*spec);
  const auto first = static_cast<TokenId>(old.vocab_size());
  EXPECT_EQ(t.vocab_size(), old.vocab_size() + 2);
  EXPECT_THAT(t.encode("<|tool|>the cats"), ElementsAre(first, first + 1));
  EXPECT_EQ(t.encode("<|tool|>the cats", false), old.encode("<|tool|>the cats", false));
  EXPECT_EQ(t.decode(std::vector<TokenId>{first, first + 1}), "");
  const auto refused = [&](const std::vector<std::string>& added) {
    const auto result = extend_tokenizer(old, added, true);
    return result ? "" : result.error().message;
  };
  EXPECT_EQ(refused({}), "no token to add");
  EXPECT_EQ(refused({""}), "a token to add is empty");
  EXPECT_THAT(refused({"<|im_end|>"}), HasSubstr("already"));
  EXPECT_THAT(refused({"a"}), HasSubstr("already"));
  EXPECT_THAT(refused({"<x>", "<y>", "<x>"}), HasSubstr("given twice"));
}

TEST(Tokenizer, TurnsBetweenVocabulariesDoNotMixThem) {
  const Tokenizer small = make(small_spec());
  TokenizerSpec spec = small_spec();
  spec.merges.clear();
  const Tokenizer bytes = make(spec);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(small.encode(kText), encode_slowly(small.spec(), kText));
    EXPECT_EQ(bytes.encode(kText), encode_slowly(spec, kText));
  }
}

TEST(Tokenizer, DecodeGivesTheBytesBack) {
  const Tokenizer t = make(small_spec());
  base::Rng rng(8);
  for (int i = 0; i < 5000; ++i) {
    const std::string bytes = random_bytes(rng, 20);
    // An added token parts what is around it, so the text is normalised in parts.
    EXPECT_EQ(to_nfc(t.decode_bytes(t.encode(bytes), false)), to_nfc(bytes));
    EXPECT_EQ(t.decode_bytes(t.encode(bytes, false)), to_nfc(bytes));
  }
}

TEST(Tokenizer, WithoutNormalisationNoByteChanges) {
  TokenizerSpec spec = small_spec();
  spec.nfc = false;
  const Tokenizer t = make(std::move(spec));
  base::Rng rng(9);
  for (int i = 0; i < 5000; ++i) {
    const std::string bytes = random_bytes(rng, 20);
    EXPECT_EQ(t.decode_bytes(t.encode(bytes), false), bytes);
  }
}

TEST(Tokenizer, LongestAddedTokenWins) {
  const Tokenizer t = make(small_spec());
  const TokenId start = *t.find("<|im_start|>"), start_s = *t.find("<|im_start|>s"), think = *t.find("<think>");
  EXPECT_THAT(t.encode("<|im_start|>"), ElementsAre(start));
  EXPECT_THAT(t.encode("<|im_start|>s<think>"), ElementsAre(start_s, think));
  EXPECT_THAT(t.encode("<|im_start|><|im_start|>"), ElementsAre(start, start));
  EXPECT_EQ(t.encode("<|im_<|im_start|>").back(), start);
  EXPECT_EQ(t.decode(t.encode("<|im_start|>", false)), "<|im_start|>");
}

TEST(Tokenizer, SpecialTokensAreLeftOutOthersKept) {
  const Tokenizer t = make(small_spec());
  const auto ids = t.encode("a<|im_end|><think>b");
  EXPECT_EQ(t.decode(ids), "a<think>b");
  EXPECT_EQ(t.decode(ids, false), "a<|im_end|><think>b");
  EXPECT_TRUE(t.is_special(*t.find("<|im_end|>")));
  EXPECT_FALSE(t.is_special(*t.find("<think>")));
}

TEST(Tokenizer, NormalizedAddedTokensAreFoundAfterNormalisation) {
  TokenizerSpec spec = small_spec();
  const auto id = static_cast<TokenId>(spec.tokens.size() + spec.added.size());
  spec.added.push_back({"<\u00E9>", id, false, true});
  spec.added.push_back({"<e\u0301!>", id + 1, false, false});
  const Tokenizer t = make(std::move(spec));
  EXPECT_THAT(t.encode("<e\u0301>"), ElementsAre(id));
  EXPECT_THAT(t.encode("<\u00E9>"), ElementsAre(id));
  EXPECT_THAT(t.encode("<e\u0301!>"), ElementsAre(id + 1));
  EXPECT_GT(t.encode("<\u00E9!>").size(), 1u);
}

TEST(Tokenizer, IdsOutsideTheVocabularyGiveNothing) {
  TokenizerSpec spec = small_spec();
  spec.tokens[300].clear();
  std::erase_if(spec.merges, [](const auto&) { return true; });
  const Tokenizer t = make(std::move(spec));
  EXPECT_EQ(t.decode(std::vector<TokenId>{-1, 300, 1 << 30, 0}), "!");
  EXPECT_EQ(t.token_bytes(300), "");
}

TEST(Tokenizer, RefusesContradictions) {
  TokenizerSpec spec = small_spec();
  spec.tokens[256] = spec.tokens[257];
  EXPECT_THAT(error_of(spec), HasSubstr("same token"));
  spec = small_spec();
  spec.tokens[65].clear();
  EXPECT_THAT(error_of(spec), HasSubstr("no token for byte 98"));
  spec = small_spec();
  spec.merges.emplace_back("xyzzy", "a");
  EXPECT_THAT(error_of(spec), HasSubstr("\"xyzzy\" is not in the vocabulary"));
  spec = small_spec();
  spec.merges.emplace_back("", "a");
  EXPECT_NE(error_of(spec), "");
  spec = small_spec();
  spec.pre_tokenizer = "gpt9";
  EXPECT_THAT(error_of(spec), HasSubstr("gpt9"));
  spec = small_spec();
  spec.added[0].id = 5;
  EXPECT_THAT(error_of(spec), HasSubstr("already means"));
  spec = small_spec();
  spec.added[0].id = spec.added[1].id;
  EXPECT_THAT(error_of(spec), HasSubstr("already means"));
  spec = small_spec();
  spec.added[0].id = 1 << 30;
  EXPECT_THAT(error_of(spec), HasSubstr("out of range"));
  spec = small_spec();
  spec.added[0].text = "a";
  EXPECT_THAT(error_of(spec), HasSubstr("is also token"));
  spec = small_spec();
  spec.added.push_back({spec.added[0].text, 999});
  EXPECT_THAT(error_of(spec), HasSubstr("there twice"));
  spec = small_spec();
  spec.stop.push_back(100000);
  EXPECT_THAT(error_of(spec), HasSubstr("stop id 100000"));
}

TEST(Letters, RoundTripAndAlphabet) {
  std::string all;
  for (int b = 0; b < 256; ++b) all.push_back(static_cast<char>(b));
  EXPECT_EQ(*letters_to_bytes(bytes_to_letters(all)), all);
  EXPECT_EQ(bytes_to_letters(" the\n"), "ĠtheĊ");
  EXPECT_EQ(bytes_to_letters("\xAD\xFF"), "Ńÿ");
  EXPECT_FALSE(letters_to_bytes("a b").has_value());
  EXPECT_FALSE(letters_to_bytes("中").has_value());
  EXPECT_FALSE(letters_to_bytes("\xFF").has_value());
}

TEST(StreamDecoder, PiecesAreWholeAndJoinToTheText) {
  const Tokenizer t = make(small_spec());
  base::Rng rng(10);
  for (int i = 0; i < 3000; ++i) {
    std::vector<TokenId> ids;
    for (std::uint64_t n = rng.below(30); n > 0; --n) {
      ids.push_back(static_cast<TokenId>(rng.below(static_cast<std::uint64_t>(t.vocab_size()))));
    }
    for (const bool skip : {true, false}) {
      StreamDecoder decoder(t, skip);
      std::string text;
      for (const TokenId id : ids) {
        const std::string piece = decoder.push(id);
        std::string checked;
        base::append_valid_utf8(checked, piece, true);
        ASSERT_EQ(checked, piece);
        text += piece;
      }
      text += decoder.finish();
      ASSERT_EQ(text, t.decode(ids, skip));
    }
  }
}

TEST(StreamDecoder, HoldsAnIncompleteCharacterBack) {
  const Tokenizer t = make(small_spec());
  StreamDecoder decoder(t);
  EXPECT_EQ(decoder.push(*t.find("\xF0")), "");
  EXPECT_EQ(decoder.push(*t.find("\x9F")), "");
  EXPECT_EQ(decoder.push(*t.find("\x98")), "");
  EXPECT_EQ(decoder.push(*t.find("\x80")), "\U0001F600");
  EXPECT_EQ(decoder.push(*t.find("\xE6")), "");
  EXPECT_EQ(decoder.push(*t.find("a")),
            "\uFFFD"
            "a");
  EXPECT_EQ(decoder.push(*t.find("\xE6")), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(decoder.finish(), "");
  EXPECT_EQ(decoder.push(*t.find("\xE6")), "");
  EXPECT_EQ(decoder.finish(/*cut=*/true), "");
  EXPECT_EQ(decoder.push(*t.find("a")), "a") << "nothing is left of it";
}

}  // namespace
}  // namespace qw::tokenizer
