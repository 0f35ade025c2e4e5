#include "data/pairs.h"

#include "data/internal/draws.h"

namespace qw::data {
namespace {

bool counts(const TokenShard& shard, std::uint64_t document) {
  for (std::uint64_t at = shard.begin(document) + 1; at < shard.end(document); ++at)
    if (shard.kept(at)) return true;
  return false;
}

std::int64_t rows_of(const TokenShard& shard, std::uint64_t document) {
  return std::max<std::int64_t>(0, static_cast<std::int64_t>(shard.end(document) - shard.begin(document)) - 1);
}

}  // namespace

Result<PairStream> PairStream::create(const std::vector<DatasetSource>& sources, std::int64_t sequence_length,
                                      std::uint64_t seed, Cursor cursor) {
  PairStream out(sources, seed);
  for (std::uint32_t s = 0; s < sources.size(); ++s) {
    const TokenShard& shard = sources[s].shard;
    if (!sources[s].pairs || shard.documents() % 2 != 0)
      return fail(ErrorKind::kBadInput, sources[s].name + ": holds no preference pairs (format = \"preference\")");
    for (std::uint64_t i = 0; i < shard.documents() / 2; ++i) {
      const std::int64_t rows = rows_of(shard, 2 * i) + rows_of(shard, 2 * i + 1);
      if (rows > sequence_length || !counts(shard, 2 * i) || !counts(shard, 2 * i + 1)) {
        ++out.left_out_;
        continue;
      }
      out.pairs_.push_back({s, i});
      out.rows_ += rows;
    }
  }
  if (out.pairs_.empty())
    return fail(ErrorKind::kBadInput,
                "there is no preference pair of at most " + std::to_string(sequence_length) + " rows");
  out.cursor_ = cursor;
  out.begin_epoch();
  if (cursor.sequence < 0 || cursor.sequence > out.pairs_in_epoch())
    return fail(ErrorKind::kUsage, "the data position of the checkpoint lies outside the data");
  return out;
}

void PairStream::begin_epoch() {
  base::Rng repeat(seed_, stream_of(kRepeatStream, cursor_.epoch)),
      order(seed_, stream_of(kShuffleStream, cursor_.epoch));
  order_.clear();
  for (std::size_t i = 0; i < pairs_.size(); ++i)
    for (auto times = times_seen((*sources_)[pairs_[i].source].weight, repeat); times > 0; --times)
      order_.push_back(static_cast<std::int64_t>(i));
  shuffle(order_, order);
}

void PairStream::next(std::int64_t pairs, PackedBatch& batch, std::vector<std::int64_t>& numbers) {
  batch.clear();
  numbers.clear();
  for (std::int64_t i = 0; i < pairs; ++i) {
    // A source with a small fractional weight may leave an epoch empty: go on to one that is not.
    while (cursor_.sequence >= pairs_in_epoch()) {
      cursor_ = {cursor_.epoch + 1, 0};
      begin_epoch();
    }
    numbers.push_back(order_[static_cast<std::size_t>(cursor_.sequence++)]);
    append(numbers.back(), batch);
  }
}

void PairStream::append(std::int64_t number, PackedBatch& batch) const {
  const Pair& pair = pairs_[static_cast<std::size_t>(number)];
  const TokenShard& shard = (*sources_)[pair.source].shard;
  for (std::uint64_t document = 2 * pair.index; document <= 2 * pair.index + 1; ++document)
    append_piece(shard, {pair.source, static_cast<std::uint32_t>(rows_of(shard, document)), shard.begin(document)},
                 batch);
}

}  // namespace qw::data
