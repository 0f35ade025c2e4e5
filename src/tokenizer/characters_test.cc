// Vocabularies of characters against what the package `tokenizers` does (tools/make_character_goldens.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <unordered_map>

#include "base/file.h"
#include "base/rng.h"
#include "json/value.h"
#include "tokenizer/gguf_vocabulary.h"
#include "tokenizer/internal/character_bpe.h"
#include "tokenizer/internal/folder_files.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/test_texts.h"

namespace qw::tokenizer {
namespace {

using ::testing::HasSubstr;

std::string golden(const std::string& name) {
  auto text = base::read_file(std::filesystem::path(QW_SOURCE_DIR) / "tests/golden/characters" / name);
  QW_CHECK(text.has_value());
  return std::move(*text);
}

Result<TokenizerSpec> spec_of(std::string json) {
  FolderFiles files;
  files.tokenizer_json = std::move(json);
  return spec_from_files(files);
}

TokenizerSpec golden_spec(const std::string& form) {
  auto spec = spec_of(golden(form + ".json"));
  QW_CHECK(spec.has_value());
  return std::move(*spec);
}

Tokenizer make(TokenizerSpec spec) {
  auto t = Tokenizer::create(std::move(spec));
  QW_CHECK(t.has_value());
  return std::move(*t);
}

std::string streamed(const Tokenizer& t, std::span<const TokenId> ids, bool skip_special) {
  StreamDecoder stream(t, skip_special);
  std::string text;
  for (const TokenId id : ids) text += stream.push(id);
  return text + stream.finish();
}

int expect_goldens(const Tokenizer& t, const std::string& form) {
  const std::string lines = golden(form + ".jsonl");
  int texts = 0;
  for (std::size_t begin = 0; begin < lines.size();) {
    const std::size_t end = lines.find('\n', begin);
    const auto row = json::parse(lines.substr(begin, end - begin));
    begin = end + 1;
    std::vector<TokenId> ids;
    for (const json::Value& id : row->find("ids")->as_array()) ids.push_back(static_cast<TokenId>(id.as_int()));
    if (const json::Value* text = row->find("text")) {
      EXPECT_EQ(t.encode(text->as_string()), ids) << form << ": " << text->as_string();
      ++texts;
    }
    for (const bool skip : {true, false}) {
      const std::string& want = row->find(skip ? "decoded" : "kept")->as_string();
      EXPECT_EQ(t.decode(ids, skip), want) << form;
      EXPECT_EQ(streamed(t, ids, skip), want) << form;
    }
  }
  return texts;
}

class Forms : public testing::TestWithParam<const char*> {};

TEST_P(Forms, EqualTheReference) { EXPECT_GT(expect_goldens(make(golden_spec(GetParam())), GetParam()), 150); }

TEST_P(Forms, AreTheSameAfterAWayThroughFiles) {
  const TokenizerSpec spec = golden_spec(GetParam());
  const auto folder = std::filesystem::temp_directory_path() / ("qw_characters_" + std::to_string(::getpid()));
  ASSERT_TRUE(save_tokenizer_folder(spec, folder).has_value());
  auto folder_spec = load_tokenizer_folder(folder);
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(folder_spec.has_value()) << folder_spec.error().message;
  EXPECT_EQ(folder_spec->merges, spec.merges);
  expect_goldens(make(std::move(*folder_spec)), GetParam());

  const auto gguf = spec_to_gguf(spec, 500);
  ASSERT_TRUE(gguf.has_value()) << gguf.error().message;
  EXPECT_EQ(gguf->model, "llama");
  EXPECT_EQ(gguf->tokens.size(), 500u);
  EXPECT_EQ(gguf->scores.size(), 500u);
  auto gguf_spec = spec_from_gguf(*gguf);
  ASSERT_TRUE(gguf_spec.has_value()) << gguf_spec.error().message;
  EXPECT_EQ(gguf_spec->merges, spec.merges);
  // Such files do not say whether an added token is found in the changed text.
  for (AddedToken& token : gguf_spec->added) {
    for (const AddedToken& old : spec.added) {
      if (old.id == token.id) token.normalized = old.normalized;
    }
  }
  expect_goldens(make(std::move(*gguf_spec)), GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, Forms, testing::Values("prepend", "converted", "never", "always", "first"),
                         [](const auto& form) { return std::string(form.param); });

// Files of llama.cpp have scores alone.
TEST(Characters, MergesFollowFromScores) {
  const TokenizerSpec spec = golden_spec("converted");
  auto gguf = *spec_to_gguf(spec);
  gguf.merges.clear();
  const auto again = spec_from_gguf(gguf);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->merges, spec.merges);
}

TEST(Characters, AddedTokensMayHoldBlanks) {
  TokenizerSpec spec = golden_spec("prepend");
  const auto id = static_cast<TokenId>(make(spec).vocab_size());
  spec.added.push_back({"\u2581<PRE>", id, false, false});
  const Tokenizer t = make(std::move(spec));
  EXPECT_EQ(t.encode("the\u2581<PRE>").back(), id);
  EXPECT_EQ(t.decode(std::vector<TokenId>{id, id}), "<PRE> <PRE>");
}

// The definition, symbol by symbol.
TEST(Characters, LongTextEqualsTheDefinition) {
  const TokenizerSpec spec = golden_spec("never");
  const Tokenizer t = make(spec);
  std::unordered_map<std::string, std::size_t> ranks;
  for (std::size_t i = 0; i < spec.merges.size(); ++i) ranks[spec.merges[i].first + '\0' + spec.merges[i].second] = i;
  base::Rng rng(3);
  const std::vector<std::string> words = {"the ", "cat", "h", "  ", "at", "黃河", "春", "眠不覺", "return ", "a", "龍"};
  for (int round = 0; round < 300; ++round) {
    std::string text;
    const std::size_t few = 1 + rng.below(words.size());
    for (std::uint64_t n = 1 + rng.below(80); n > 0; --n) text += words[rng.below(few)];
    std::vector<std::string> parts;
    for (std::size_t at = 0; at < text.size();) {
      const auto size = base::utf8_at(text, at).size;
      parts.push_back(text.substr(at, size));
      at += size;
    }
    for (;;) {
      std::size_t best = parts.size(), best_rank = spec.merges.size();
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks.find(parts[i] + '\0' + parts[i + 1]);
        if (found != ranks.end() && found->second < best_rank) best = i, best_rank = found->second;
      }
      if (best == parts.size()) break;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    std::vector<TokenId> want;
    for (const std::string& part : parts) {
      if (const auto id = t.find(part)) {
        want.push_back(*id);
      } else {
        for (const char c : part) want.push_back(spec.characters->bytes[static_cast<unsigned char>(c)]);
      }
    }
    ASSERT_EQ(t.encode(text), want) << text;
  }
}

TEST(Characters, AnyBytesComeBack) {
  TokenizerSpec spec = golden_spec("never");
  const Tokenizer t = make(spec);
  base::Rng rng(4);
  for (int i = 0; i < 2000; ++i) {
    const std::string bytes = random_bytes(rng, 12);
    EXPECT_EQ(t.decode_bytes(t.encode(bytes), false), with_blanks(bytes, CharacterVocabulary::Blank::kNever, true));
  }
}

TEST(Characters, AMegabyteOfOneThingTakesNoQuadraticTime) {
  const Tokenizer t = make(golden_spec("prepend"));
  for (const std::string one : {"a", " ", "春", "the", "😀"}) {
    std::string text;
    while (text.size() < (1 << 20)) text += one;
    EXPECT_EQ(t.decode(t.encode(text)), text);
  }
}

TEST(Characters, OtherFormsAreRefusedByName) {
  const std::string good = golden("prepend.json"), meta = golden("first.json");
  const auto error = [](std::string text, std::string_view from, std::string_view to) -> std::string {
    const std::size_t at = text.find(from);
    QW_CHECK(at != std::string::npos);
    const auto spec = spec_of(text.replace(at, from.size(), to));
    if (!spec) return spec.error().message;
    const auto t = Tokenizer::create(*spec);
    return t ? "" : t.error().message;
  };
  EXPECT_THAT(error(good, "\"Prepend\"", "\"Lowercase\""), HasSubstr("normalizer"));
  EXPECT_THAT(error(good, "\"pre_tokenizer\":null", "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}"), HasSubstr("blanks"));
  EXPECT_THAT(error(meta, "\"split\":false", "\"split\":true"), HasSubstr("splits"));
  EXPECT_THAT(error(meta, "\"first\"", "\"last\""), HasSubstr("prepend_scheme"));
  EXPECT_THAT(error(good, "\"ByteFallback\"", "\"Metaspace\""), HasSubstr("decoder"));
  EXPECT_THAT(error(good, "<0x07>", "<0x7>"), HasSubstr("no token for byte 7"));
  EXPECT_THAT(error(good, "\"type\":\"BPE\"", "\"type\":\"Unigram\""), HasSubstr("BPE"));
}

}  // namespace
}  // namespace qw::tokenizer
