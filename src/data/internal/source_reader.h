// The documents of one source of a build, file after file, without copies.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "base/result.h"
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
  // `seen` may be shared between sources; with Dedup::kWithin it is emptied first. All arguments must stay alive.
  SourceReader(const SourceConfig& source, Dedup dedup, SeenDocuments& seen, Sieve* sieve = nullptr);
  Result<bool> next(Document& document);  // false at the end
  std::uint64_t given() const { return static_cast<std::uint64_t>(given_); }
  std::uint64_t duplicates() const { return duplicates_; }
  ReaderCounts counts() const;

 private:
  const SourceConfig& source_;
  Dedup dedup_;
  SeenDocuments& seen_;
  Sieve* sieve_;
  std::optional<DocumentReader> reader_;
  std::size_t file_ = 0;
  std::int64_t given_ = 0;
  std::uint64_t duplicates_ = 0;
  ReaderCounts counts_;
};

}  // namespace qw::data
