// Finds what is already computed: whole blocks of a pool by the tokens they stand for and everything before them.
//
// A block's name is a chained hash of its own tokens and all before them; chains begin at a root, which is a
// salt (whose cache it is: nobody finds what others computed under another salt), an adapter, and the form of the
// computation. Names are compared in full (root, predecessor, tokens), so a collision costs time and nothing else.
//
// Blocks stay in the pool: those in no table are idle, count as free, and are given up one by one when the pool needs
// them. Which: the one least worth keeping, by GreedyDual (Cao and Irani, 1997): a block is worth what computing it
// again would cost, on top of a clock that stands at the worth of the last one given up; the clock makes worth fade as
// time passes. Only ends of chains go, so whatever is found is whole from the beginning. O(log blocks) each.
//
// Models whose layers carry a state: keys and values of a prefix are of use only together with the state behind its
// last token, so snapshots of states hang on blocks, in slots of their own, of which there is a fixed number. The least
// valuable goes when another is wanted; a snapshot is worth the tokens between it and the one before it.
//
// All memory for blocks and names is taken when the cache is made: finding, sharing and giving up allocate nothing.
// One thread, that of the pool. The cache must outlive no pool, and a pool no keeper: destroy it before the pool.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "kvcache/block_pool.h"
#include "kvcache/internal/value_heap.h"
#include "kvcache/state_pool.h"

namespace qw::kvcache {

// Where chains begin. Equal keys are one root.
struct PrefixKey {
  std::string salt;
  std::int64_t adapter = -1;  // whatever names the weights in use
  std::int64_t form = 0;      // of the computation, where the same tokens may give other keys and values
  friend auto operator<=>(const PrefixKey&, const PrefixKey&) = default;
};

struct PrefixCacheOptions {
  StatePool* states = nullptr;  // of models with states: must have `snapshots` slots more than the sequences need
  std::int32_t snapshots = 0;   // most snapshots at once
  // Tokens before it at which a token's attention costs as much as the rest of it; 0: attention costs nothing.
  double attention_depth = 0;
  std::uint64_t seed = 0;  // of the hashes: unknown to those who choose tokens
};

// What is known of a sequence.
struct PrefixMatch {
  std::int64_t tokens = 0;  // usable: these need not be computed
  std::int32_t whole = 0;   // blocks that can be shared
  std::int32_t idle = 0;    // of these, in no table now
  std::int32_t known = 0;   // blocks known, also beyond those that can be used for lack of a state
  bool partial = false;     // tokens % block_tokens of a block that must be copied
};

class PrefixCache final : public BlockKeeper {
 public:
  PrefixCache(BlockPool& pool, const PrefixCacheOptions& options);
  ~PrefixCache() override;  // all kept blocks must be idle
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // A root for one sequence's use; close it when the sequence ends. Allocates: when a request arrives.
  std::int32_t open_root(const PrefixKey& key);
  void close_root(std::int32_t root);

  // Where a chain of names begins, and the name of a text that is one token longer than the one named `before`; a block
  // has that of the text up to its last token. Both may be called on any thread.
  std::uint64_t name(const PrefixKey& key) const;
  std::uint64_t name(std::uint64_t before, std::int32_t token) const;

  // Names of the whole blocks of a sequence, in order, and its tokens: token(i) for i < tokens.
  struct Text {
    std::int32_t root = -1;
    std::span<const std::uint64_t> names;
    std::int64_t tokens = 0;
    base::FunctionRef<std::int32_t(std::int64_t)> token;
  };
  // At most `most` tokens of it. Changes nothing.
  PrefixMatch find(const Text& text, std::int64_t most);
  // Rises whenever find may answer otherwise than before.
  std::uint64_t generation() const { return generation_; }

  // Makes an empty table hold what find has just found (or the whole blocks of it, if `match.partial` was cleared), and
  // `state` what its layers carried then. The last block of a partial match is still the shared one: make_own follows,
  // before anything is computed and after everything of this step was found, as it may give blocks up.
  void share(const Text& text, const PrefixMatch& match, BlockTable& table, const StateSlot& state);

  // Block `index` of the table is computed: keeps it for others. If the same is kept already, the table gets that one.
  // Blocks before it must have been published.
  void publish(const Text& text, BlockTable& table, std::size_t index);
  // Keeps a copy of the state behind the published block `index`.
  void take_snapshot(const BlockTable& table, std::size_t index, const StateSlot& state);
  // Drops it again (it was replaced by a later one); nothing if there is none.
  void drop_snapshot(const BlockTable& table, std::size_t index);

  // Forgets everything that is in no table.
  void clear();

  std::int32_t kept_blocks() const { return kept_; }
  std::int32_t snapshots() const { return snapshots_; }
  std::int32_t most_snapshots() const { return options_.snapshots; }
  std::int64_t evictions() const { return evictions_; }

  void on_idle(std::int32_t block) override;
  void on_busy(std::int32_t block) override;
  std::int32_t give_up() override;

  // The first broken rule of the index in words, or "".
  std::string violation() const;

 private:
  struct Node {
    std::uint64_t name = 0;
    std::int32_t root = -1;
    std::int32_t parent = -1, first_child = -1, next_sibling = -1, previous_sibling = -1;
    std::int32_t next_in_bucket = -1;
    std::int32_t depth = 0;            // blocks before it
    std::int32_t snapshots_below = 0;  // its own included
    double value = 0;
  };
  struct Root {
    PrefixKey key;
    std::int32_t first_child = -1;
    std::int64_t uses = 0;  // open, and children
  };
  Node& node(std::int32_t b) { return nodes_[static_cast<std::size_t>(b)]; }
  const Node& node(std::int32_t b) const { return nodes_[static_cast<std::size_t>(b)]; }
  std::size_t bucket(std::uint64_t name) const { return static_cast<std::size_t>(name) & (buckets_.size() - 1); }
  std::span<const std::int32_t> tokens_of(std::int32_t b) const;
  std::int32_t first_child(std::int32_t root, std::int32_t parent) const;
  std::int32_t child(const Text& text, std::int32_t parent, std::size_t index) const;
  std::pair<std::int32_t, std::int64_t> partial_child(const Text& text, std::int32_t parent, std::int64_t begin,
                                                      std::int64_t most) const;
  void link(std::int32_t b);
  void unlink(std::int32_t b);
  bool has_snapshot(std::int32_t b) const { return slots_[static_cast<std::size_t>(b)].held(); }
  void remove_snapshot(std::int32_t b);
  double snapshot_worth(std::int32_t b) const;
  void value_snapshot(std::int32_t b);
  double worth(const Node& n) const;
  void release_root(std::int32_t root);

  BlockPool& pool_;
  PrefixCacheOptions options_;
  std::int32_t block_tokens_;
  std::vector<Node> nodes_;                // by block
  std::vector<std::int32_t> token_store_;  // [blocks, block_tokens]
  std::vector<std::int32_t> buckets_;      // by hash: a block, -1: none
  std::vector<StateSlot> slots_;           // by block
  internal::ValueHeap ends_;               // idle blocks without children
  internal::ValueHeap snapshot_values_;
  double clock_ = 0, snapshot_clock_ = 0;
  std::uint64_t order_ = 0, generation_ = 1;
  std::int32_t kept_ = 0, snapshots_ = 0;
  std::int64_t evictions_ = 0;
  std::vector<Root> roots_;
  std::vector<std::int32_t> free_roots_;
  std::map<PrefixKey, std::int32_t> root_of_;
};

}  // namespace qw::kvcache
