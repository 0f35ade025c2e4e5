#include "data/build.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/chat_tokens.h"
#include "data/config_table.h"
#include "data/internal/test_files.h"
#include "data/packing.h"

namespace qw::data {
namespace {

namespace fs = std::filesystem;
using test::make_shard;
using testing::HasSubstr;

std::string sentence(base::Rng& rng) {
  static const char* kWords[] = {"moon", "river", "crane", "autumn", "山", "水", "月", "风", "old", "friend"};
  std::string text;
  for (int i = 0; i < 12; ++i) text += std::string(kWords[rng.below(10)]) + (i % 4 == 3 ? "\n" : " ");
  return text;
}

class BuildTest : public test::DataTest {
 protected:
  void SetUp() override {
    DataTest::SetUp();
    base::Rng rng(11);
    std::string first, second;
    for (int i = 0; i < 200; ++i) first += sentence(rng) + "\n";
    second = first.substr(0, first.find("\n\n") + 2);  // one document that the first source has too
    for (int i = 0; i < 50; ++i) second += sentence(rng) + "\n";
    write_xz("first.txt.xz", first);
    write("second.txt", second);
    write("chat.jsonl", R"({"messages":[{"role":"user","content":"moon"},{"role":"assistant","content":"river"}]})");
  }
  json::Object config_object(const std::string& more = "") {
    return config_of(more, 280, R"([[source]]
name = "first"
path = "first.txt.xz"
licence = "CC0"
origin = "test"
heldout_tail = 0.1
[[source]]
name = "second"
path = "second.txt"
licence = "CC0"
origin = "test"
weight = 2.0
[[source]]
name = "chat"
path = "chat.jsonl"
format = "chat"
licence = "CC0"
origin = "test"
)");
  }
};

TEST_F(BuildTest, MakesTokenizerShardsAndLedger) {
  const auto config = data_config(config_object(), folder_);
  ASSERT_TRUE(config) << config.error().message;
  const auto ledger = build_data(*config, {});
  ASSERT_TRUE(ledger) << ledger.error().message;
  const auto& sources = ledger->find("sources")->as_array();
  EXPECT_EQ(sources[0].find("train")->find("documents")->as_int(), 180);
  EXPECT_EQ(sources[0].find("heldout")->find("documents")->as_int(), 20);
  EXPECT_EQ(sources[1].find("duplicates_dropped")->as_int(), 1);
  EXPECT_EQ(sources[1].find("train")->find("documents")->as_int(), 50);
  EXPECT_EQ(sources[0].find("files")->as_array()[0].find("sha256")->as_string().size(), 64u);
  const auto dataset = open_dataset(folder_ / "out");
  ASSERT_TRUE(dataset) << dataset.error().message;
  EXPECT_EQ(dataset->train.size(), 3u);
  EXPECT_EQ(dataset->heldout.size(), 1u);
  EXPECT_EQ(dataset->vocab, 280);
  EXPECT_EQ(dataset->train[1].weight, 2.0);

  // The tokens of a document give its text back, and end with the end-of-text token.
  const auto tokenizer = *tokenizer::Tokenizer::create(*tokenizer::load_tokenizer_folder(folder_ / "tok"));
  const auto& shard = dataset->heldout[0].shard;
  auto reader = *DocumentReader::open(folder_ / "first.txt.xz", {});
  Document document;
  for (int i = 0; i <= 180; ++i) ASSERT_TRUE(*reader.next(document));
  std::vector<TokenId> ids;
  for (auto at = shard.begin(0); at < shard.end(0); ++at) ids.push_back(shard.token(at));
  EXPECT_EQ(ids.back(), *tokenizer.find("<|endoftext|>"));
  EXPECT_EQ(tokenizer.decode(ids), document.text);
  EXPECT_EQ(shard.document_bytes(0), document.text.size());
}

TEST_F(BuildTest, TheSameInputsGiveTheSameBytes) {
  const auto config = *data_config(config_object(), folder_);
  ASSERT_TRUE(build_data(config, {}));
  std::vector<std::string> before;
  for (const char* name : {"first.train.shard", "first.heldout.shard", "second.train.shard", "chat.train.shard", "ledger.json"})
    before.push_back(*base::read_file(folder_ / "out" / name));
  fs::remove_all(folder_ / "out");
  fs::remove_all(folder_ / "tok");
  ASSERT_TRUE(build_data(config, {}));
  std::size_t i = 0;
  for (const char* name : {"first.train.shard", "first.heldout.shard", "second.train.shard", "chat.train.shard", "ledger.json"})
    EXPECT_EQ(*base::read_file(folder_ / "out" / name), before[i++]) << name;
}

TEST_F(BuildTest, TheLedgerHasWhatIsStatedAndNothingElse) {
  const auto object = config_object(R"([dataset]
id = "ds-1"
version = "3"
)");
  json::Object stated = object;
  stated.find("source")->as_array()[0].as_object().set(
      "provenance", json::Object{{"kind", "crawled"},
                                 {"collected_from", "2025-03"},
                                 {"languages", json::Array{"en"}},
                                 {"personal_data", "possible"},
                                 {"crawler", json::Object{{"name", "walker"}, {"robots", "respected"}}},
                                 {"filters", json::Object{{"sampled", 100}, {"illegal", 2}, {"passed", 98}}}});
  const auto config = data_config(stated, folder_);
  ASSERT_TRUE(config) << config.error().message;
  const auto ledger = build_data(*config, {});
  ASSERT_TRUE(ledger) << ledger.error().message;
  EXPECT_EQ(ledger->find("dataset")->find("version")->as_string(), "3");
  const auto& sources = ledger->find("sources")->as_array();
  EXPECT_EQ(sources[0].find("provenance")->find("crawler")->find("robots")->as_string(), "respected");
  EXPECT_EQ(sources[0].find("provenance")->find("filters")->find("illegal")->as_int(), 2);
  EXPECT_EQ(sources[0].find("provenance")->find("publisher"), nullptr);
  EXPECT_EQ(sources[1].find("provenance"), nullptr);
  EXPECT_GT(sources[1].find("processing")->as_array().size(), 2u);
}

TEST_F(BuildTest, StatementsThatMakeNoSenseAreNamed) {
  const auto message = [&](json::Object provenance) {
    json::Object object = config_object();
    object.find("source")->as_array()[1].as_object().set("provenance", std::move(provenance));
    const auto config = data_config(object, folder_);
    return config ? "" : config.error().message;
  };
  EXPECT_THAT(message({{"kind", "stolen"}}), HasSubstr("source[1].provenance.kind"));
  EXPECT_THAT(message({{"first_used", "soon"}}), HasSubstr("first_used must be a date"));
  EXPECT_THAT(message({{"publisher", ""}}), HasSubstr("publisher is empty"));
  EXPECT_THAT(message({{"filters", json::Object{{"illegal", 3}}}}), HasSubstr("filters.sampled is missing"));
  EXPECT_THAT(message({{"filters", json::Object{{"sampled", 3}, {"illegal", 4}}}}), HasSubstr("is less than"));
  EXPECT_THAT(message({{"crawler", json::Object{{"nmae", "x"}}}}), HasSubstr("nmae"));
}

TEST_F(BuildTest, AChangedConfigurationIsNoticed) {
  const auto config = *data_config(config_object(), folder_);
  ASSERT_TRUE(build_data(config, {}));
  EXPECT_TRUE(check_ledger_config(config));
  EXPECT_TRUE(check_ledger_config(*data_config(config_object("corpus = 'elsewhere'\n"), folder_)));
  const auto changed = check_ledger_config(*data_config(config_object("dedup = 'none'\n"), folder_));
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().kind, ErrorKind::kUsage);
}

TEST_F(BuildTest, ShardsOfAnotherTokenizerAreRefused) {
  ASSERT_TRUE(build_data(*data_config(config_object(), folder_), {}));
  make_shard(folder_ / "out" / "second.train.shard", std::vector<int>(50, 3));
  const auto dataset = open_dataset(folder_ / "out");
  ASSERT_FALSE(dataset);
  EXPECT_THAT(dataset.error().message, HasSubstr("another tokenizer"));
}

TEST_F(BuildTest, AMissingCorpusIsNoticedBeforeAnyWork) {
  fs::remove(folder_ / "chat.jsonl");
  const auto ledger = build_data(*data_config(config_object(), folder_), {});
  ASSERT_FALSE(ledger);
  EXPECT_THAT(ledger.error().message, HasSubstr("chat.jsonl: no such file (source chat)"));
  EXPECT_FALSE(fs::exists(folder_ / "tok"));
}

TEST_F(BuildTest, ConfigurationErrorsNameTheKey) {
  const auto error_of = [&](std::string_view more) {
    auto object = config_object();
    EXPECT_TRUE(apply_override(object, more));
    const auto config = data_config(object, folder_);
    return config ? std::string("accepted") : config.error().message;
  };
  EXPECT_EQ(error_of("outputs=x"), "unknown key outputs");
  EXPECT_THAT(error_of("dedup=maybe"), HasSubstr("dedup must be one of: none, within, across"));
  EXPECT_THAT(error_of("tokenizer.vocab=many"), HasSubstr("tokenizer.vocab must be a whole number"));
}

// ---- chat ------------------------------------------------------------------------------------------------------------

TEST_F(BuildTest, OnlyWhatTheAssistantSaysCounts) {
  ASSERT_TRUE(build_data(*data_config(config_object(), folder_), {}));
  const auto tokenizer = *tokenizer::Tokenizer::create(*tokenizer::load_tokenizer_folder(folder_ / "tok"));
  const auto dataset = *open_dataset(folder_ / "out");
  const TokenShard& shard = dataset.train[2].shard;
  ASSERT_TRUE(shard.has_mask());
  std::vector<TokenId> all, kept;
  for (std::uint64_t at = 0; at < shard.tokens(); ++at) {
    all.push_back(shard.token(at));
    if (shard.kept(at)) kept.push_back(shard.token(at));
  }
  EXPECT_EQ(tokenizer.decode(all, false),
            "<|im_start|>user\nmoon<|im_end|>\n<|im_start|>assistant\nriver<|im_end|>\n");
  EXPECT_EQ(tokenizer.decode(kept, false), "river<|im_end|>\n");
  EXPECT_EQ(shard.document_bytes(0), 6u);  // "river" and the newline
}

TEST_F(BuildTest, TemplatesWithMarksInsideTheTurnAreExtendedOverItsEnd) {
  ASSERT_TRUE(build_data(*data_config(config_object(), folder_), {}));
  const auto tokenizer = *tokenizer::Tokenizer::create(*tokenizer::load_tokenizer_folder(folder_ / "tok"));
  const std::string text = "<|im_start|>assistant\nold friend<|im_end|>\n<|im_start|>user\nx<|im_end|>\n";
  const auto begin = text.find("old"), end = text.find("<|im_end|>");
  const auto tokens = tokenize_rendered({text, {{begin, end}}}, tokenizer);
  std::vector<TokenId> kept;
  for (std::size_t i = 0; i < tokens.ids.size(); ++i)
    if (tokens.kept[i] != 0) kept.push_back(tokens.ids[i]);
  EXPECT_EQ(tokenizer.decode(kept, false), "old friend<|im_end|>\n");
  EXPECT_EQ(tokenizer.decode(tokens.ids, false), text);
}

TEST(ChatMl, TheTemplateMarksTheReplyAndItsEnd) {
  const auto chat_template = chat::Template::parse(kChatMlTemplate);
  ASSERT_TRUE(chat_template) << chat_template.error().message;
  const auto variables = json::parse(
      R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":" u\n"},{"role":"assistant","content":"a"}],"add_generation_prompt":true})");
  const auto rendered = chat_template->render(variables->as_object());
  ASSERT_TRUE(rendered) << rendered.error().message;
  EXPECT_EQ(rendered->text,
            "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\n u\n<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
            "<|im_start|>assistant\n");
  ASSERT_EQ(rendered->generation.size(), 1u);
  EXPECT_EQ(rendered->text.substr(rendered->generation[0].begin, rendered->generation[0].end - rendered->generation[0].begin),
            "a<|im_end|>");
}

}  // namespace
}  // namespace qw::data
