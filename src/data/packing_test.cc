#include "data/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/file.h"
#include "base/rng.h"
#include "data/examples.h"
#include "data/internal/test_files.h"

namespace qw::data {
namespace {

namespace fs = std::filesystem;
using test::kHash;
using test::make_shard;
using testing::ElementsAre;

class ShardTest : public test::DataTest {};

TEST_F(ShardTest, ShardsRoundTripAndSplitTheirTail) {
  for (const std::int64_t vocab : {60000, 100000}) {
    auto writer = *ShardWriter::create(folder_ / "t.shard", vocab, kHash, true, vocab == 100000);
    base::Rng rng(1);
    std::vector<std::vector<TokenId>> ids(7);
    std::vector<std::vector<std::uint8_t>> kept(7);
    for (std::size_t d = 0; d < ids.size(); ++d) {
      for (std::uint64_t i = rng.below(40); i > 0; --i) {
        ids[d].push_back(static_cast<TokenId>(rng.below(static_cast<std::uint64_t>(vocab))));
        kept[d].push_back(static_cast<std::uint8_t>(rng.below(2)));
      }
      ASSERT_TRUE(writer.add(ids[d], static_cast<std::uint32_t>(d), kept[d], vocab == 100000 ? 0.5f + static_cast<float>(d) : 0));
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
      ASSERT_EQ(shard.has_values(), vocab == 100000);
      if (shard.has_values()) {
        EXPECT_EQ(shard.value(local), 0.5f + static_cast<float>(d));
      }
      for (std::size_t i = 0; i < ids[d].size(); ++i) {
        EXPECT_EQ(shard.token(shard.begin(local) + i), ids[d][i]);
        EXPECT_EQ(shard.kept(shard.begin(local) + i), kept[d][i] != 0);
      }
    }
  }
  EXPECT_FALSE(fs::exists(folder_ / "t.shard.tokens.tmp"));
}

TEST_F(ShardTest, DamagedShardsAreRefused) {
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

TEST_F(ShardTest, AValueThatIsNoNumberIsRefused) {
  auto writer = *ShardWriter::create(folder_ / "v.shard", 60000, kHash, false, true);
  const std::vector<TokenId> ids{1, 2, 3};
  ASSERT_TRUE(writer.add(ids, 3, {}, 1.0f));
  ASSERT_TRUE(writer.finish(0, {}));
  auto bytes = *base::read_file(folder_ / "v.shard");
  ASSERT_TRUE(TokenShard::open(folder_ / "v.shard"));
  bytes.replace(bytes.size() - 4, 4, std::string("\x00\x00\xc0\x7f", 4));
  const auto shard = TokenShard::open(write("nan.shard", bytes));
  ASSERT_FALSE(shard);
  EXPECT_THAT(shard.error().message, testing::HasSubstr("not a number"));
}

TEST_F(ShardTest, PiecesCoverEveryTransitionOnce) {
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

TEST_F(ShardTest, MaskedTokensDoNotCountAndEmptyPiecesVanish) {
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

TEST_F(ShardTest, EpochsAreShuffledDeterministicAndComplete) {
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

TEST_F(ShardTest, WeightsRepeatDocuments) {
  const auto path = make_shard(folder_ / "a.shard", std::vector<int>(1000, 11));
  EXPECT_EQ(Epoch(sources_of(path, 3), 64, 1, 0).rows(), 30000);
  EXPECT_EQ(Epoch(sources_of(path, 0), 64, 1, 0).rows(), 0);
  const auto rows = static_cast<double>(Epoch(sources_of(path, 0.25), 64, 1, 0).rows());
  EXPECT_NEAR(rows, 2500, 5 * std::sqrt(1000 * 0.25 * 0.75) * 10);  // five standard deviations of the draw
}

TEST_F(ShardTest, ACursorResumesTheStreamAnywhere) {
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

// Example i: prompt 100i + {0..i}, answer 100i + {50, 51, 52}, liked if i is even.
std::vector<DatasetSource> ratings(const fs::path& path, int examples) {
  auto writer = *ShardWriter::create(path, 60000, kHash, true, true);
  for (TokenId i = 0; i < examples; ++i) {
    std::vector<TokenId> ids;
    for (TokenId t = 0; t <= i; ++t) ids.push_back(100 * i + t);
    std::vector<std::uint8_t> kept(ids.size());
    for (TokenId t = 50; t < 53; ++t) ids.push_back(100 * i + t);
    kept.resize(ids.size(), 1);
    EXPECT_TRUE(writer.add(ids, 1, kept, i % 2 == 0 ? 1.0f : 0.0f));
  }
  EXPECT_TRUE(writer.finish(0, {}));
  std::vector<DatasetSource> sources;
  sources.push_back({"rated", *TokenShard::open(path), 1, Holds::kRatings});
  return sources;
}

TEST_F(ShardTest, RatedAnswersStandBehindTheirOwnPromptAndBehindAForeignOne) {
  const auto sources = ratings(folder_ / "r.shard", 6);
  const auto stream = ExampleStream::create(sources, Holds::kRatings, Reading::kAnswers, 7, 3, {});
  ASSERT_TRUE(stream) << stream.error().message;
  EXPECT_EQ(stream->examples(), 5);  // the last one has a prompt of six tokens and eight rows
  EXPECT_EQ(stream->left_out(), 1);
  std::set<std::int32_t> answers;
  for (std::int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(stream->liked(i), i % 2 == 0);
    PackedBatch own, foreign;
    stream->append(i, own);
    stream->append_mismatched(i, foreign);
    const auto prompt = static_cast<std::size_t>(i) + 1;  // tokens
    const auto first = static_cast<std::int32_t>(100 * i);
    const auto last = static_cast<std::ptrdiff_t>(own.labels.size());
    EXPECT_EQ(std::vector<std::int32_t>(own.labels.begin() + last - 3, own.labels.end()),
              (std::vector<std::int32_t>{first + 50, first + 51, first + 52}));
    ASSERT_EQ(foreign.tokens.size(), prompt + 2);
    EXPECT_EQ(foreign.kept, 3);
    const std::int32_t other = foreign.labels[prompt - 1] - 50;  // 100 times whose answer it is
    EXPECT_NE(other, first);
    answers.insert(other);
    for (std::size_t r = 0; r < foreign.tokens.size(); ++r) {
      const auto row = static_cast<std::int32_t>(r), behind = static_cast<std::int32_t>(r - prompt);
      EXPECT_EQ(foreign.positions[r], row);
      EXPECT_EQ(foreign.tokens[r], r < prompt ? first + row : other + 50 + behind);
      EXPECT_EQ(foreign.labels[r], r + 1 < prompt ? -1 : other + 51 + behind);
    }
  }
  EXPECT_EQ(answers.size(), 5u);
}

TEST_F(ShardTest, AForeignAnswerIsCutToTheLongestRow) {
  const auto sources = ratings(folder_ / "r.shard", 2);
  auto longer = *ShardWriter::create(folder_ / "long.shard", 60000, kHash, true, true);
  const std::vector<TokenId> ids{1, 2, 3, 4, 5, 6, 7, 8};
  ASSERT_TRUE(longer.add(ids, 1, std::vector<std::uint8_t>{0, 1, 1, 1, 1, 1, 1, 1}, 1));
  ASSERT_TRUE(longer.add(ids, 1, std::vector<std::uint8_t>{0, 0, 0, 0, 0, 0, 0, 1}, 1));
  ASSERT_TRUE(longer.finish(0, {}));
  std::vector<DatasetSource> two;
  two.push_back({"long", *TokenShard::open(folder_ / "long.shard"), 1, Holds::kRatings});
  const auto stream = *ExampleStream::create(two, Holds::kRatings, Reading::kAnswers, 7, 3, {});
  PackedBatch batch;
  stream.append_mismatched(1, batch);  // seven tokens of prompt, of the answer of seven one remains as a label
  EXPECT_EQ(batch.tokens.size(), 7u);
  EXPECT_EQ(batch.kept, 1);
  EXPECT_EQ(batch.labels.back(), 2);
  EXPECT_THAT(ExampleStream::create(sources, Holds::kPairs, Reading::kAnswers, 7, 3, {}).error().message,
              testing::HasSubstr("rated: holds ratings, and pairs are asked for"));
  EXPECT_THAT(BatchStream::create(sources, 7, 3, {}).error().message, testing::HasSubstr("with [kto] only"));
}

}  // namespace
}  // namespace qw::data
