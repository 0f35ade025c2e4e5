// Preference pairs out of shards that hold them (format = "preference"): document 2i is the answer that was preferred
// to document 2i + 1, and what counts in each is the answer alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "data/packing.h"

namespace qw::data {

// The pairs of some sources, numbered through, and the order in which they are seen: epoch after epoch for ever, each
// pair as often as its source's weight says, shuffled by (seed, epoch).
class PairStream {
 public:
  // `sources` must stay alive. Pairs that take more than `sequence_length` rows together, or in which an answer has no
  // token that counts, are left out. Errors: kBadInput when none is left or a source holds no pairs; kUsage for a
  // cursor out of range.
  static Result<PairStream> create(const std::vector<DatasetSource>& sources, std::int64_t sequence_length,
                                   std::uint64_t seed, Cursor cursor);
  // Fills `batch` with both answers of the next `pairs` pairs, preferred first, and `numbers` with which pairs these
  // are.
  void next(std::int64_t pairs, PackedBatch& batch, std::vector<std::int64_t>& numbers);
  // Appends the two documents of a pair.
  void append(std::int64_t number, PackedBatch& batch) const;

  std::int64_t pairs() const { return static_cast<std::int64_t>(pairs_.size()); }
  std::int64_t left_out() const { return left_out_; }
  std::int64_t rows() const { return rows_; }  // of all pairs
  std::uint32_t source_of(std::int64_t number) const { return pairs_[static_cast<std::size_t>(number)].source; }
  const Cursor& cursor() const { return cursor_; }
  std::int64_t pairs_in_epoch() const { return static_cast<std::int64_t>(order_.size()); }

 private:
  struct Pair {
    std::uint32_t source = 0;
    std::uint64_t index = 0;
  };
  PairStream(const std::vector<DatasetSource>& sources, std::uint64_t seed) : sources_(&sources), seed_(seed) {}
  void begin_epoch();
  const std::vector<DatasetSource>* sources_;
  std::uint64_t seed_;
  std::vector<Pair> pairs_;
  std::vector<std::int64_t> order_;
  std::int64_t left_out_ = 0, rows_ = 0;
  Cursor cursor_;
};

}  // namespace qw::data
