#include "kvcache/prefix_cache.h"

#include <gtest/gtest.h>

#include <optional>

#include "base/rng.h"

namespace qw::kvcache {
namespace {

constexpr std::int32_t kBlock = 4;

// A pool, its cache, and sequences over them which "compute" by writing the tokens themselves as keys.
struct House {
  BlockPool pool;
  std::optional<StatePool> states;
  std::optional<PrefixCache> cache;
  explicit House(std::int32_t blocks, std::int32_t snapshots = 0, double attention_depth = 0)
      : pool(*BlockPool::create({1, 1, 1, kBlock, tensor::DType::kF32}, blocks)) {
    PrefixCacheOptions options{nullptr, snapshots, attention_depth, 7};
    if (snapshots > 0) {
      states.emplace(*StatePool::create(2, snapshots + 4));
      options.states = &*states;
    }
    cache.emplace(pool, options);
  }
  float* key(std::int32_t block, std::int64_t slot) {
    return reinterpret_cast<float*>(pool.keys(0, block)) + slot;
  }
};

struct Sequence {
  House& house;
  std::vector<std::int32_t> tokens;
  PrefixKey key;
  std::int32_t root;
  std::vector<std::uint64_t> names;
  BlockTable table;
  StateSlot state;
  std::int64_t computed = 0;
  std::size_t published = 0;

  Sequence(House& h, std::vector<std::int32_t> t, PrefixKey k = {})
      : house(h),
        tokens(std::move(t)),
        key(std::move(k)),
        root(h.cache->open_root(key)),
        table(h.pool.make_table(400)) {
    std::uint64_t name = house.cache->name(key);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      name = house.cache->name(name, tokens[i]);
      if ((i + 1) % kBlock == 0) names.push_back(name);
    }
    if (house.states) state = std::move(*house.states->acquire());
  }
  ~Sequence() {
    house.pool.release(table);
    house.cache->close_root(root);
  }
  std::int32_t token(std::int64_t i) const { return tokens[static_cast<std::size_t>(i)]; }
  template <class F>
  auto with_text(F f) {
    const auto token_at = [this](std::int64_t i) { return token(i); };
    return f(PrefixCache::Text{root, names, static_cast<std::int64_t>(tokens.size()), token_at});
  }
  PrefixMatch find() {
    return with_text([&](const PrefixCache::Text& t) { return house.cache->find(t, t.tokens - 1); });
  }
  PrefixMatch begin() {
    const PrefixMatch m = find();
    with_text([&](const PrefixCache::Text& t) { house.cache->share(t, m, table, state); });
    if (m.partial) {
      EXPECT_TRUE(house.pool.make_own(table, table.blocks().size() - 1));
    }
    computed = m.tokens;
    published = static_cast<std::size_t>(m.whole);
    for (std::int64_t p = 0; p < computed; ++p) EXPECT_EQ(*house.key(at(p), p % kBlock), static_cast<float>(token(p)));
    if (house.states) {
      EXPECT_EQ(house.states->tokens(state), computed);
    }
    return m;
  }
  std::int32_t at(std::int64_t p) const { return table.blocks()[static_cast<std::size_t>(p / kBlock)]; }
  bool compute(std::int64_t to, bool snapshots = false) {
    if (!house.pool.reserve(table, to)) return false;
    for (; computed < to; ++computed) *house.key(at(computed), computed % kBlock) = static_cast<float>(token(computed));
    for (; static_cast<std::int64_t>(published + 1) * kBlock <= computed; ++published)
      with_text([&](const PrefixCache::Text& t) { house.cache->publish(t, table, published); });
    if (house.states) house.states->tokens()[static_cast<std::size_t>(state.index())] = computed;
    if (snapshots && computed % kBlock == 0) house.cache->take_snapshot(table, published - 1, state);
    return true;
  }
};

std::vector<std::int32_t> range(std::int32_t from, std::int32_t n) {
  std::vector<std::int32_t> out;
  for (std::int32_t i = 0; i < n; ++i) out.push_back(from + i);
  return out;
}
std::vector<std::int32_t> operator+(std::vector<std::int32_t> a, const std::vector<std::int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(PrefixCache, FindsWholeBlocksAndThePartOfOne) {
  House house(16);
  {
    Sequence first(house, range(0, 14));
    EXPECT_EQ(first.begin().tokens, 0);
    first.compute(14);
  }
  EXPECT_EQ(house.pool.free_blocks(), 16);
  EXPECT_EQ(house.pool.idle_blocks(), 3);
  Sequence again(house, range(0, 12));  // all but the last token, whose row somebody wants
  const PrefixMatch m = again.begin();
  EXPECT_EQ(m.tokens, 11);
  EXPECT_EQ(m.whole, 2);
  EXPECT_TRUE(m.partial);
  EXPECT_EQ(house.pool.own_blocks(again.table), 3);  // nobody else holds the two that are kept
  Sequence other(house, range(0, 6) + range(90, 6));
  EXPECT_EQ(other.begin().tokens, 6);
  EXPECT_EQ(other.table.blocks()[0], again.table.blocks()[0]);
  EXPECT_NE(other.table.blocks()[1], again.table.blocks()[1]);  // a copy: it goes on differently
  EXPECT_EQ(house.pool.shared_blocks(), 1);
  EXPECT_EQ(house.cache->violation(), "");
}

TEST(PrefixCache, SaltAdapterAndFormDivide) {
  House house(32);
  const PrefixKey keys[] = {{"", -1, 0}, {"a", -1, 0}, {"", 0, 0}, {"", -1, 1}};
  for (const PrefixKey& key : keys) {
    Sequence s(house, range(0, 12), key);
    EXPECT_EQ(s.begin().tokens, 0);
    s.compute(12);
  }
  for (const PrefixKey& key : keys) EXPECT_EQ(Sequence(house, range(0, 12), key).begin().tokens, 11);
}

TEST(PrefixCache, TwoThatComputedTheSameShareItAfterwards) {
  House house(16);
  Sequence a(house, range(0, 12)), b(house, range(0, 12));
  a.begin();
  b.begin();
  a.compute(12);
  b.compute(12);
  EXPECT_EQ(house.pool.free_blocks(), 13);
  EXPECT_EQ(house.pool.shared_blocks(), 3);
  EXPECT_TRUE(std::equal(a.table.blocks().begin(), a.table.blocks().end(), b.table.blocks().begin()));
}

TEST(PrefixCache, GivesUpTheOldestEndFirstAndWhatIsUsedLast) {
  House house(9);
  for (const int from : {0, 100, 200}) {
    Sequence s(house, range(from, 13));
    s.begin();
    s.compute(12);
  }
  {
    Sequence s(house, range(0, 13));
    EXPECT_EQ(s.begin().tokens, 12);
  }  // the first is the newest now
  {
    Sequence s(house, range(300, 8));
    s.begin();
    ASSERT_TRUE(s.compute(8));
  }
  EXPECT_EQ(Sequence(house, range(0, 13)).find().tokens, 12);
  EXPECT_EQ(Sequence(house, range(100, 13)).find().tokens + Sequence(house, range(200, 13)).find().tokens, 16);
  EXPECT_EQ(house.cache->evictions(), 2);
}

TEST(PrefixCache, WhatCostsMoreStaysLonger) {
  House house(12, 0, kBlock);  // attention weighs: deep blocks are worth more
  {
    Sequence deep(house, range(0, 33));
    deep.begin();
    deep.compute(32);
  }
  for (int i = 1; i < 5; ++i) {  // shallow newcomers push each other out
    Sequence s(house, range(100 * i, 9));
    s.begin();
    ASSERT_TRUE(s.compute(8));
  }
  EXPECT_EQ(Sequence(house, range(0, 33)).find().tokens, 32);
}

TEST(PrefixCache, StatesNeedSnapshots) {
  House house(16, 2);
  {
    Sequence s(house, range(0, 17));
    s.begin();
    s.compute(8, true);
    s.compute(16);
  }
  Sequence again(house, range(0, 17));
  const PrefixMatch m = again.begin();
  EXPECT_EQ(m.tokens, 8);
  EXPECT_EQ(m.known, 4);
  EXPECT_FALSE(m.partial);
}

TEST(PrefixCache, TheLeastValuableSnapshotGoes) {
  House house(32, 2);
  {
    Sequence s(house, range(0, 21));
    s.begin();
    s.compute(20, true);
  }
  {
    Sequence s(house, range(100, 9));
    s.begin();
    s.compute(8, true);
  }
  {
    Sequence s(house, range(200, 9));
    s.begin();
    s.compute(8, true);
  }
  EXPECT_EQ(house.cache->snapshots(), 2);
  EXPECT_EQ(Sequence(house, range(0, 21)).find().tokens, 20);
  EXPECT_EQ(Sequence(house, range(100, 9)).find().tokens, 0);
  EXPECT_EQ(Sequence(house, range(200, 9)).find().tokens, 8);
}

// Every hit gives the right contents, and both invariants hold throughout.
TEST(PrefixCacheProperty, HoldsThroughRandomUse) {
  for (const std::int32_t snapshots : {0, 3}) {
    House house(40, snapshots, 16);
    std::vector<std::unique_ptr<Sequence>> running;
    base::Rng rng(3);
    std::int64_t hits = 0;
    for (int step = 0; step < 4000; ++step) {
      if (running.size() < 4 && rng.below(3) == 0) {
        std::vector<std::int32_t> tokens;
        for (std::uint64_t n = 1 + rng.below(9); n > 0; --n) {  // pieces of few kinds: beginnings recur
          const auto kind = static_cast<std::int32_t>(rng.below(2));
          tokens = tokens + range(100 * kind, static_cast<std::int32_t>(3 + rng.below(2)));
        }
        running.push_back(std::make_unique<Sequence>(house, tokens, PrefixKey{rng.below(4) == 0 ? "x" : "", -1, 0}));
        if (house.pool.free_blocks() > 1) hits += running.back()->begin().tokens > 0;
      } else if (!running.empty()) {
        const std::size_t i = rng.below(running.size());
        Sequence& s = *running[i];
        const auto left = static_cast<std::int64_t>(s.tokens.size()) - s.computed;
        if (left == 0 || rng.below(6) == 0) {
          running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
        } else {
          s.compute(s.computed + 1 + static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(left))),
                    rng.below(2) == 0);
        }
      }
      std::vector<const BlockTable*> tables;
      for (const auto& s : running) tables.push_back(&s->table);
      ASSERT_EQ(violation(house.pool.snapshot(tables)), "");
      ASSERT_EQ(house.cache->violation(), "");
    }
    EXPECT_GT(hits, snapshots == 0 ? 300 : 40);  // with states only those at whole blocks with a snapshot
    EXPECT_GT(house.cache->evictions(), 300);
    running.clear();
    house.cache->clear();
    EXPECT_EQ(house.pool.free_blocks(), 40);
    EXPECT_EQ(house.pool.idle_blocks(), 0);
    EXPECT_EQ(house.cache->snapshots(), 0);
  }
}

}  // namespace
}  // namespace qw::kvcache
