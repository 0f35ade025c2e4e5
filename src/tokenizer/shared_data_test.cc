// The real Qwen2 vocabulary against recorded ids, where the data is at hand: QW_SHARED, or ../shared beside the source.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/file.h"
#include "json/value.h"
#include "tokenizer/gguf_vocabulary.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {
namespace {

class SharedData : public testing::Test {
 protected:
  void SetUp() override {
    const char* shared = std::getenv("QW_SHARED");
    folder_ = (shared != nullptr ? std::filesystem::path(shared) : std::filesystem::path(QW_SOURCE_DIR) / "../shared") /
              "data/tokenizer";
    if (!std::filesystem::exists(folder_ / "qwen2/vocab.json")) GTEST_SKIP() << "no Qwen2 vocabulary at " << folder_;
  }
  Tokenizer load() const {
    auto spec = load_tokenizer_folder(folder_ / "qwen2");
    QW_CHECK(spec.has_value());
    auto tokenizer = Tokenizer::create(std::move(*spec));
    QW_CHECK(tokenizer.has_value());
    return std::move(*tokenizer);
  }
  std::filesystem::path folder_;
};

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t at; (at = text.find(separator, begin)) != std::string::npos; begin = at + separator.size()) {
    parts.push_back(text.substr(begin, at - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

TEST_F(SharedData, Qwen2FolderLoads) {
  const Tokenizer t = load();
  EXPECT_EQ(t.vocab_size(), 151646);
  EXPECT_EQ(t.spec().eos, 151645);
  EXPECT_EQ(t.spec().pad, 151643);
  EXPECT_EQ(t.spec().stop, (std::vector<TokenId>{151645, 151643}));
  EXPECT_NE(t.spec().chat_template.find("<|im_start|>"), std::string::npos);
  EXPECT_EQ(t.token_bytes(51461), "\x20\xE6\xA0");
  EXPECT_EQ(t.encode("print(\"<|endoftext|>\")", false),
            (std::vector<TokenId>{1350, 9639, 91, 8691, 723, 427, 91, 82598}));
  EXPECT_EQ(t.encode("print(\"<|endoftext|>\")"), (std::vector<TokenId>{1350, 445, 151643, 899}));
}

TEST_F(SharedData, RecordedIds) {
  const Tokenizer t = load();
  const auto text = base::read_file(folder_ / "golden_qwen2.jsonl");
  ASSERT_TRUE(text.has_value());
  int rows = 0;
  for (const std::string& line : split(*text, "\n")) {
    if (line.empty()) continue;
    const auto row = json::parse(line);
    ASSERT_TRUE(row.has_value());
    std::vector<TokenId> ids;
    for (const auto& id : row->find("ids")->as_array()) ids.push_back(static_cast<TokenId>(id.as_int()));
    ASSERT_EQ(t.encode(row->find("text")->as_string()), ids) << line.substr(0, 200);
    ++rows;
  }
  EXPECT_GT(rows, 200);
}

TEST_F(SharedData, OtherEnginesPairs) {
  const auto input = base::read_file(folder_ / "llamacpp-pairs/ggml-vocab-qwen2.gguf.inp");
  const auto output = base::read_file(folder_ / "llamacpp-pairs/ggml-vocab-qwen2.gguf.out");
  ASSERT_TRUE(input.has_value() && output.has_value());
  const auto texts = split(*input, "\n__ggml_vocab_test__\n"), lines = split(*output, "\n");
  const Tokenizer t = load();
  ASSERT_GE(lines.size(), 46u);
  ASSERT_GE(texts.size(), 46u);
  for (std::size_t i = 0; i < std::min(texts.size(), lines.size() - 1); ++i) {
    std::istringstream numbers(lines[i]);
    std::vector<TokenId> ids;
    for (TokenId id; numbers >> id;) ids.push_back(id);
    EXPECT_EQ(t.encode(texts[i], false), ids) << texts[i];
  }
}

TEST_F(SharedData, GgufRoundTripKeepsTheRealVocabulary) {
  const Tokenizer t = load();
  const auto back = spec_from_gguf(*spec_to_gguf(t.spec(), 151936));
  ASSERT_TRUE(back.has_value()) << back.error().message;
  EXPECT_EQ(back->tokens, t.spec().tokens);
  EXPECT_EQ(back->merges, t.spec().merges);
  EXPECT_EQ(back->stop, t.spec().stop);
}

}  // namespace
}  // namespace qw::tokenizer
