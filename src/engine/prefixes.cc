// What the engine asks the prefix cache and tells it, on the stepping thread (names are made where requests are
// submitted).
#include <algorithm>
#include <vector>

#include "engine/engine.h"
#include "engine/internal/sequence.h"

namespace qw::engine {
namespace {

// Tokens between the snapshots of a state that are taken while an answer grows: copying a state costs about what a
// token's step reads of it, so one in 256 is not felt, and a preempted answer goes back by half as many on average.
constexpr std::int64_t kRollingTokens = 256;

// Calls f with the sequence's text as the cache wants it.
template <class Seq, class F>
auto with_text(const Seq& s, F f) {
  const auto token = [&s](std::int64_t p) { return s.token(p); };
  return f(kvcache::PrefixCache::Text{s.root, s.names, s.length(), token});
}

}  // namespace

// Names the whole blocks of what is known of the text. All room was taken by the first call.
void Engine::name_blocks(Sequence& s) const {
  if (config_.prefixes == nullptr) return;
  const std::int64_t block = pool_.shape().block_tokens;
  if (s.names.capacity() == 0) s.names.reserve(static_cast<std::size_t>(pool_.blocks_for(s.limit())) + 1);
  std::uint64_t before = s.names.empty() ? config_.prefixes->name(s.prefix_key) : s.names.back();
  while (static_cast<std::int64_t>(s.names.size() + 1) * block <= s.length()) {
    const std::int64_t begin = static_cast<std::int64_t>(s.names.size()) * block;
    for (std::int64_t p = begin; p < begin + block; ++p) before = config_.prefixes->name(before, s.token(p));
    s.names.push_back(before);
  }
}

bool Engine::knows_prefix(const Sequence& s) const {
  return config_.prefixes != nullptr && s.match_generation == config_.prefixes->generation();
}

// Looks up a waiting sequence; false if all was known already.
bool Engine::find_prefix(Sequence& s) {
  if (config_.prefixes == nullptr || knows_prefix(s)) return false;
  s.match = with_text(s, [&](const auto& text) { return config_.prefixes->find(text, s.may_be_cached()); });
  s.match_generation = config_.prefixes->generation();
  s.held_back = awaits_another(s);
  return true;
}

// Does a running sequence compute right now what this one could share? (Copies of one prompt that come together, or
// prompts of one beginning: it is computed once.) With states, that one is asked for a snapshot where the two part.
bool Engine::awaits_another(const Sequence& s) {
  const std::int64_t block = pool_.shape().block_tokens;
  const auto next = static_cast<std::size_t>(s.match.known);
  if (next >= s.names.size() || (s.match.known + 1) * block > s.may_be_cached()) return false;
  if (config_.states != nullptr && config_.prefixes->most_snapshots() == 0) return false;
  for (const auto& other : sequences_) {
    Sequence& r = *other;
    if (!r.running || r.priority < s.priority || r.length() - r.computed < 2 || r.root != s.root) continue;
    if (next >= r.names.size() || r.names[next] != s.names[next]) continue;
    if (config_.states == nullptr) return true;
    const auto [mine, theirs] = std::mismatch(s.names.begin(), s.names.end(), r.names.begin(), r.names.end());
    const std::int64_t parting = std::min((mine - s.names.begin()) * block, s.may_be_cached() / block * block);
    if (parting <= r.computed) continue;
    if (r.branch_at <= r.computed || parting < r.branch_at) r.branch_at = parting;
    return true;
  }
  return false;
}

// Of a sequence that begins to run: takes `cached` tokens of what was found (all, or the whole blocks).
void Engine::take_prefix(Sequence& s, std::int64_t cached) {
  const std::int64_t block = pool_.shape().block_tokens;
  if (config_.prefixes != nullptr) {
    kvcache::PrefixMatch match = s.match;
    if (cached == 0) match.whole = 0;  // and what was found before may be gone
    match.partial = match.partial && cached > match.whole * block;
    match.tokens = cached;
    with_text(s, [&](const auto& text) { config_.prefixes->share(text, match, s.table, s.state); });
    s.published = static_cast<std::size_t>(match.whole);
    if (match.known > match.whole) s.branch_at = match.known * block;
  }
  s.computed = cached;
  s.rolling = -1;
  if (s.cached_tokens >= 0) return;
  s.cached_tokens = std::min(cached, s.sampler.prompt_tokens());
  totals_.cached_tokens += s.cached_tokens;
}

// Publishes the whole blocks that are computed.
void Engine::keep_prefix(Sequence& s) {
  if (config_.prefixes == nullptr) return;
  name_blocks(s);
  const std::int64_t block = pool_.shape().block_tokens;
  while (static_cast<std::int64_t>(s.published + 1) * block <= s.computed)
    with_text(s, [&](const auto& text) { config_.prefixes->publish(text, s.table, s.published++); });
}

// Where a snapshot of the state will be taken next (0: nowhere): where other texts part from this one, behind the last
// whole block of the prompt that a request with the same prompt can use, and now and then in the answer.
std::int64_t Engine::next_snapshot(const Sequence& s) const {
  if (config_.prefixes == nullptr || config_.states == nullptr || config_.prefixes->most_snapshots() == 0) return 0;
  const std::int64_t block = pool_.shape().block_tokens, prompt = s.sampler.prompt_tokens();
  const std::int64_t prompt_end = (prompt - 1) / block * block;
  const std::int64_t step = std::max(block, kRollingTokens / block * block);
  std::int64_t next = 0;
  const auto consider = [&](std::int64_t at) {
    if (at > s.computed && (next == 0 || at < next)) next = at;
  };
  consider(s.branch_at);
  consider(prompt_end);
  if (s.computed >= prompt) consider((s.computed / step + 1) * step);
  return next;
}

// A snapshot of the state as it is, if it stands behind a whole block.
void Engine::keep_state(Sequence& s) {
  const std::int64_t block = pool_.shape().block_tokens, prompt = s.sampler.prompt_tokens();
  if (config_.prefixes == nullptr || config_.states == nullptr || s.computed == 0 || s.computed % block != 0) return;
  const std::int64_t index = s.computed / block - 1;
  config_.prefixes->take_snapshot(s.table, static_cast<std::size_t>(index), s.state);
  if (s.computed <= prompt || s.computed == s.branch_at) return;
  if (s.rolling >= 0) config_.prefixes->drop_snapshot(s.table, static_cast<std::size_t>(s.rolling));
  s.rolling = index;
}

}  // namespace qw::engine
