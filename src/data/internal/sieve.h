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
#include <unordered_set>
#include <vector>

#include "base/result.h"
#include "data/build.h"

namespace qw::data {

// Why a document went.
enum class Flaw : std::uint8_t { kNone, kShort, kLong, kLetters, kLanguage, kRepetition, kHeldOut, kNearCopy };
inline constexpr std::size_t kFlaws = 8;
const char* flaw_name(Flaw flaw);  // "too_short", ..., as in the ledger

// By the rules for single texts. The text is valid UTF-8.
Flaw flaw_of(std::string_view text, const CleaningRules& rules);

class NearCopies {
 public:
  static constexpr std::size_t kMinima = 128;
  using Signature = std::array<std::uint32_t, kMinima>;
  explicit NearCopies(double similarity);
  // Whether an earlier text is about as similar as was asked for, or more; if not, this one is kept in mind.
  bool seen(const std::vector<std::uint64_t>& units);

 private:
  double similarity_;
  std::size_t bands_;
  std::vector<Signature> kept_;
  std::unordered_map<std::uint64_t, std::uint32_t> first_in_;  // by a band's number and minima
};

class Sieve {
 public:
  // Reads what is kept out. kBadInput naming a file that cannot be read, kUsage where nobody finds personal data.
  static Result<Sieve> create(const DataConfig& config);
  // Whether the document stays; it is changed as the source's rules say.
  Result<bool> keeps(const SourceConfig& source, Document& document);
  bool idle(const SourceConfig& source) const;  // there is nothing to do
  // Of a source, for its ledger.
  std::uint64_t dropped(const SourceConfig& source, Flaw flaw) const;
  std::uint64_t replaced(const SourceConfig& source) const;

 private:
  struct Counts {
    std::array<std::uint64_t, kFlaws> dropped{};
    std::uint64_t replaced = 0;
  };
  explicit Sieve(const DataConfig& config)
      : run_(static_cast<std::size_t>(config.keep_out_run)),
        near_(config.near_copies),
        finds_near_(config.near_copies > 0) {}
  Flaw flaw_in(const SourceConfig& source, const std::string& text);
  std::size_t run_;
  std::unordered_set<std::uint64_t> kept_out_;  // runs of units
  NearCopies near_;
  bool finds_near_;
  std::unordered_map<std::string, Scrubber> scrubbers_;  // by what they look for
  std::unordered_map<std::string, Counts> counts_;       // by source
};

}  // namespace qw::data
