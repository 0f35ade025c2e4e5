#include "data/examples.h"

#include <algorithm>
#include <numeric>

#include "data/internal/draws.h"

namespace qw::data {
namespace {

// The first token of a document that counts; its end if none does. The first token of all is never predicted.
std::uint64_t answer_of(const TokenShard& shard, std::uint64_t document) {
  std::uint64_t at = shard.begin(document) + 1;
  while (at < shard.end(document) && !shard.kept(at)) ++at;
  return std::min(at, shard.end(document));
}

}  // namespace

std::int64_t ExampleStream::rows_of(const TokenShard& shard, std::uint64_t document) const {
  const auto tokens = static_cast<std::int64_t>(shard.end(document) - shard.begin(document));
  if (reading_ == Reading::kPrompts) return static_cast<std::int64_t>(answer_of(shard, document) - shard.begin(document));
  return reading_ == Reading::kWhole ? tokens : std::max<std::int64_t>(0, tokens - 1);
}

Result<ExampleStream> ExampleStream::create(const std::vector<DatasetSource>& sources, Holds holds, Reading reading,
                                            std::int64_t sequence_length, std::uint64_t seed, Cursor cursor) {
  ExampleStream out(sources, holds, reading, sequence_length, seed);
  const std::string what = holds_name(holds);
  for (std::uint32_t s = 0; s < sources.size(); ++s) {
    if (sources[s].holds != holds)
      return fail(ErrorKind::kBadInput,
                  sources[s].name + ": holds " + holds_name(sources[s].holds) + ", and " + what + " are asked for");
    QW_TRY(out.collect(s));
  }
  if (out.examples_.empty())
    return fail(ErrorKind::kBadInput,
                "there are no " + what + " of at most " + std::to_string(sequence_length) + " rows");
  if (holds == Holds::kRatings && reading == Reading::kAnswers) out.choose_others();
  out.cursor_ = cursor;
  out.begin_epoch();
  if (cursor.sequence < 0 || cursor.sequence > out.examples_in_epoch())
    return fail(ErrorKind::kUsage, "the data position of the checkpoint lies outside the data");
  return out;
}

std::uint64_t ExampleStream::documents_at(const TokenShard& shard, std::uint64_t first) const {
  std::uint64_t n = 1;
  if (holds_ == Holds::kPairs) n = 2;
  if (holds_ == Holds::kRetrieval) {
    const float said = shard.value(first);
    if (!(said >= 2 && said <= static_cast<float>(shard.documents() - first))) return 0;
    n = static_cast<std::uint64_t>(said);
  }
  return first + n <= shard.documents() ? n : 0;
}

Status ExampleStream::collect(std::uint32_t source) {
  const TokenShard& shard = (*sources_)[source].shard;
  std::uint64_t n = 0;
  for (std::uint64_t first = 0; first < shard.documents(); first += n) {
    n = documents_at(shard, first);
    if (n == 0)
      return fail(ErrorKind::kBadInput, (*sources_)[source].name + ": its documents are no whole " + holds_name(holds_));
    std::int64_t rows = 0;
    bool counts = true;
    for (std::uint64_t d = first; d < first + n; ++d) {
      rows += rows_of(shard, d);
      counts &= reading_ == Reading::kWhole ? rows_of(shard, d) > 0 : answer_of(shard, d) < shard.end(d);
    }
    if (rows > sequence_length_ || !counts) {
      ++left_out_;
      continue;
    }
    examples_.push_back({source, first});
    rows_ += rows;
  }
  return {};
}

std::int64_t ExampleStream::documents(std::int64_t number) const {
  const Example& example = examples_[static_cast<std::size_t>(number)];
  return static_cast<std::int64_t>(documents_at(shard_of(example), example.document));
}

// In a shuffled row of all examples, each takes the answer of the one before it. (Neighbours in a file often answer one
// and the same prompt.)
void ExampleStream::choose_others() {
  base::Rng draws(seed_, kMismatchStream);
  std::vector<std::int64_t> row(examples_.size());
  std::iota(row.begin(), row.end(), 0);
  shuffle(row, draws);
  others_.resize(row.size());
  for (std::size_t i = 0; i < row.size(); ++i)
    others_[static_cast<std::size_t>(row[i])] = row[i == 0 ? row.size() - 1 : i - 1];
}

void ExampleStream::begin_epoch() {
  base::Rng repeat(seed_, stream_of(kRepeatStream, cursor_.epoch)),
      order(seed_, stream_of(kShuffleStream, cursor_.epoch));
  order_.clear();
  for (std::size_t i = 0; i < examples_.size(); ++i)
    for (auto times = times_seen((*sources_)[examples_[i].source].weight, repeat); times > 0; --times)
      order_.push_back(static_cast<std::int64_t>(i));
  shuffle(order_, order);
}

void ExampleStream::next(std::int64_t examples, PackedBatch& batch, std::vector<std::int64_t>& numbers) {
  batch.clear();
  numbers.clear();
  for (std::int64_t i = 0; i < examples; ++i) {
    // A source with a small fractional weight may leave an epoch empty: go on to one that is not.
    while (cursor_.sequence >= examples_in_epoch()) {
      cursor_ = {cursor_.epoch + 1, 0};
      begin_epoch();
    }
    numbers.push_back(order_[static_cast<std::size_t>(cursor_.sequence++)]);
    append(numbers.back(), batch);
  }
}

void ExampleStream::append(std::int64_t number, PackedBatch& batch) const {
  const Example& example = examples_[static_cast<std::size_t>(number)];
  const TokenShard& shard = shard_of(example);
  for (std::uint64_t d = example.document; d < example.document + documents_at(shard, example.document); ++d) {
    const auto rows = static_cast<std::uint32_t>(rows_of(shard, d));
    if (reading_ == Reading::kAnswers) {
      append_piece(shard, {example.source, rows, shard.begin(d)}, batch);
      continue;
    }
    for (std::uint32_t r = 0; r < rows; ++r) {
      batch.tokens.push_back(shard.token(shard.begin(d) + r));
      batch.positions.push_back(static_cast<std::int32_t>(r));
      batch.labels.push_back(-1);
    }
    batch.cu_seqlens.push_back(static_cast<std::int32_t>(batch.tokens.size()));
  }
}

void ExampleStream::append_mismatched(std::int64_t number, PackedBatch& batch) const {
  const Example& own = examples_[static_cast<std::size_t>(number)];
  const Example& other = examples_[static_cast<std::size_t>(others_[static_cast<std::size_t>(number)])];
  const TokenShard &asks = shard_of(own), &answers = shard_of(other);
  const std::uint64_t begin = asks.begin(own.document), prompt = answer_of(asks, own.document) - begin;
  const std::uint64_t answer = answer_of(answers, other.document);
  // Prompts are encoded apart from answers, so this is what the answer would be behind the other prompt.
  const std::uint64_t whole = prompt + (answers.end(other.document) - answer);
  const auto rows = std::min<std::uint64_t>(whole - 1, static_cast<std::uint64_t>(sequence_length_));
  const auto token = [&](std::uint64_t i) {
    return i < prompt ? asks.token(begin + i) : answers.token(answer + i - prompt);
  };
  for (std::uint64_t r = 0; r < rows; ++r) {
    const bool kept = r + 1 >= prompt && answers.kept(answer + r + 1 - prompt);
    batch.tokens.push_back(token(r));
    batch.positions.push_back(static_cast<std::int32_t>(r));
    batch.labels.push_back(kept ? token(r + 1) : -1);
    batch.kept += kept ? 1 : 0;
  }
  batch.cu_seqlens.push_back(static_cast<std::int32_t>(batch.tokens.size()));
}

std::vector<TokenId> ExampleStream::expected(std::int64_t number) const {
  const Example& example = examples_[static_cast<std::size_t>(number)];
  const TokenShard& shard = shard_of(example);
  std::vector<TokenId> out;
  for (auto at = answer_of(shard, example.document); at < shard.end(example.document); ++at) out.push_back(shard.token(at));
  return out;
}

float ExampleStream::value(std::int64_t number) const {
  const Example& example = examples_[static_cast<std::size_t>(number)];
  return shard_of(example).value(example.document);
}

}  // namespace qw::data
