// The documents of one source of a build, file after file, without copies.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_set>

#include "base/result.h"
#include "base/thread_pool.h"
#include "data/build.h"
#include "data/document_reader.h"
#include "data/packing.h"

namespace qw::data {

inline constexpr std::uint64_t kProgressEvery = 2000;  // documents between two progress calls: some ms of work

// 128 bits of SHA-256 are enough that two different documents never meet.
struct Digest {
  std::uint64_t a, b;
  friend bool operator==(const Digest&, const Digest&) = default;
};
struct DigestHash {
  std::size_t operator()(const Digest& d) const { return static_cast<std::size_t>(d.a); }
};
using SeenDocuments = std::unordered_set<Digest, DigestHash>;

// The first 64 bits of a hash in hexadecimal.
std::uint64_t first_bits(std::string_view hex);
// Whether documents become conversations, with a loss mask.
bool is_chat(const SourceConfig& source);
// What the documents of its shards are; of pairs there are two a document read.
Holds holds_of(const SourceConfig& source);
// How many of so many documents are the tail that is never trained on.
std::uint64_t heldout_documents(const SourceConfig& source, std::uint64_t documents);

class Sieve;

class SourceReader {
 public:
  // `seen` may be shared between sources; with Dedup::kWithin it is emptied first. A pool examines many documents at
  // once; what comes out is the same without it. All arguments must stay alive.
  SourceReader(const SourceConfig& source, Dedup dedup, SeenDocuments& seen, Sieve* sieve = nullptr,
               base::ThreadPool* pool = nullptr);
  ~SourceReader();
  // Those that stay of the documents that fit a few megabytes, in order; none at the end. They may be changed, and are
  // there until the next call.
  Result<std::span<Document>> next_batch();
  // Reads and unpacks what the next batch is made of. By any one thread, while the batch at hand is worked upon.
  void read_ahead();
  Result<bool> next(Document& document);  // one after the other; false at the end
  std::uint64_t given() const { return given_; }
  std::uint64_t duplicates() const { return duplicates_; }
  ReaderCounts counts() const;

 private:
  struct Batch;
  Result<bool> read_one(Document& document);
  void examine(Batch& batch);

  const SourceConfig& source_;
  Dedup dedup_;
  SeenDocuments& seen_;
  Sieve* sieve_;  // if there is something to do
  base::ThreadPool* pool_;
  std::optional<DocumentReader> reader_;
  std::unique_ptr<Batch> batch_, ahead_;  // ahead_: what was read for the next one
  std::size_t file_ = 0, handed_ = 0;     // handed_: of the batch, by next()
  std::uint64_t given_ = 0, duplicates_ = 0;
  ReaderCounts counts_;
};

}  // namespace qw::data
