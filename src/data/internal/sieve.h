// Which documents stay: rules for single texts, texts that others evaluate with, near copies of earlier documents; and
// what is replaced in those that stay.
//
// Near copies: of the runs of five units of a text 128 minima (one permutation in 128 bins, empty bins filled from
// others: Shrivastava, "Optimal Densification for Fast and Accurate Minwise Hashing", 2017). The share of equal minima
// estimates the share of runs that two texts have in common of all that they have; whom to compare with is told by
// bands of minima that agree (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", 3.4).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "data/build.h"
#include "data/internal/hash_set.h"

namespace qw::data {

// Why a document went.
enum class Flaw : std::uint8_t {
  kNone,
  kShort,
  kLong,
  kLetters,
  kLanguage,
  kRepetition,
  kHeldOut,
  kNearCopy,
  kBoilerplate
};
inline constexpr std::size_t kFlaws = 9;
const char* flaw_name(Flaw flaw);  // "too_short", ..., as in the ledger

// By the rules for single texts. The text is valid UTF-8.
Flaw flaw_of(std::string_view text, const CleaningRules& rules);

class NearCopies {
 public:
  static constexpr std::size_t kMinima = 128, kMostBands = 32;
  struct Signature {
    std::array<std::uint32_t, kMinima> minima;
    std::array<std::uint64_t, kMostBands> bands;  // a band's number and minima, as one hash
  };
  explicit NearCopies(double similarity);
  // Of one unit or more; for any number of threads at once.
  void sign(const std::vector<std::uint64_t>& units, Signature& out) const;
  // Whether an earlier text is about as similar as was asked for, or more; if not, this one is kept in mind.
  bool seen(const Signature& signature);
  bool seen(const std::vector<std::uint64_t>& units);
  // Fetches the memory that seen() will look at.
  void expect(const Signature& signature) const;

 private:
  double similarity_;
  std::size_t bands_;
  std::vector<std::array<std::uint32_t, kMinima>> kept_;
  HashMap<std::uint32_t> first_in_;  // by a band's hash
};

// Lines that stand in many documents of a source. Counts are exact as long as no more than kMost different lines stand
// in it; then each is less by at most one for every kMost / 2 lines read (Misra, Gries, "Finding repeated elements",
// 1982, which makes room in the same way): no line is taken for boilerplate that is not.
class LineCounts {
 public:
  static constexpr std::size_t kMost = std::size_t{1} << 20, kShortest = 8;  // bytes; shorter lines stay everywhere
  explicit LineCounts(std::size_t most = kMost) : most_(most) {}
  void add(std::string_view document);  // each of its lines once
  // Drops the lines that stand in so many documents; returns how many it were.
  std::uint64_t drop(std::string& document, std::int64_t documents) const;

 private:
  void make_room();
  std::size_t most_;
  HashMap<std::uint32_t> counts_;
  HashSet once_;
};

class Sieve {
 public:
  // Reads what is kept out. kBadInput naming a file that cannot be read, kUsage where nobody finds personal data.
  static Result<Sieve> create(const DataConfig& config);
  // What is to be known of all documents of a source first: lines in many of them. Reads it once, where a rule asks for
  // it.
  Status learn(const SourceConfig& source, Dedup dedup);

  // What is found in a document by itself.
  struct Finding {
    Flaw flaw = Flaw::kNone;
    bool is_signed = false;
    std::uint64_t replaced = 0, lines_dropped = 0;
    NearCopies::Signature signature;
  };
  // Changes the document as the source's rules say. For any number of threads at once.
  void examine(const SourceConfig& source, Document& document, Finding& finding) const;
  // Whether it stays, and the counts of its source; of one document after the other, in their order.
  bool admits(const SourceConfig& source, const Finding& finding);
  void expect(const Finding& finding) const;    // admits() will be asked soon
  bool idle(const SourceConfig& source) const;  // there is nothing to do
  // Forgets the documents and their counts, not what is kept out.
  void restart();
  // Of a source, for its ledger.
  std::uint64_t dropped(const SourceConfig& source, Flaw flaw) const;
  std::uint64_t replaced(const SourceConfig& source) const;
  std::uint64_t lines_dropped(const SourceConfig& source) const;

 private:
  struct Counts {
    std::array<std::uint64_t, kFlaws> dropped{};
    std::uint64_t replaced = 0, lines_dropped = 0;
  };
  explicit Sieve(const DataConfig& config)
      : run_(static_cast<std::size_t>(config.keep_out_run)),
        similarity_(config.near_copies),
        near_(config.near_copies) {}
  const Counts* counts_of(const SourceConfig& source) const;
  std::size_t run_;
  HashSet kept_out_;  // runs of units
  double similarity_;
  NearCopies near_;
  LineCounts lines_;                                     // of the source learnt last
  std::unordered_map<std::string, Scrubber> scrubbers_;  // by what they look for
  std::unordered_map<std::string, Counts> counts_;       // by source
};

}  // namespace qw::data
