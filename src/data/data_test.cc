#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lzma.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/file.h"
#include "base/rng.h"
#include "data/build.h"
#include "data/byte_reader.h"
#include "data/chat_tokens.h"
#include "data/config_table.h"
#include "data/document_reader.h"
#include "data/packing.h"
#include "data/poem_chat.h"
#include "data/token_shard.h"

namespace qw::data {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class DataTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "qw_data_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path write(const std::string& name, std::string_view text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  fs::path write_xz(const std::string& name, const std::string& text) {
    std::vector<std::uint8_t> out(text.size() + 4096);
    std::size_t size = 0;
    EXPECT_EQ(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const std::uint8_t*>(text.data()),
                                      text.size(), out.data(), &size, out.size()),
              LZMA_OK);
    return write(name, {reinterpret_cast<const char*>(out.data()), size});
  }
  fs::path folder_;
};

Result<std::string> read_all(const fs::path& path) {
  QW_ASSIGN(auto reader, ByteReader::open(path));
  std::string text;
  char block[1000];
  for (;;) {
    QW_ASSIGN(const std::size_t n, reader.read(block));
    if (n == 0) return text;
    text.append(block, n);
  }
}

Result<std::vector<Document>> documents(const fs::path& path, const ReaderOptions& options, ReaderCounts* counts = nullptr) {
  QW_ASSIGN(auto reader, DocumentReader::open(path, options));
  std::vector<Document> out;
  for (;;) {
    Document document;
    QW_ASSIGN(const bool more, reader.next(document));
    if (!more) break;
    out.push_back(std::move(document));
  }
  if (counts != nullptr) *counts = reader.counts();
  return out;
}

std::vector<std::string> texts(const std::vector<Document>& documents) {
  std::vector<std::string> out;
  for (const auto& d : documents) out.push_back(d.text);
  return out;
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

TEST_F(DataTest, PlainAndPackedFilesReadTheSame) {
  std::string text;
  for (int i = 0; i < 50000; ++i) text += std::to_string(i * 7919) + "\n";
  const auto plain = read_all(write("a.txt", text)), packed = read_all(write_xz("b.dat", text));
  ASSERT_TRUE(plain && packed);
  EXPECT_EQ(*plain, text);
  EXPECT_EQ(*packed, text);
}

TEST_F(DataTest, DamagedXzIsAnErrorAtEveryCut) {
  const auto path = write_xz("a.xz", std::string(20000, 'x') + "end");
  const auto whole = *base::read_file(path);
  for (std::size_t n = 6; n < whole.size(); n += 3) {
    const auto result = read_all(write("cut.xz", whole.substr(0, n)));
    ASSERT_FALSE(result) << n;
    EXPECT_THAT(result.error().message, HasSubstr("cut.xz: "));
    EXPECT_EQ(result.error().kind, ErrorKind::kBadInput);
  }
  auto flipped = whole;
  flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 0x40);
  EXPECT_FALSE(read_all(write("flip.xz", flipped)));
}

TEST_F(DataTest, AbsentFileIsAnError) {
  EXPECT_FALSE(ByteReader::open(folder_ / "nothing"));
  EXPECT_FALSE(ByteReader::open(folder_));
}

// ---- documents --------------------------------------------------------------------------------------------------------

TEST_F(DataTest, BlankLinesEndDocuments) {
  const auto path = write("a.txt", "\xEF\xBB\xBF\r\none\r\ntwo\r\n\r\n \t\n\nthree\rfour\n\n\n");
  const auto found = documents(path, {});
  ASSERT_TRUE(found);
  EXPECT_THAT(texts(*found), ElementsAre("one\ntwo", "three\nfour"));
  EXPECT_EQ((*found)[0].line, 2u);
  EXPECT_EQ((*found)[1].line, 7u);
}

TEST_F(DataTest, LinesAndWholeFiles) {
  const auto path = write("a.txt", "ann\n\nbob\ncid");
  ReaderOptions options;
  options.separator = Separator::kLine;
  EXPECT_THAT(texts(*documents(path, options)), ElementsAre("ann", "bob", "cid"));
  options.separator = Separator::kFile;
  EXPECT_THAT(texts(*documents(path, options)), ElementsAre("ann\n\nbob\ncid"));
}

TEST_F(DataTest, LongDocumentsAreCutAtLinesElseAtCharacters) {
  ReaderOptions options;
  options.separator = Separator::kFile;
  options.max_document_bytes = 16;
  EXPECT_THAT(texts(*documents(write("a.txt", "0123456\n89\nabcdefgh\nx"), options)),
              ElementsAre("0123456\n89", "abcdefgh\nx"));
  const std::string han = "床前明月光疑是地上霜";  // 30 bytes without a line end
  const auto cut = texts(*documents(write("b.txt", han), options));
  std::string joined;
  for (const auto& part : cut) {
    EXPECT_LE(part.size(), 16u);
    EXPECT_TRUE(is_valid_utf8(part));
    joined += part;
  }
  EXPECT_EQ(joined, han);
}

TEST_F(DataTest, InvalidUtf8IsReplacedDroppedOrRefused) {
  const auto path = write("a.txt", "good\n\nb\xFF" "ad\xE5\xBA\n\nend\n");
  ReaderOptions options;
  ReaderCounts counts;
  EXPECT_THAT(texts(*documents(path, options, &counts)), ElementsAre("good", "b\xEF\xBF\xBD" "ad\xEF\xBF\xBD", "end"));
  EXPECT_EQ(counts.invalid_utf8, 2u);
  options.invalid_utf8 = InvalidUtf8::kDrop;
  EXPECT_THAT(texts(*documents(path, options, &counts)), ElementsAre("good", "end"));
  EXPECT_EQ(counts.invalid_utf8, 1u);
  options.invalid_utf8 = InvalidUtf8::kRefuse;
  const auto refused = documents(path, options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("a.txt:3: invalid UTF-8"));
}

TEST_F(DataTest, ReplacementFollowsTheMaximalSubpartRule) {
  // Python: b'...'.decode('utf-8', errors='replace') gives these counts of U+FFFD.
  const std::pair<std::string, std::uint64_t> cases[] = {
      {"\xF0\x9F\x98", 1}, {"\xED\xA0\x80", 3}, {"\xC0\xAF", 2}, {"\xE0\x80\xBF", 3}, {"\xF4\x90\x80\x80", 4}, {"\xF1\x80\x80" "A", 1}};
  for (auto [text, expected] : cases) EXPECT_EQ(replace_invalid_utf8(text), expected);
}

TEST_F(DataTest, JsonLinesGiveTextOrNameTheLine) {
  ReaderOptions options;
  options.format = SourceFormat::kJsonl;
  const auto good = documents(write("a.jsonl", "{\"text\":\"a\\r\\nb\"}\n\n{\"x\":1,\"text\":\"\\u5e8a\"}\n{\"text\":\"\"}\n"), options);
  ASSERT_TRUE(good);
  EXPECT_THAT(texts(*good), ElementsAre("a\nb", "床"));
  EXPECT_EQ((*good)[1].line, 3u);
  for (const char* bad : {"{\"text\":1}", "[]", "{\"text\":", "{}", "nonsense"}) {
    const auto result = documents(write("b.jsonl", "{\"text\":\"ok\"}\n" + std::string(bad) + "\n"), options);
    ASSERT_FALSE(result) << bad;
    EXPECT_THAT(result.error().message, HasSubstr("b.jsonl:2: "));
  }
}

TEST_F(DataTest, ChatLinesKeepMessagesAndTools) {
  ReaderOptions options;
  options.format = SourceFormat::kChat;
  const auto good = documents(
      write("a.jsonl", R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"}],"tools":[{"a":1}]})"),
      options);
  ASSERT_TRUE(good);
  const auto& chat = (*good)[0].chat;
  EXPECT_EQ(chat.find("messages")->as_array()[1].find("content")->as_string(), "yo");
  EXPECT_NE(chat.find("tools"), nullptr);
  for (const char* bad : {R"({"messages":[]})", R"({"messages":[{"content":"x"}]})", R"({"messages":[{"role":"user"}]})", R"({"messages":3})"})
    EXPECT_FALSE(documents(write("b.jsonl", bad), options)) << bad;
}

TEST_F(DataTest, TraditionalBecomesSimplified) {
  auto simplifier = HanSimplifier::create();
  if (!simplifier) GTEST_SKIP() << simplifier.error().message;
  EXPECT_EQ(simplifier->convert("秦川雄帝宅，函谷壯皇居。abc"), "秦川雄帝宅，函谷壮皇居。abc");
}

// ---- configuration ---------------------------------------------------------------------------------------------------

TEST(ConfigTable, UnknownKeysAreNamed) {
  const auto object = *parse_toml("a = 1\n[t]\nx = 2.5\ntypo = 3\n", "c.toml");
  ConfigTable top(object, "");
  std::int64_t a = 0;
  double x = 0;
  ASSERT_TRUE(top.read("a", a, 0, 5));
  auto t = *top.table("t");
  ASSERT_TRUE(t.read("x", x, 0, 3));
  EXPECT_EQ(a, 1);
  EXPECT_EQ(x, 2.5);
  EXPECT_TRUE(top.finish());
  ASSERT_FALSE(t.finish());
  EXPECT_EQ(t.finish().error().message, "unknown key t.typo");
  EXPECT_FALSE(top.read("a", a, 2, 5));
}

TEST(ConfigTable, SyntaxErrorsNameTheLine) {
  const auto bad = parse_toml("a = 1\nb = = 2\n", "c.toml");
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().message, HasSubstr("c.toml:2: "));
}

TEST(ConfigTable, OverridesReachIntoTables) {
  auto object = *parse_toml("a = 1\n[t]\nx = 2\n", "c.toml");
  ASSERT_TRUE(apply_override(object, "a=7"));
  ASSERT_TRUE(apply_override(object, "t.x=true"));
  ASSERT_TRUE(apply_override(object, "t.new.deep=some/path"));
  EXPECT_EQ(object.find("a")->as_int(), 7);
  EXPECT_TRUE(object.find("t")->find("x")->as_bool());
  EXPECT_EQ(object.find("t")->find("new")->find("deep")->as_string(), "some/path");
  EXPECT_FALSE(apply_override(object, "novalue"));
  EXPECT_FALSE(apply_override(object, "a.b=1"));
  EXPECT_FALSE(apply_override(object, "t..b=1"));
}

// ---- shards and packing ----------------------------------------------------------------------------------------------

const std::string kHash(64, 'a');

// A shard of documents with lengths as given; ids count up so that every token is its own name.
fs::path make_shard(const fs::path& path, const std::vector<int>& lengths, std::int64_t vocab = 60000, bool masked = false) {
  auto writer = *ShardWriter::create(path, vocab, kHash, masked);
  TokenId next = 0;
  for (const int n : lengths) {
    std::vector<TokenId> ids;
    std::vector<std::uint8_t> kept;
    for (int i = 0; i < n; ++i) {
      kept.push_back(static_cast<std::uint8_t>(next % 3 == 0));
      ids.push_back(next++);
    }
    EXPECT_TRUE(writer.add(ids, static_cast<std::uint32_t>(10 * n), masked ? std::span<const std::uint8_t>(kept) : std::span<const std::uint8_t>()));
  }
  EXPECT_TRUE(writer.finish(0, {}));
  return path;
}

TEST_F(DataTest, ShardsRoundTripAndSplitTheirTail) {
  for (const std::int64_t vocab : {60000, 100000}) {
    auto writer = *ShardWriter::create(folder_ / "t.shard", vocab, kHash, true);
    base::Rng rng(1);
    std::vector<std::vector<TokenId>> ids(7);
    std::vector<std::vector<std::uint8_t>> kept(7);
    for (std::size_t d = 0; d < ids.size(); ++d) {
      for (std::uint64_t i = rng.below(40); i > 0; --i) {
        ids[d].push_back(static_cast<TokenId>(rng.below(static_cast<std::uint64_t>(vocab))));
        kept[d].push_back(static_cast<std::uint8_t>(rng.below(2)));
      }
      ASSERT_TRUE(writer.add(ids[d], static_cast<std::uint32_t>(d), kept[d]));
    }
    ASSERT_TRUE(writer.finish(2, folder_ / "h.shard"));
    const auto train = TokenShard::open(folder_ / "t.shard"), tail = TokenShard::open(folder_ / "h.shard");
    ASSERT_TRUE(train && tail);
    EXPECT_EQ(train->documents(), 5u);
    EXPECT_EQ(tail->documents(), 2u);
    EXPECT_EQ(train->text_bytes(), 0u + 1 + 2 + 3 + 4);
    EXPECT_EQ(tail->text_bytes(), 11u);
    EXPECT_EQ(train->tokenizer_hash(), kHash);
    for (std::size_t d = 0; d < ids.size(); ++d) {
      const TokenShard& shard = d < 5 ? *train : *tail;
      const std::size_t local = d < 5 ? d : d - 5;
      ASSERT_EQ(shard.end(local) - shard.begin(local), ids[d].size());
      for (std::size_t i = 0; i < ids[d].size(); ++i) {
        EXPECT_EQ(shard.token(shard.begin(local) + i), ids[d][i]);
        EXPECT_EQ(shard.kept(shard.begin(local) + i), kept[d][i] != 0);
      }
    }
  }
  EXPECT_FALSE(fs::exists(folder_ / "t.shard.tokens.tmp"));
}

TEST_F(DataTest, DamagedShardsAreRefused) {
  const auto path = make_shard(folder_ / "a.shard", {5, 9, 3});
  const auto whole = *base::read_file(path);
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_FALSE(TokenShard::open(write("cut.shard", whole.substr(0, n)))) << n;
  // Any change in the counts, the layout or the document table is noticed.
  for (std::size_t at = 0; at < 40; ++at) {
    auto changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x11);
    EXPECT_FALSE(TokenShard::open(write("changed.shard", changed))) << at;
  }
}

TEST_F(DataTest, PiecesCoverEveryTransitionOnce) {
  const auto shard = *TokenShard::open(make_shard(folder_ / "a.shard", {1, 2, 8, 9, 10, 30, 0}));
  std::vector<Piece> pieces;
  for (std::uint64_t d = 0; d < shard.documents(); ++d) cut_document(shard, 0, d, 8, pieces);
  PackedBatch batch;
  for (const auto& piece : pieces) {
    EXPECT_LE(piece.length, 8u);
    append_piece(shard, piece, batch);
  }
  std::set<std::int32_t> labels;
  for (std::size_t r = 0; r < batch.tokens.size(); ++r) {
    EXPECT_EQ(batch.labels[r], batch.tokens[r] + 1);  // ids count up, so the label is the next token of the document
    labels.insert(batch.labels[r]);
  }
  EXPECT_EQ(labels.size(), batch.labels.size());
  EXPECT_EQ(batch.labels.size(), 60u - 6u);  // every token but the first of each document
  EXPECT_EQ(batch.kept, 54);
  EXPECT_EQ(batch.cu_seqlens.back(), static_cast<std::int32_t>(batch.tokens.size()));
  for (std::size_t i = 0; i + 1 < batch.cu_seqlens.size(); ++i) EXPECT_EQ(batch.positions[static_cast<std::size_t>(batch.cu_seqlens[i])], 0);
}

TEST_F(DataTest, MaskedTokensDoNotCountAndEmptyPiecesVanish) {
  const auto shard = *TokenShard::open(make_shard(folder_ / "a.shard", {2, 3, 3}, 60000, true));  // kept: 0, 3, 6
  std::vector<Piece> pieces;
  for (std::uint64_t d = 0; d < 3; ++d) cut_document(shard, 0, d, 8, pieces);
  ASSERT_EQ(pieces.size(), 2u);  // document 0 has only label 1, which does not count
  PackedBatch batch;
  for (const auto& piece : pieces) append_piece(shard, piece, batch);
  EXPECT_THAT(batch.labels, ElementsAre(3, -1, 6, -1));
  EXPECT_EQ(batch.kept, 2);
}

TEST(BestFit, FillsRowsAndLosesNothing) {
  base::Rng rng(3);
  std::vector<Piece> pieces;
  std::int64_t rows = 0;
  for (int i = 0; i < 5000; ++i) {
    pieces.push_back({0, static_cast<std::uint32_t>(1 + rng.below(200)), static_cast<std::uint64_t>(i)});
    rows += pieces.back().length;
  }
  const auto bins = best_fit(pieces, 256);
  std::set<std::uint32_t> seen;
  for (const auto& bin : bins) {
    std::int64_t sum = 0;
    for (const auto i : bin) {
      sum += pieces[i].length;
      EXPECT_TRUE(seen.insert(i).second);
    }
    EXPECT_LE(sum, 256);
  }
  EXPECT_EQ(seen.size(), pieces.size());
  EXPECT_GT(static_cast<double>(rows) / (256.0 * static_cast<double>(bins.size())), 0.99);
}

TEST(BestFit, PutsAPieceWhereItLeavesLeast) {
  const std::vector<Piece> pieces = {{0, 6, 0}, {0, 7, 0}, {0, 3, 0}, {0, 4, 0}};
  // 7 and 6 open rows of 10; 4 fits only beside 6 (exactly), 3 beside 7 (exactly).
  EXPECT_THAT(best_fit(pieces, 10), ElementsAre(ElementsAre(1, 2), ElementsAre(0, 3)));
}

std::vector<DatasetSource> sources_of(const fs::path& path, double weight) {
  std::vector<DatasetSource> sources;
  sources.push_back({"a", *TokenShard::open(path), weight});
  return sources;
}

TEST_F(DataTest, EpochsAreShuffledDeterministicAndComplete) {
  std::vector<int> lengths;
  base::Rng rng(5);
  for (int i = 0; i < 500; ++i) lengths.push_back(static_cast<int>(2 + rng.below(60)));
  const auto sources = sources_of(make_shard(folder_ / "a.shard", lengths), 1);
  const auto labels = [&](std::uint64_t seed, std::uint64_t number) {
    const Epoch epoch(sources, 32, seed, number);
    PackedBatch batch;
    for (std::int64_t i = 0; i < epoch.sequences(); ++i)
      for (const auto& piece : epoch.sequence(i)) append_piece(sources[0].shard, piece, batch);
    return batch.labels;
  };
  const auto first = labels(1, 0), again = labels(1, 0), second = labels(1, 1), other = labels(2, 0);
  EXPECT_EQ(first, again);
  EXPECT_NE(first, second);
  EXPECT_NE(first, other);
  EXPECT_EQ(std::multiset<int>(first.begin(), first.end()), std::multiset<int>(second.begin(), second.end()));
}

TEST_F(DataTest, WeightsRepeatDocuments) {
  const auto path = make_shard(folder_ / "a.shard", std::vector<int>(1000, 11));
  EXPECT_EQ(Epoch(sources_of(path, 3), 64, 1, 0).rows(), 30000);
  EXPECT_EQ(Epoch(sources_of(path, 0), 64, 1, 0).rows(), 0);
  const auto rows = static_cast<double>(Epoch(sources_of(path, 0.25), 64, 1, 0).rows());
  EXPECT_NEAR(rows, 2500, 5 * std::sqrt(1000 * 0.25 * 0.75) * 10);  // five standard deviations of the draw
}

TEST_F(DataTest, ACursorResumesTheStreamAnywhere) {
  const auto sources = sources_of(make_shard(folder_ / "a.shard", std::vector<int>(40, 9)), 1);
  auto whole = *BatchStream::create(sources, 16, 7, {});
  std::vector<std::vector<std::int32_t>> seen;
  std::vector<Cursor> cursors;
  PackedBatch batch;
  for (int i = 0; i < 30; ++i) {  // 20 sequences an epoch, 3 a batch: crosses epochs inside a batch
    cursors.push_back(whole.cursor());
    whole.next(3, batch);
    seen.push_back(batch.tokens);
  }
  for (std::size_t i = 0; i < seen.size(); ++i) {
    auto resumed = *BatchStream::create(sources, 16, 7, cursors[i]);
    resumed.next(3, batch);
    EXPECT_EQ(batch.tokens, seen[i]) << i;
  }
  EXPECT_FALSE(BatchStream::create(sources, 16, 7, {0, 10000}));
  const auto nothing = sources_of(folder_ / "a.shard", 0);
  EXPECT_FALSE(BatchStream::create(nothing, 16, 7, {}));
}

// ---- building --------------------------------------------------------------------------------------------------------

std::string sentence(base::Rng& rng) {
  static const char* kWords[] = {"moon", "river", "crane", "autumn", "山", "水", "月", "风", "old", "friend"};
  std::string text;
  for (int i = 0; i < 12; ++i) text += std::string(kWords[rng.below(10)]) + (i % 4 == 3 ? "\n" : " ");
  return text;
}

class BuildTest : public DataTest {
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
    return *parse_toml("output = '" + (folder_ / "out").string() + "'\n" + more + R"(
[tokenizer]
folder = ')" + (folder_ / "tok").string() + R"('
vocab = 280
added = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
[[source]]
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
)", "config");
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

TEST(PoemChat, ReadsPoemsAndLeavesOutWhatIsNone) {
  const auto poem = parse_poem("《静夜思》李白\n床前明月光，疑是地上霜。\n举头望明月，低头思故乡。");
  ASSERT_TRUE(poem);
  EXPECT_EQ(poem->title, "静夜思");
  EXPECT_EQ(poem->author, "李白");
  EXPECT_THAT(poem->lines, ElementsAre("床前明月光，疑是地上霜。", "举头望明月，低头思故乡。"));
  for (const char* bad : {"", "《》x\na\nb", "静夜思\na\nb", "《a》b", "《a》b\none line", "《a》b\nx□y\nz", "《a"})
    EXPECT_FALSE(parse_poem(bad)) << bad;
}

TEST(PoemChat, AnswersAreVerseOfThePoemAndNeverNameAnAuthor) {
  const auto poem = *parse_poem("《静夜思》李白\n床前明月光，疑是地上霜。\n举头望明月，低头思故乡。");
  std::set<std::string> requests;
  for (std::uint64_t i = 0; i < 300; ++i) {
    base::Rng rng(1, i);
    const auto chat = poem_conversation(poem, rng, nullptr);
    const auto& messages = chat.find("messages")->as_array();
    ASSERT_EQ(messages.size(), 2u);
    EXPECT_EQ(messages[0].find("role")->as_string(), "user");
    const std::string& answer = messages[1].find("content")->as_string();
    EXPECT_EQ(answer.find("李白"), std::string::npos);
    EXPECT_TRUE(answer.find("低头思故乡") != std::string::npos || answer.find("疑是地上霜") != std::string::npos) << answer;
    EXPECT_EQ(messages[0].find("content")->as_string().find('@'), std::string::npos);
    requests.insert(messages[0].find("content")->as_string());
  }
  EXPECT_GT(requests.size(), 15u);
}

TEST(ChatMl, TrainingTemplateRendersTheSameText) {
  const auto served = chat::Template::parse(kChatMlTemplate), training = chat::Template::parse(kChatMlTrainingTemplate);
  ASSERT_TRUE(served) << served.error().message;
  ASSERT_TRUE(training) << training.error().message;
  const auto variables = json::parse(
      R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":" u\n"},{"role":"assistant","content":"a"}],"add_generation_prompt":true})");
  const auto a = served->render(variables->as_object()), b = training->render(variables->as_object());
  ASSERT_TRUE(a && b);
  EXPECT_EQ(a->text, b->text);
  EXPECT_TRUE(a->generation.empty());
  ASSERT_EQ(b->generation.size(), 1u);
  EXPECT_EQ(b->text.substr(b->generation[0].begin, b->generation[0].end - b->generation[0].begin), "a<|im_end|>\n");
}

}  // namespace
}  // namespace qw::data
