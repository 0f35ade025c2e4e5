// From shards to batches: every document in isolation, rows packed by best fit, an order that only depends on
// (seed, epoch), and a cursor that resumes anywhere.
//
// A document of n tokens gives n-1 training rows (token -> next token). Longer ones than `sequence_length` rows are cut
// into pieces; pieces are packed best-fit-decreasing into sequences of at most `sequence_length` rows (window by window,
// after shuffling). Positions restart at 0 in each piece and attention never crosses its border.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "data/token_shard.h"

namespace qw::data {

// What the documents of a source are.
enum class Holds : std::uint8_t {
  kTexts,    // what is to be said, all of it or the masked part
  kPairs,    // preference pairs (examples.h); value of the preferred one: the margin that is asked for
  kRatings,  // answers that were liked (value 1) or not (0)
  kClasses,  // documents of a class each (value: its number)
  kPrompts,  // prompts, each followed by what its answers are judged by; that is what counts of them
  kRetrieval,  // examples of a query, a document that answers it and others that do not; value of the query: how many
               // documents the example has, itself one
  kRankings,   // questions whether a document answers a query, that do (value 1) or not (0)
};
const char* holds_name(Holds holds);  // "texts", "pairs", "ratings", "classes", "prompts", "retrieval", "rankings": in ledgers and messages

struct DatasetSource {
  std::string name;
  TokenShard shard;
  double weight = 1;
  Holds holds = Holds::kTexts;
};

// What a ledger lists, opened and checked against it.
struct Dataset {
  std::vector<DatasetSource> train, heldout;   // sources without documents are left out
  std::vector<std::string> labels;             // names of classes, in order; the same ones in all sources that hold classes
  std::string instruction;                     // of sources that hold retrieval or rankings, the same in all of them
  std::string tokenizer_hash;
  std::filesystem::path tokenizer_folder;
  std::int64_t vocab = 0;
  std::string ledger;                          // the file
  std::string ledger_sha256;                   // of it; identifies the data in checkpoints
};
Result<Dataset> open_dataset(const std::filesystem::path& folder);

// A batch in the layout the training graph takes; reused from call to call.
struct PackedBatch {
  std::vector<std::int32_t> tokens, positions, labels;  // [N]; label -1 = does not count
  std::vector<std::int32_t> cu_seqlens{0};              // [pieces + 1]
  std::int64_t kept = 0;                                // labels that count
  void clear();
};

// Rows [begin, begin + length) of a document: inputs at those tokens, labels one further.
struct Piece {
  std::uint32_t source = 0, length = 0;
  std::uint64_t begin = 0;  // token index in the shard
};

// Appends a piece to a batch.
void append_piece(const TokenShard& shard, const Piece& piece, PackedBatch& batch);
// Pieces of all documents of a shard in order; masked pieces in which nothing counts are left out.
void cut_document(const TokenShard& shard, std::uint32_t source, std::uint64_t document, std::int64_t sequence_length,
                  std::vector<Piece>& out);

// Best-fit-decreasing: groups of piece indices whose lengths sum to at most `capacity`. Deterministic.
std::vector<std::vector<std::uint32_t>> best_fit(std::span<const Piece> pieces, std::int64_t capacity);

// The sequences of one epoch, in order.
class Epoch {
 public:
  Epoch(const std::vector<DatasetSource>& sources, std::int64_t sequence_length, std::uint64_t seed, std::uint64_t epoch);
  std::int64_t sequences() const { return static_cast<std::int64_t>(starts_.size()) - 1; }
  std::span<const Piece> sequence(std::int64_t i) const;
  std::int64_t rows() const { return rows_; }  // training rows of the whole epoch

 private:
  std::vector<Piece> pieces_;
  std::vector<std::uint64_t> starts_;
  std::int64_t rows_ = 0;
};

// Where in the data training stands; saved in checkpoints.
struct Cursor {
  std::uint64_t epoch = 0;
  std::int64_t sequence = 0;
};

// Hands out batches for ever, epoch after epoch.
class BatchStream {
 public:
  // `sources` must stay alive. Errors: kBadInput when an epoch would be empty or a source holds no texts; kUsage for a cursor out of range.
  static Result<BatchStream> create(const std::vector<DatasetSource>& sources, std::int64_t sequence_length,
                                    std::uint64_t seed, Cursor cursor);
  // Fills `batch` with the next `sequences` sequences.
  void next(std::int64_t sequences, PackedBatch& batch);
  const Cursor& cursor() const { return cursor_; }
  std::int64_t sequences_in_epoch() const { return epoch_.sequences(); }
  std::int64_t rows_in_epoch() const { return epoch_.rows(); }

 private:
  BatchStream(const std::vector<DatasetSource>& sources, std::int64_t sequence_length, std::uint64_t seed, Cursor cursor);
  const std::vector<DatasetSource>* sources_;
  std::int64_t sequence_length_;
  std::uint64_t seed_;
  Cursor cursor_;
  Epoch epoch_;
};

}  // namespace qw::data
