#include "kvcache/prefix_cache.h"

#include <algorithm>
#include <bit>

namespace qw::kvcache {
namespace {

// Children of a block that are looked through for one that begins alike. Many texts may follow one beginning; the
// newest are the likeliest, and looking must not cost more than it saves.
constexpr int kPartialLooks = 32;
// A block of a model with states which no snapshot can make use of is worth this part of another: it only tells where
// texts part, so that the next to come along takes a snapshot there.
constexpr double kUnusableWorth = 1.0 / 16;

// The finaliser of splitmix64 (Steele et al., 2014): every bit of the input changes half of the output's.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

PrefixCache::PrefixCache(BlockPool& pool, const PrefixCacheOptions& options)
    : pool_(pool),
      options_(options),
      block_tokens_(pool.shape().block_tokens),
      nodes_(static_cast<std::size_t>(pool.total_blocks())),
      token_store_(static_cast<std::size_t>(pool.total_blocks()) * static_cast<std::size_t>(block_tokens_)),
      buckets_(std::bit_ceil(static_cast<std::size_t>(pool.total_blocks()) * 2), -1),
      slots_(static_cast<std::size_t>(pool.total_blocks())),
      ends_(pool.total_blocks()),
      snapshot_values_(pool.total_blocks()) {
  pool_.set_keeper(this);
}

PrefixCache::~PrefixCache() {
  clear();
  QW_CHECK(kept_ == 0);
  pool_.set_keeper(nullptr);
}

// ---- names and roots
// -------------------------------------------------------------------------------------------------

std::uint64_t PrefixCache::name(const PrefixKey& key) const {
  std::uint64_t h = mix(options_.seed ^ static_cast<std::uint64_t>(key.adapter));
  h = mix(h ^ static_cast<std::uint64_t>(key.form));
  for (const char c : key.salt) h = mix(h ^ static_cast<unsigned char>(c));
  return h;
}

std::uint64_t PrefixCache::name(std::uint64_t before, std::int32_t token) const {
  return mix(before ^ static_cast<std::uint32_t>(token));
}

std::int32_t PrefixCache::open_root(const PrefixKey& key) {
  const auto [at, fresh] = root_of_.try_emplace(key, -1);
  if (fresh) {
    if (free_roots_.empty()) {
      free_roots_.push_back(static_cast<std::int32_t>(roots_.size()));
      roots_.emplace_back();
    }
    at->second = free_roots_.back();
    free_roots_.pop_back();
    roots_[static_cast<std::size_t>(at->second)] = {key, -1, 0};
  }
  ++roots_[static_cast<std::size_t>(at->second)].uses;
  return at->second;
}

void PrefixCache::close_root(std::int32_t root) { release_root(root); }

void PrefixCache::release_root(std::int32_t root) {
  Root& r = roots_[static_cast<std::size_t>(root)];
  QW_CHECK(r.uses > 0);
  if (--r.uses > 0) return;
  root_of_.erase(r.key);
  r = {};
  free_roots_.push_back(root);
}

// ---- finding
// ---------------------------------------------------------------------------------------------------------

std::span<const std::int32_t> PrefixCache::tokens_of(std::int32_t b) const {
  const auto n = static_cast<std::size_t>(block_tokens_);
  return std::span(token_store_).subspan(static_cast<std::size_t>(b) * n, n);
}

std::int32_t PrefixCache::first_child(std::int32_t root, std::int32_t parent) const {
  return parent >= 0 ? node(parent).first_child : roots_[static_cast<std::size_t>(root)].first_child;
}

// The kept block `index` of the text after `parent` (-1: the root), or -1.
std::int32_t PrefixCache::child(const Text& text, std::int32_t parent, std::size_t index) const {
  const std::uint64_t wanted = text.names[index];
  for (std::int32_t b = buckets_[bucket(wanted)]; b >= 0; b = node(b).next_in_bucket) {
    const Node& n = node(b);
    if (n.name != wanted || n.parent != parent || n.root != text.root) continue;
    std::int64_t at = static_cast<std::int64_t>(index) * block_tokens_;
    const auto tokens = tokens_of(b);
    if (std::all_of(tokens.begin(), tokens.end(), [&](std::int32_t t) { return t == text.token(at++); })) return b;
  }
  return -1;
}

// The block after `parent` which begins with most of the text's tokens from `begin` on (up to `most`), and how many.
std::pair<std::int32_t, std::int64_t> PrefixCache::partial_child(const Text& text, std::int32_t parent,
                                                                 std::int64_t begin, std::int64_t most) const {
  std::pair<std::int32_t, std::int64_t> best{-1, 0};
  const std::int64_t reach = std::min<std::int64_t>(most - begin, block_tokens_);
  int looks = kPartialLooks;
  for (std::int32_t b = first_child(text.root, parent); b >= 0 && looks > 0; b = node(b).next_sibling, --looks) {
    const auto tokens = tokens_of(b);
    std::int64_t same = 0;
    while (same < reach && tokens[static_cast<std::size_t>(same)] == text.token(begin + same)) ++same;
    if (same > best.second) best = {b, same};
  }
  return best;
}

PrefixMatch PrefixCache::find(const Text& text, std::int64_t most) {
  PrefixMatch match;
  std::int32_t at = -1, idle = 0;
  most = std::min(most, text.tokens);
  while (static_cast<std::size_t>(match.known) < text.names.size() &&
         (match.known + 1) * std::int64_t{block_tokens_} <= most) {
    const std::int32_t next = child(text, at, static_cast<std::size_t>(match.known));
    if (next < 0) break;
    at = next;
    ++match.known;
    idle += pool_.tables_of(at) == 0;
    if (options_.states != nullptr && !has_snapshot(at)) continue;
    match.whole = match.known;
    match.idle = idle;
  }
  match.tokens = match.whole * std::int64_t{block_tokens_};
  if (options_.states != nullptr) return match;
  const std::int64_t more = partial_child(text, at, match.tokens, most).second;
  match.partial = more > 0;
  match.tokens += more;
  return match;
}

void PrefixCache::share(const Text& text, const PrefixMatch& match, BlockTable& table, const StateSlot& state) {
  QW_CHECK(table.blocks().empty());
  std::int32_t at = -1;
  for (std::int32_t i = 0; i < match.whole; ++i) {
    at = child(text, at, static_cast<std::size_t>(i));
    QW_CHECK(at >= 0);
    pool_.share(table, at);
  }
  if (options_.states != nullptr && at >= 0) {
    options_.states->copy(slots_[static_cast<std::size_t>(at)], state);
    snapshot_values_.remove(at);
    value_snapshot(at);
  }
  if (match.partial)
    pool_.share(table, partial_child(text, at, match.whole * std::int64_t{block_tokens_}, match.tokens).first);
}

// ---- keeping and giving up
// -------------------------------------------------------------------------------------------

void PrefixCache::link(std::int32_t b) {
  Node& n = node(b);
  std::int32_t& first =
      n.parent >= 0 ? node(n.parent).first_child : roots_[static_cast<std::size_t>(n.root)].first_child;
  n.previous_sibling = -1;
  n.next_sibling = first;
  if (first >= 0) node(first).previous_sibling = b;
  first = b;
  if (n.parent < 0) ++roots_[static_cast<std::size_t>(n.root)].uses;
  std::int32_t& head = buckets_[bucket(n.name)];
  n.next_in_bucket = head;
  head = b;
  ++kept_;
  ++generation_;
}

void PrefixCache::unlink(std::int32_t b) {
  remove_snapshot(b);
  Node& n = node(b);
  QW_CHECK(n.first_child < 0);
  std::int32_t& first =
      n.parent >= 0 ? node(n.parent).first_child : roots_[static_cast<std::size_t>(n.root)].first_child;
  if (n.previous_sibling >= 0)
    node(n.previous_sibling).next_sibling = n.next_sibling;
  else
    first = n.next_sibling;
  if (n.next_sibling >= 0) node(n.next_sibling).previous_sibling = n.previous_sibling;
  std::int32_t* link = &buckets_[bucket(n.name)];
  while (*link != b) link = &node(*link).next_in_bucket;
  *link = n.next_in_bucket;
  if (n.parent < 0) release_root(n.root);
  n = {};
  --kept_;
  ++generation_;
}

void PrefixCache::publish(const Text& text, BlockTable& table, std::size_t index) {
  QW_CHECK(index < table.blocks().size() && index < text.names.size());
  const std::int32_t parent = index == 0 ? -1 : table.blocks()[index - 1], own = table.blocks()[index];
  if (const std::int32_t same = child(text, parent, index); same >= 0) {
    if (same != own) pool_.replace(table, index, same);
    return;
  }
  pool_.keep(own);
  Node& n = node(own);
  n = {};
  n.name = text.names[index];
  n.root = text.root;
  n.parent = parent;
  n.depth = static_cast<std::int32_t>(index);
  std::int64_t at = static_cast<std::int64_t>(index) * block_tokens_;
  std::int32_t* store = token_store_.data() + static_cast<std::int64_t>(own) * block_tokens_;
  for (std::int32_t t = 0; t < block_tokens_; ++t) store[t] = text.token(at++);
  link(own);
}

double PrefixCache::worth(const Node& n) const {
  const double before = static_cast<double>(n.depth) * block_tokens_;
  const double cost = options_.attention_depth > 0 ? 1 + before / options_.attention_depth : 1;
  return options_.states != nullptr && n.snapshots_below == 0 ? cost * kUnusableWorth : cost;
}

void PrefixCache::on_idle(std::int32_t b) {
  Node& n = node(b);
  n.value = clock_ + worth(n);
  if (n.first_child < 0) ends_.push(b, n.value, ++order_);
  ++generation_;
}

void PrefixCache::on_busy(std::int32_t b) {
  if (ends_.contains(b)) ends_.remove(b);
  ++generation_;
}

std::int32_t PrefixCache::give_up() {
  QW_CHECK(!ends_.empty());
  const std::int32_t b = ends_.least(), parent = node(b).parent;
  clock_ = std::max(clock_, ends_.least_value());
  ends_.remove(b);
  unlink(b);
  ++evictions_;
  if (parent >= 0 && node(parent).first_child < 0 && pool_.tables_of(parent) == 0)
    ends_.push(parent, node(parent).value, ++order_);
  return b;
}

void PrefixCache::clear() {
  while (!ends_.empty()) pool_.forget(give_up());
}

// ---- snapshots
// -------------------------------------------------------------------------------------------------------

// Tokens that would be computed again from the snapshot before it.
double PrefixCache::snapshot_worth(std::int32_t b) const {
  std::int32_t before = node(b).parent;
  while (before >= 0 && !has_snapshot(before)) before = node(before).parent;
  return static_cast<double>(node(b).depth - (before < 0 ? -1 : node(before).depth)) * block_tokens_;
}

void PrefixCache::value_snapshot(std::int32_t b) {
  snapshot_values_.push(b, snapshot_clock_ + snapshot_worth(b), ++order_);
}

void PrefixCache::remove_snapshot(std::int32_t b) {
  if (!has_snapshot(b)) return;
  snapshot_values_.remove(b);
  slots_[static_cast<std::size_t>(b)].release();
  --snapshots_;
  for (std::int32_t up = b; up >= 0; up = node(up).parent) --node(up).snapshots_below;
  ++generation_;
}

void PrefixCache::take_snapshot(const BlockTable& table, std::size_t index, const StateSlot& state) {
  QW_CHECK(index < table.blocks().size() && pool_.kept(table.blocks()[index]));
  const std::int32_t b = table.blocks()[index];
  if (options_.snapshots == 0) return;
  if (has_snapshot(b)) {
    snapshot_values_.remove(b);
    return value_snapshot(b);
  }
  if (snapshots_ == options_.snapshots) {
    snapshot_clock_ = std::max(snapshot_clock_, snapshot_values_.least_value());
    remove_snapshot(snapshot_values_.least());
  }
  QW_CHECK(options_.states->tokens(state) == (static_cast<std::int64_t>(index) + 1) * block_tokens_);
  StateSlot& slot = slots_[static_cast<std::size_t>(b)];
  slot = std::move(*options_.states->acquire());  // there are slots for `snapshots` of them
  options_.states->copy(state, slot);
  ++snapshots_;
  for (std::int32_t up = b; up >= 0; up = node(up).parent) ++node(up).snapshots_below;
  value_snapshot(b);
  ++generation_;
}

void PrefixCache::drop_snapshot(const BlockTable& table, std::size_t index) {
  QW_CHECK(index < table.blocks().size());
  remove_snapshot(table.blocks()[index]);
}

// ---- for tests
// -------------------------------------------------------------------------------------------------------

std::string PrefixCache::violation() const {
  std::int32_t kept = 0, snapshots = 0, idle = 0;
  for (std::int32_t b = 0; b < pool_.total_blocks(); ++b) {
    const std::string who = "block " + std::to_string(b);
    const Node& n = node(b);
    const bool busy = pool_.tables_of(b) > 0;
    snapshots += has_snapshot(b);
    if (!pool_.kept(b)) {
      if (n.root >= 0 || has_snapshot(b)) return who + " is known but not kept";
      continue;
    }
    ++kept;
    idle += !busy;
    if (n.root < 0) return who + " is kept but not known";
    if (n.parent >= 0 && !pool_.kept(n.parent)) return who + " follows one that is not kept";
    if (busy && n.parent >= 0 && pool_.tables_of(n.parent) == 0) return who + " is in a table without those before it";
    if (ends_.contains(b) != (!busy && n.first_child < 0)) return who + " is wrongly taken for an end, or not";
    if (has_snapshot(b) != snapshot_values_.contains(b)) return who + " has a snapshot of no value, or none of value";
    if (n.depth != (n.parent < 0 ? 0 : node(n.parent).depth + 1)) return who + " has the wrong depth";
  }
  if (kept != kept_) return "the number of kept blocks is wrong";
  if (idle != pool_.idle_blocks()) return "the number of idle blocks is wrong";
  if (snapshots != snapshots_ || snapshots > options_.snapshots) return "the number of snapshots is wrong";
  return "";
}

}  // namespace qw::kvcache
