// Which tokens may come next, for a grammar and a vocabulary.
//
// For each state of the grammar the tokens fall in three classes (as Dong et al., "XGrammar", 2024): those that its own
// rule, and what it calls, reads whole; those that it does not read; and those that leave the rule on the way, which
// only what lies below can tell. The classes of a state, and those of it with the two innermost returns, are worked out
// once and kept; what is left is run.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "sampling/grammar/grammar.h"
#include "sampling/grammar/runner.h"
#include "sampling/grammar/token_table.h"

namespace qw::sampling::grammar {

// A set of token ids, one bit each.
class TokenSet {
 public:
  explicit TokenSet(std::int64_t vocab = 0) : words_(static_cast<std::size_t>((vocab + 63) / 64)) {}
  void add(TokenId id) { words_[static_cast<std::size_t>(id) / 64] |= std::uint64_t{1} << (id % 64); }
  bool has(TokenId id) const { return ((words_[static_cast<std::size_t>(id) / 64] >> (id % 64)) & 1) != 0; }
  void add(const TokenSet& other) {
    for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
  }
  void clear() { words_.assign(words_.size(), 0); }
  std::int64_t count() const;
  std::span<const std::uint64_t> words() const { return words_; }

 private:
  std::vector<std::uint64_t> words_;
};

class TokenClasses {
 public:
  TokenClasses(Grammar grammar, std::shared_ptr<const TokenTable> table);

  const Grammar& grammar() const { return grammar_; }
  const TokenTable& table() const { return *table_; }

  // Works out the classes of the states that read most bytes (texts of strings): these take milliseconds each with a
  // large vocabulary, the others microseconds. Call it where a wait hurts nobody. False, and not all of them are, once
  // `effort` is spent.
  bool warm(Effort& effort) const;
  // Finds the tokens that can be read from where a text stands.
  class Search;
  // Bytes that the kept classes take.
  std::size_t bytes() const;

 private:
  struct Class {
    TokenSet many;                    // empty if `few` says it all
    std::vector<TokenId> few;         // accepted
    std::vector<std::uint32_t> open;  // orders of the tokens that only what lies below can tell, ascending
    std::size_t cost = 0;             // in steps of effort; 0: it was worked out ahead
    std::size_t bytes() const { return many.words().size() * 8 + few.size() * 4 + open.size() * 4 + 100; }
  };
  struct Key {
    State state, back, below;  // -1: not known
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct Hash {
    std::size_t operator()(const Key& k) const;
  };
  std::shared_ptr<const Class> find(const Key& key) const;
  std::shared_ptr<const Class> keep(const Key& key, Class made) const;
  // Classes in the making.
  class Making;
  class OfSimpleState;
  class OfAnyState;
  class InContext;
  class OfState;
  void sort_tokens(std::uint32_t node, bool whole, bool read_on, bool left, std::vector<TokenId>& accepted,
                   std::vector<std::uint32_t>& open) const;
  Class settle(std::vector<TokenId> accepted, std::vector<std::uint32_t> open) const;

  Grammar grammar_;
  std::shared_ptr<const TokenTable> table_;
  mutable std::shared_mutex mutex_;
  mutable std::unordered_map<Key, std::shared_ptr<const Class>, Hash> kept_;
  mutable std::size_t kept_bytes_ = 0;
};

// A piece at a time, as it may take long. Different searches over the same classes may run on different threads.
class TokenClasses::Search {
 public:
  // Adds to `out` what may be read from `at`, for `most` steps of effort at most. `runner` knows the stacks of `at`.
  // All must stay as they are until the end.
  Search(const TokenClasses& classes, const Configurations& at, Runner& runner, TokenSet& out, std::size_t most);
  ~Search();
  Search(Search&&) = delete;

  enum class State : std::uint8_t { kGoesOn, kDone, kTooMuch };
  // Works for about `steps` steps more (a single one may be larger: a byte read in thousands of ways). kTooMuch: not
  // all of them were found, `most` was spent; what is known already counts as if it were worked out, so that this does
  // not depend on who was here before.
  State run(std::size_t steps);
  std::size_t left() const { return effort_.left(); }

 private:
  State find_alone(const Configuration& c);
  State find_nested(const Configuration& c);
  State walk_open(const Configuration& c);
  void take(const Class& c);

  const TokenClasses& classes_;
  const Configurations& at_;
  Runner& runner_;
  TokenSet& out_;
  Effort effort_;
  std::size_t item_ = 0, order_ = 0;             // of at_; of nested_->open
  std::shared_ptr<const Class> alone_, nested_;  // of the item, once they are known
  std::unique_ptr<Making> making_;               // one of them
  std::size_t before_ = 0;                       // effort left when that began
  std::unique_ptr<class Walk> walk_;
};

}  // namespace qw::sampling::grammar
