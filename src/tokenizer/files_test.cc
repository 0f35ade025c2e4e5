// Files: what is written is read back, in every form; what is wrong is refused with the place named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "tokenizer/gguf_vocabulary.h"
#include "tokenizer/internal/folder_files.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TokenizerSpec small_spec() {
  std::optional<std::string_view> text = "the cat and the hat, the mat; 白日依山盡，黃河入海流。白日黃河 <a> \n\n";
  auto spec = train_bpe([&] { return std::exchange(text, std::nullopt); },
                        {.vocab = 300, .added_tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"}});
  QW_CHECK(spec.has_value());
  spec->chat_template = "{{ messages }}\n\"é\"";
  return std::move(*spec);
}

void expect_equal(const TokenizerSpec& a, const TokenizerSpec& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.merges, b.merges);
  ASSERT_EQ(a.added.size(), b.added.size());
  for (std::size_t i = 0; i < a.added.size(); ++i) {
    EXPECT_EQ(a.added[i].text, b.added[i].text);
    EXPECT_EQ(a.added[i].id, b.added[i].id);
    EXPECT_EQ(a.added[i].special, b.added[i].special);
    EXPECT_EQ(a.added[i].normalized, b.added[i].normalized);
  }
  EXPECT_EQ(a.pre_tokenizer, b.pre_tokenizer);
  EXPECT_EQ(a.nfc, b.nfc);
  EXPECT_EQ(a.bos, b.bos);
  EXPECT_EQ(a.add_bos, b.add_bos);
  EXPECT_EQ(a.eos, b.eos);
  EXPECT_EQ(a.pad, b.pad);
  EXPECT_EQ(a.stop, b.stop);
  EXPECT_EQ(a.chat_template, b.chat_template);
}

class Folder : public testing::Test {
 protected:
  Folder()
      : path_(std::filesystem::temp_directory_path() /
              ("qw_tokenizer_test_" + std::to_string(::getpid()) + "_" +
               testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() override { std::filesystem::remove_all(path_); }

  void save(const TokenizerSpec& spec) {
    const auto saved = save_tokenizer_folder(spec, path_);
    ASSERT_TRUE(saved.has_value()) << saved.error().message;
  }
  void write(const char* name, std::string_view text) {
    ASSERT_TRUE(base::write_file_atomically(path_ / name, text).has_value());
  }
  std::string read(const char* name) const { return *base::read_file(path_ / name); }
  // The file's text with the first `from` replaced.
  void replace(const char* name, std::string_view from, std::string_view to) {
    std::string text = read(name);
    const auto at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    write(name, text.replace(at, from.size(), to));
  }
  TokenizerSpec load() const {
    auto spec = load_tokenizer_folder(path_);
    EXPECT_TRUE(spec.has_value()) << (spec ? "" : spec.error().message);
    return spec ? std::move(*spec) : TokenizerSpec();
  }
  std::string error() const {
    const auto spec = load_tokenizer_folder(path_);
    if (spec) return "";
    EXPECT_EQ(spec.error().kind, ErrorKind::kBadInput);
    return spec.error().message;
  }

  std::filesystem::path path_;
};

TEST_F(Folder, TokenizerJsonGivesTheSpecBack) {
  save(small_spec());
  std::filesystem::remove(path_ / "vocab.json");
  std::filesystem::remove(path_ / "merges.txt");
  expect_equal(load(), small_spec());
}

TEST_F(Folder, VocabAndMergesGiveTheSpecBack) {
  save(small_spec());
  std::filesystem::remove(path_ / "tokenizer.json");
  expect_equal(load(), small_spec());
}

TEST_F(Folder, OtherSettingsComeBack) {
  TokenizerSpec spec = small_spec();
  spec.pre_tokenizer = "qwen35";
  spec.nfc = false;
  spec.bos = spec.pad;
  spec.add_bos = true;
  spec.pad.reset();
  spec.added[3].normalized = true;
  save(spec);
  expect_equal(load(), spec);
}

TEST_F(Folder, MergesMayBeStrings) {
  save(small_spec());
  std::string text = read("tokenizer.json");
  auto root = json::parse(text);
  ASSERT_TRUE(root.has_value());
  for (auto& merge : root->as_object().find("model")->as_object().find("merges")->as_array()) {
    merge = json::Value(merge.as_array()[0].as_string() + " " + merge.as_array()[1].as_string());
  }
  write("tokenizer.json", json::dump(*root));
  expect_equal(load(), small_spec());
}

TEST_F(Folder, AddedTokensFromTheOldFiles) {
  TokenizerSpec spec = small_spec();
  save(spec);
  std::filesystem::remove(path_ / "tokenizer.json");
  std::filesystem::remove(path_ / "generation_config.json");
  write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2TokenizerFast"})");
  write("added_tokens.json", R"({"<|endoftext|>": 300, "<|im_start|>": 301, "<|im_end|>": 302, "<think>": 303})");
  write("special_tokens_map.json",
        R"({"eos_token": {"content": "<|im_end|>"}, "pad_token": "<|endoftext|>",
            "additional_special_tokens": ["<|im_start|>"]})");
  write("chat_template.jinja", spec.chat_template);
  const auto offset = static_cast<TokenId>(300 - spec.tokens.size());
  for (AddedToken& token : spec.added) token.id += offset;
  spec.eos = 302;
  spec.pad = 300;
  spec.stop = {302};
  expect_equal(load(), spec);
}

TEST_F(Folder, StopIdsAreTheEosThenTheList) {
  const TokenizerSpec spec = small_spec();
  save(spec);
  const std::string end = std::to_string(*spec.pad);
  write("generation_config.json", "{\"eos_token_id\": " + end + ", \"top_k\": 20}");
  EXPECT_THAT(load().stop, ElementsAre(*spec.eos, *spec.pad));
  write("generation_config.json", "{\"eos_token_id\": [5, " + end + ", 5]}");
  EXPECT_THAT(load().stop, ElementsAre(*spec.eos, 5, *spec.pad));
  replace("tokenizer_config.json", "\"eos_token\": \"<|im_end|>\"", "\"eos_token\": null");
  EXPECT_EQ(load().eos, 5);
}

TEST_F(Folder, SavingKeepsOtherGenerationSettings) {
  write("generation_config.json", R"({"top_k": 20, "eos_token_id": 1})");
  save(small_spec());
  EXPECT_THAT(read("generation_config.json"), HasSubstr("\"top_k\": 20"));
  expect_equal(load(), small_spec());
}

TEST_F(Folder, TemplateListsAndFiles) {
  save(small_spec());
  auto config = json::parse(read("tokenizer_config.json"));
  ASSERT_TRUE(config.has_value());
  config->as_object().set("chat_template",
                          *json::parse(R"([{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}])"));
  write("tokenizer_config.json", json::dump(*config));
  EXPECT_EQ(load().chat_template, "D");
  write("chat_template.jinja", "J");
  EXPECT_EQ(load().chat_template, "J");
}

TEST_F(Folder, AddedTokensMayStandInTheVocabularyToo) {
  TokenizerSpec spec = small_spec();
  save(spec);
  replace("tokenizer.json", "\"vocab\": {", "\"vocab\": {\n \"<think>\": " + std::to_string(spec.added[3].id) + ",");
  expect_equal(load(), spec);
}

TEST_F(Folder, RefusesWhatWouldChangeIds) {
  const std::vector<std::array<const char*, 3>> cases = {
      {"\\\\p{N}|", "\\\\p{N}{1,3}|", "pre_tokenizer: unknown regex"},
      {"\"Isolated\"", "\"Removed\"", "pre_tokenizer: the Split must be Isolated"},
      {"\"use_regex\": false", "\"use_regex\": true", "pre_tokenizer: the ByteLevel"},
      {"\"NFC\"", "\"NFKC\"", "normalizer: only NFC"},
      {"\"BPE\"", "\"Unigram\"", "model: only BPE"},
      {"\"ignore_merges\": false", "\"ignore_merges\": true", "ignore_merges is set"},
      {"\"byte_fallback\": false", "\"byte_fallback\": true", "normalizer"},
      {"\"lstrip\": false", "\"lstrip\": true", "lstrip"},
      {"\"vocab\": {", "\"vocab\": {\"x y\": 900,", "no letter"},
      {"\"vocab\": {", "\"vocab\": {\"zz\": 16000000,", "id 16000000 among only"},
      {"\"vocab\": {", "\"vocab\": {\"zz\": -1,", "expected a token id"},
      {"\"vocab\": {", "\"vocab\": {\"zz\": 5,", "two tokens with id 5"},
      {"\"merges\": [", "\"merges\": [\"ab\",", "merge 0: expected two tokens"},
      {"\"merges\": [", "\"merges\": [7,", "merge 0: neither"},
      {"\"added_tokens\": [", "\"added_tokens\": [{\"id\": 1.5, \"content\": \"x\"},", "expected a token id"},
      {"{", "[", "tokenizer.json"},
  };
  for (const auto& [from, to, message] : cases) {
    save(small_spec());
    replace("tokenizer.json", from, to);
    EXPECT_THAT(error(), AllOf(HasSubstr("tokenizer.json"), HasSubstr(message))) << from;
  }
}

TEST_F(Folder, RefusesWrongSideFiles) {
  const std::vector<std::array<const char*, 3>> cases = {
      {"tokenizer_config.json", R"({"eos_token": "<|nope|>"})", "eos_token \"<|nope|>\" is not in the vocabulary"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "a"}}})", "expected a token id"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"900": {"content": "<think>"}}})", "contradicts"},
      {"tokenizer_config.json", "[]", "not an object"},
      {"tokenizer_config.json", R"({"chat_template": 5})", "chat_template"},
      {"generation_config.json", R"({"eos_token_id": "x"})", "expected a token id"},
      {"added_tokens.json", R"({"<x>": -3})", "expected a token id"},
      {"special_tokens_map.json", "{", "special_tokens_map.json"},
  };
  for (const auto& [file, text, message] : cases) {
    save(small_spec());
    write(file, text);
    EXPECT_THAT(error(), AllOf(HasSubstr(file), HasSubstr(message))) << file << text;
    std::filesystem::remove(path_ / file);
  }
}

TEST_F(Folder, RefusesAnotherFamilysClass) {
  save(small_spec());
  std::filesystem::remove(path_ / "tokenizer.json");
  replace("tokenizer_config.json", "Qwen2Tokenizer", "GPT2Tokenizer");
  EXPECT_THAT(error(), HasSubstr("GPT2Tokenizer"));
}

TEST_F(Folder, AnEmptyFolderHasNoTokenizer) { EXPECT_THAT(error(), HasSubstr("no tokenizer.json")); }

TEST_F(Folder, MergesFileKeepsMergesOfHashes) {
  save(small_spec());
  std::filesystem::remove(path_ / "tokenizer.json");
  TokenizerSpec spec = small_spec();
  const auto id = spec.added.back().id + 1;
  replace("vocab.json", "{", "{\"##\": " + std::to_string(id) + ", ");
  write("merges.txt", "#version: 0.2\r\n# #\r\n");
  EXPECT_THAT(load().merges, ElementsAre(std::pair<std::string, std::string>("#", "#")));
}

// ---- the first generation's file ------------------------------------------------------------------------------------

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 3; ++j)
      bits = (bits << 8) | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0);
    for (std::size_t j = 0; j < 4; ++j) out += i + j > bytes.size() ? '=' : kDigits[(bits >> (18 - 6 * j)) & 63];
  }
  return out;
}

TEST_F(Folder, TiktokenFileGivesTheMergesBack) {
  const TokenizerSpec spec = small_spec();
  std::string text;
  for (std::size_t i = 0; i < spec.tokens.size(); ++i) text += base64(spec.tokens[i]) + " " + std::to_string(i) + "\n";
  write("qwen.tiktoken", text);
  const TokenizerSpec loaded = load();
  EXPECT_EQ(loaded.tokens, spec.tokens);
  EXPECT_EQ(loaded.merges, spec.merges);
  EXPECT_EQ(loaded.added.size(), 208u);
  EXPECT_EQ(loaded.added.back().text, "<|extra_204|>");
  EXPECT_THAT(loaded.chat_template, HasSubstr("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"));
  EXPECT_THAT(loaded.stop, ElementsAre(spec.tokens.size(), spec.tokens.size() + 2));
  const auto t = Tokenizer::create(loaded);
  ASSERT_TRUE(t.has_value());
  // The whole text is normalised first: here the last bracket becomes another character, and nothing special is left.
  const auto n = static_cast<TokenId>(spec.tokens.size());
  EXPECT_THAT(t->encode("<|im_end|>"), ElementsAre(n + 2));
  EXPECT_EQ(t->encode("<|im_end|>\u0338"), t->encode("<|im_end|\u226F", false));
}

TEST_F(Folder, RefusesAWrongTiktokenFile) {
  for (const char* text : {"!!!! 0\n", "IQ== 1\n", "IQ==\n", "IQ== 0x\n", "IQ== 0\nIQ== 1\n", "ISE= 0\n", "=A== 0\n"}) {
    write("qwen.tiktoken", text);
    EXPECT_THAT(error(), HasSubstr("qwen.tiktoken: line ")) << text;
  }
}

// ---- GGUF -----------------------------------------------------------------------------------------------------------

TEST(Gguf, GivesTheSpecBack) {
  const TokenizerSpec spec = small_spec();
  const auto vocabulary = spec_to_gguf(spec, 320);
  ASSERT_TRUE(vocabulary.has_value()) << vocabulary.error().message;
  EXPECT_EQ(vocabulary->tokens.size(), 320u);
  EXPECT_EQ(vocabulary->tokens[319], "[PAD319]");
  EXPECT_EQ(vocabulary->token_types[319], 5);
  EXPECT_EQ(vocabulary->token_types[static_cast<std::size_t>(spec.added[0].id)], 3);
  EXPECT_EQ(vocabulary->token_types[static_cast<std::size_t>(spec.added[3].id)], 4);
  EXPECT_EQ(vocabulary->eot, spec.eos);
  const auto back = spec_from_gguf(*vocabulary);
  ASSERT_TRUE(back.has_value()) << back.error().message;
  expect_equal(*back, spec);
}

TEST(Gguf, TheFirstGenerationStopsAtTheEndOfATurn) {
  TokenizerSpec spec = small_spec();
  auto vocabulary = spec_to_gguf(spec);
  ASSERT_TRUE(vocabulary.has_value());
  vocabulary->eos = vocabulary->bos = spec.pad;
  vocabulary->eot.reset();
  EXPECT_THAT(spec_from_gguf(*vocabulary)->stop, ElementsAre(*spec.pad, *spec.eos));
}

TEST(Gguf, RefusesWhatItDoesNotKnow) {
  const GgufVocabulary good = *spec_to_gguf(small_spec());
  const auto error = [](const GgufVocabulary& v) {
    const auto spec = spec_from_gguf(v);
    return spec ? "" : spec.error().message;
  };
  GgufVocabulary v = good;
  v.pre = "llama-bpe";
  EXPECT_THAT(error(v), HasSubstr("llama-bpe"));
  v = good;
  v.token_types.pop_back();
  EXPECT_THAT(error(v), HasSubstr("token_type"));
  v = good;
  v.token_types[3] = 6;
  EXPECT_THAT(error(v), HasSubstr("id 3: token type 6"));
  v = good;
  v.token_types[3] = 77;
  EXPECT_THAT(error(v), HasSubstr("token type 77"));
  v = good;
  v.tokens[7] = "\xFF";
  EXPECT_THAT(error(v), HasSubstr("id 7"));
  v = good;
  v.merges.push_back("abc");
  EXPECT_THAT(error(v), HasSubstr("tokenizer.ggml.merges"));
  v = good;
  v.eos = 1 << 20;
  EXPECT_THAT(error(v), HasSubstr("eos_token_id 1048576"));
}

}  // namespace
}  // namespace qw::tokenizer
