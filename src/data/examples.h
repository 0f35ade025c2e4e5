// Examples out of shards whose documents are not simply texts: preference pairs (document 2i is the answer that was
// preferred to document 2i + 1), queries with documents to find, rated answers, documents of classes, prompts and questions of
// ranking (one document each).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "data/packing.h"

namespace qw::data {

// kAnswers: what counts is what is said in a document after its prompt; a row is a token and the one to predict.
// kWhole: every token is a row, the last one too, and nothing is predicted: for heads that judge a whole document.
// kPrompts: as kWhole, of the prompt alone: who trains draws the answers.
enum class Reading : std::uint8_t { kAnswers, kWhole, kPrompts };

// The examples of some sources, numbered through, and the order in which they are seen: epoch after epoch for ever,
// each example as often as its source's weight says, shuffled by (seed, epoch).
class ExampleStream {
 public:
  // `sources` must stay alive. Examples that take more than `sequence_length` rows together, or in which an answer
  // that is to be learnt has no token that counts, are left out. Errors: kBadInput when none is left or a source holds something else; kUsage
  // for a cursor out of range.
  static Result<ExampleStream> create(const std::vector<DatasetSource>& sources, Holds holds, Reading reading,
                                      std::int64_t sequence_length, std::uint64_t seed, Cursor cursor);
  // Fills `batch` with all documents of the next examples and `numbers` with which examples these are.
  void next(std::int64_t examples, PackedBatch& batch, std::vector<std::int64_t>& numbers);
  // Appends the documents of an example; of a pair the preferred answer comes first, of retrieval the query and the
  // document that answers it.
  void append(std::int64_t number, PackedBatch& batch) const;
  // kRatings: appends the prompt of an example and behind it the answer of another, cut to the longest that an example
  // may be. Which other one depends on the seed alone, and every answer stands behind one foreign prompt.
  void append_mismatched(std::int64_t number, PackedBatch& batch) const;
  // kPrompts: the tokens behind the prompt, what its answers are judged by.
  std::vector<TokenId> expected(std::int64_t number) const;
  // How many documents append() adds.
  std::int64_t documents(std::int64_t number) const;
  // The value of its first document.
  float value(std::int64_t number) const;
  bool liked(std::int64_t number) const { return value(number) > 0.5f; }  // kRatings, kRankings

  std::int64_t examples() const { return static_cast<std::int64_t>(examples_.size()); }
  std::int64_t left_out() const { return left_out_; }
  std::int64_t rows() const { return rows_; }  // of all examples
  std::uint32_t source_of(std::int64_t number) const { return examples_[static_cast<std::size_t>(number)].source; }
  const Cursor& cursor() const { return cursor_; }
  std::int64_t examples_in_epoch() const { return static_cast<std::int64_t>(order_.size()); }

 private:
  struct Example {
    std::uint32_t source = 0;
    std::uint64_t document = 0;  // the first one
  };
  ExampleStream(const std::vector<DatasetSource>& sources, Holds holds, Reading reading, std::int64_t sequence_length,
                std::uint64_t seed)
      : sources_(&sources), holds_(holds), reading_(reading), sequence_length_(sequence_length), seed_(seed) {}
  // Of the example that begins there; 0: it is not whole.
  std::uint64_t documents_at(const TokenShard& shard, std::uint64_t first) const;
  const TokenShard& shard_of(const Example& example) const { return (*sources_)[example.source].shard; }
  std::int64_t rows_of(const TokenShard& shard, std::uint64_t document) const;
  Status collect(std::uint32_t source);
  void choose_others();
  void begin_epoch();
  const std::vector<DatasetSource>* sources_;
  Holds holds_;
  Reading reading_;
  std::int64_t sequence_length_;
  std::uint64_t seed_;
  std::vector<Example> examples_;
  std::vector<std::int64_t> others_;  // by example, whose answer append_mismatched takes
  std::vector<std::int64_t> order_;
  std::int64_t left_out_ = 0, rows_ = 0;
  Cursor cursor_;
};

}  // namespace qw::data
