#include "tokenizer/internal/bpe.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <future>

#include "tokenizer/internal/shown.h"

namespace qw::tokenizer {
namespace {

// Up to here looking at every pair for the lowest rank is faster than a heap.
constexpr std::size_t kShortBytes = 96;

}  // namespace

EncodeCache* Bpe::cache_of_thread() const {
  thread_local EncodeCache cache;
  cache.begin(serial_);
  return &cache;
}

Result<Bpe> Bpe::create(std::span<const std::string> tokens,
                        std::span<const std::pair<std::string, std::string>> merges) {
  static std::atomic<std::uint64_t> last_serial = 0;
  Bpe bpe(tokens);
  bpe.serial_ = ++last_serial;
  QW_TRY(bpe.index_tokens());
  QW_ASSIGN(const std::vector<IdPair> pairs, bpe.read_merges(merges));
  if (bpe.find_nodes(pairs) && bpe.index_trie(bpe.whole_by_nodes())) {
    bpe.orderly_ = true;
    return bpe;
  }
  bpe.index_ranks(pairs);
  bpe.index_words(bpe.whole_by_merging());
  return bpe;
}

Status Bpe::index_tokens() {
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    const std::string& token = tokens_[id];
    if (token.empty()) continue;
    if (const auto other = find(token)) {
      return fail(ErrorKind::kBadInput, "vocabulary: ids " + std::to_string(*other) + " and " + std::to_string(id) +
                                            " are the same token " + shown_token(token));
    }
    index_.insert(token, static_cast<std::uint32_t>(id));
  }
  for (int byte = 0; byte < 256; ++byte) {
    const std::string token(1, static_cast<char>(byte));
    const auto id = find(token);
    if (!id) return fail(ErrorKind::kBadInput, "vocabulary: no token for byte " + std::to_string(byte));
    byte_ids_[static_cast<std::size_t>(byte)] = *id;
  }
  return {};
}

Result<std::vector<Bpe::IdPair>> Bpe::read_merges(std::span<const std::pair<std::string, std::string>> merges) {
  std::vector<IdPair> pairs(merges.size());
  merged_.resize(merges.size());
  const auto look_up = [&](std::size_t begin, std::size_t end) -> Status {
    std::string joined;
    for (std::size_t rank = begin; rank < end; ++rank) {
      const auto& [left, right] = merges[rank];
      joined.assign(left).append(right);
      const auto left_id = find(left), right_id = find(right), id = find(joined);
      if (!left_id || !right_id || !id || left.empty() || right.empty()) {
        const std::string& missing = !left_id ? left : !right_id ? right : joined;
        return fail(ErrorKind::kBadInput,
                    "merge " + std::to_string(rank) + ": " + shown_token(missing) + " is not in the vocabulary");
      }
      pairs[rank] = {*left_id, *right_id};
      merged_[rank] = *id;
    }
    return {};
  };
  // Most of a vocabulary's making is waiting for what such look-ups read here and there: on two processors, if there are.
  auto second = std::async(std::launch::async, look_up, merges.size() / 2, merges.size());
  QW_TRY(look_up(0, merges.size() / 2));
  QW_TRY(second.get());
  return pairs;
}

bool Bpe::find_nodes(std::span<const IdPair> merges) {
  if (tokens_.size() > MergeTable::kMaxIds || merges.size() > MergeTable::kMaxRanks) return false;
  std::vector<std::uint32_t> order(tokens_.size());
  for (std::uint32_t rank = 0; rank < merges.size(); ++rank) {
    std::uint32_t& made = order[static_cast<std::size_t>(merged_[rank])];
    if (made != 0) return false;
    made = rank + 1;
  }
  nodes_.resize(tokens_.size());
  table_.reserve(merges.size());
  for (std::uint32_t rank = 0; rank < merges.size(); ++rank) {
    const auto left = static_cast<std::size_t>(merges[rank].first),
               right = static_cast<std::size_t>(merges[rank].second);
    if (order[left] > rank || order[right] > rank) return false;
    nodes_[static_cast<std::size_t>(merged_[rank])].merge = (std::uint64_t{rank + 1} << 40) | (left << 20) | right;
    nodes_[right].partners |= std::uint64_t{1} << partner_bit(merges[rank].first);
    table_.set(merges[rank].first, merges[rank].second, rank);
  }
  find_followers(merges);
  sizes_.reserve(tokens_.size());
  for (const std::string& token : tokens_) sizes_.push_back(static_cast<std::uint32_t>(token.size()));
  return true;
}

// First each token's own, then the spines', whose parts have lower ranks.
void Bpe::find_followers(std::span<const IdPair> merges) {
  for (const auto& [left, right] : merges) {
    nodes_[static_cast<std::size_t>(left)].followers |= std::uint64_t{1}
                                                        << byte_bit(tokens_[static_cast<std::size_t>(right)].front());
    nodes_[static_cast<std::size_t>(right)].leaders |= std::uint64_t{1}
                                                       << byte_bit(tokens_[static_cast<std::size_t>(left)].back());
  }
  for (const TokenId id : merged_) {
    Node& made = nodes_[static_cast<std::size_t>(id)];
    made.followers |= node(made.right()).followers;
    made.leaders |= node(made.left()).leaders;
  }
}

std::vector<bool> Bpe::whole_by_nodes() const {
  std::vector<bool> whole(tokens_.size());
  for (const TokenId id : byte_ids_) whole[static_cast<std::size_t>(id)] = true;
  for (const TokenId id : merged_) {
    const Node& made = node(id);
    const auto left = static_cast<std::size_t>(made.left()), right = static_cast<std::size_t>(made.right());
    const Seam seam{made.left(), made.right(), tokens_[left].back(), tokens_[right].front()};
    whole[static_cast<std::size_t>(id)] = whole[left] && whole[right] && stay_apart(seam, made.order() - 1);
  }
  return whole;
}

bool Bpe::index_trie(const std::vector<bool>& whole) {
  std::vector<TokenTrie::Entry> entries;
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    if (whole[id]) entries.push_back({tokens_[id], static_cast<TokenId>(id)});
  }
  shorter_.assign(tokens_.size(), -1);
  auto words = std::async(std::launch::async, [&] { index_words(whole); });
  auto trie = TokenTrie::build(std::move(entries), shorter_);
  words.get();
  if (!trie) return false;
  trie_ = std::move(*trie);
  return true;
}

void Bpe::index_words(const std::vector<bool>& whole) {
  const auto is_word = [&](std::size_t id) { return whole[id] && tokens_[id].size() <= WordTable::kMaxBytes; };
  std::size_t words = 0;
  for (std::size_t id = 0; id < tokens_.size(); ++id) words += is_word(id);
  words_.reserve(words);
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    if (is_word(id)) words_.insert(tokens_[id], static_cast<TokenId>(id));
  }
}

void Bpe::index_ranks(std::span<const IdPair> merges) {
  ranks_ = PairMap<std::uint32_t>(merges.size());
  // 16 to 32 bits a pair let 3 to 6 % of the others through; for 150 000 merges they are 512 KiB.
  const std::size_t bits = std::bit_ceil(merges.size() * 16 + 64);
  filter_.assign(bits / 64, 0);
  filter_shift_ = 64 - std::countr_zero(bits);
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::uint64_t key = pair_key(merges[rank].first, merges[rank].second), bit = filter_bit(key);
    ranks_[key] = static_cast<std::uint32_t>(rank);
    filter_[bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
  byte_ranks_.resize(256 * 256);
  for (std::size_t a = 0; a < 256; ++a) {
    for (std::size_t b = 0; b < 256; ++b) byte_ranks_[a * 256 + b] = rank_of(byte_ids_[a], byte_ids_[b]);
  }
}

std::vector<bool> Bpe::whole_by_merging() const {
  Scratch scratch;
  std::vector<TokenId> ids;
  std::vector<bool> whole(tokens_.size());
  for (std::size_t id = 0; id < tokens_.size(); ++id) {
    if (tokens_[id].empty()) continue;
    ids.clear();
    merge_pairs(tokens_[id], scratch, ids);
    whole[id] = ids.size() == 1 && ids[0] == static_cast<TokenId>(id);
  }
  return whole;
}

std::optional<TokenId> Bpe::find(std::string_view token) const {
  const auto id = index_.find(token, [&](std::uint32_t i) { return std::string_view(tokens_[i]); });
  return id ? std::optional(static_cast<TokenId>(*id)) : std::nullopt;
}

// Whether no merge of a rank under `before` joins something of `left` to something of `right` when their bytes are
// merged side by side. Undoes their merges, the last first; at each step the two tokens at the seam must have had no
// merge that comes before the one that is undone next. Of merges of one rank the leftmost comes first.
bool Bpe::stay_apart(Seam seam, std::uint32_t before) const {
  auto& [left, right, last_byte, first_byte] = seam;
  const std::uint64_t first = std::uint64_t{1} << byte_bit(first_byte), last = std::uint64_t{1} << byte_bit(last_byte);
  for (;;) {
    const Node &l = node(left), &r = node(right);
    if ((l.followers & first) == 0 || (r.leaders & last) == 0) return true;
    if (((r.partners >> partner_bit(left)) & 1) != 0 && table_.find(left, right) < before) return false;
    if (l.order() > r.order()) {
      before = l.order() - 1;
      left = l.right();
    } else if (r.order() != 0) {
      before = r.order();
      right = r.left();
    } else {
      return true;
    }
  }
}

bool Bpe::may_follow(const Seam& seam, EncodeCache& cache) const {
  const std::uint64_t key = pair_key(seam.left, seam.right) << 1;  // ids have 20 bits
  std::uint64_t& known = cache.pair(key);
  if ((known & ~std::uint64_t{1}) != key) known = key | (stay_apart(seam, kNoRank) ? 1 : 0);
  return (known & 1) != 0;
}

void Bpe::encode_unknown(std::string_view piece, const WordTable::Key* key, Scratch& scratch,
                         std::vector<TokenId>& out) const {
  const std::size_t first = out.size();
  // Few pieces of other scripts are one word; for those the trie's first token is the piece just as soon.
  const bool ascii = static_cast<unsigned char>(piece[0]) < 0x80;
  if (const TokenId id = key != nullptr && (ascii || !orderly_) ? words_.find(*key) : -1; id >= 0)
    out.push_back(id);
  else if (orderly_)
    find_tokens(piece, scratch, out);
  else
    merge_pairs(piece, scratch, out);
  if (key != nullptr) scratch.cache->keep(*key, std::span(out).subspan(first));
}

std::size_t Bpe::encode_marked(const char* text, const PieceScanner::Marks& marks, Scratch& scratch,
                               IdBlock& out) const {
  std::uint64_t starts = marks.starts;
  for (std::uint64_t seams = marks.threes & (marks.threes << 3) & ~starts; seams != 0; seams &= seams - 1) {
    const int at = std::countr_zero(seams);
    starts |= std::uint64_t{!char_pairs_.may_join(text + at)} << at;
  }
  const int size = std::bit_width(starts & (marks.starts | marks.words)) - 1;
  if (size == 0) return 0;
  const EncodeCache& cache = *scratch.cache;
  TokenId* ids = out.end();
  int begin = 0;
  // Those behind the last that counts are shifted out.
  for (std::uint64_t ends = (starts & ~std::uint64_t{1}) << (63 - size) >> (63 - size); ends != 0; ends &= ends - 1) {
    const int end = std::countr_zero(ends);
    const std::string_view piece(text + begin, static_cast<std::size_t>(end - begin));
    begin = end;
    if (piece.size() <= WordTable::kMaxBytes) {
      const WordTable::Key key(piece.data(), static_cast<std::uint32_t>(piece.size()));
      if (const EncodeCache::Word* word = cache.find(key)) {
        std::memcpy(ids, word->ids, sizeof word->ids);  // all of them: which sizes come cannot be foreseen
        ids += word->count;
        continue;
      }
      ids = encode_into(piece, &key, scratch, ids);
    } else {
      ids = encode_into(piece, nullptr, scratch, ids);
    }
  }
  out.take(static_cast<std::size_t>(ids - out.end()));
  return static_cast<std::size_t>(size);
}

TokenId* Bpe::encode_into(std::string_view piece, const WordTable::Key* key, Scratch& scratch, TokenId* ids) const {
  scratch.found.clear();
  encode_unknown(piece, key, scratch, scratch.found);
  return std::copy(scratch.found.begin(), scratch.found.end(), ids);
}

void Bpe::find_tokens(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const {
  EncodeCache& cache = *scratch.cache;
  const char *const begin = piece.data(), *const end = begin + piece.size();
  // A bit for each place: whether the token list of the bytes before it may be continued there. Up to 63 bytes one word
  // is enough.
  std::uint64_t one_word = ~std::uint64_t{0};
  std::uint64_t* open = &one_word;
  if (piece.size() >= 64) {
    scratch.open.assign(piece.size() / 64 + 1, ~std::uint64_t{0});
    open = scratch.open.data();
  }
  const std::size_t first = out.size();
  std::size_t at = 0;
  TokenTrie::Match token = trie_.longest(begin, end);
  const auto shorten = [&] {
    token.id = shorter_[static_cast<std::size_t>(token.id)];
    if (token.id >= 0) token.size = sizes_[static_cast<std::size_t>(token.id)];
  };
  for (;;) {
    const TokenId last = out.size() > first ? out.back() : -1;
    for (; token.id >= 0; shorten()) {
      const std::size_t to = at + token.size;
      if (((open[to / 64] >> (to % 64)) & 1) != 0 &&
          (last < 0 || may_follow({last, token.id, begin[at - 1], begin[at]}, cache))) {
        break;
      }
    }
    if (token.id >= 0) {
      out.push_back(token.id);
      at += token.size;
      if (at == piece.size()) return;
      token = trie_.longest(begin + at, end);
    } else {
      // Every piece has a list of tokens, so this is never its beginning.
      open[at / 64] &= ~(std::uint64_t{1} << (at % 64));
      token = {last, sizes_[static_cast<std::size_t>(last)]};
      out.pop_back();
      at -= token.size;
    }
  }
}

void Bpe::merge_pairs(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const {
  if (piece.size() > kShortBytes)
    merge_long(piece, scratch, out);
  else
    merge_short(piece, out);
}

void Bpe::merge_short(std::string_view piece, std::vector<TokenId>& out) const {
  std::array<TokenId, kShortBytes> ids;
  std::array<std::uint32_t, kShortBytes> ranks;  // of the pair (i, i + 1)
  std::size_t n = piece.size();
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(piece[i]); };
  for (std::size_t i = 0; i < n; ++i) {
    ids[i] = byte_ids_[byte(i)];
    ranks[i] = i + 1 < n ? byte_ranks_[byte(i) * 256u + byte(i + 1)] : kNoRank;
  }
  const auto look_up = [&](std::size_t i) { ranks[i] = i + 1 < n ? rank_of(ids[i], ids[i + 1]) : kNoRank; };
  while (n > 1) {
    std::uint32_t least = kNoRank;
    for (std::size_t i = 0; i < n; ++i) least = std::min(least, ranks[i]);
    if (least == kNoRank) break;
    const auto at = static_cast<std::size_t>(std::find(ranks.begin(), ranks.end(), least) - ranks.begin());
    ids[at] = merged_[least];
    std::copy(ids.begin() + at + 2, ids.begin() + n, ids.begin() + at + 1);
    std::copy(ranks.begin() + at + 2, ranks.begin() + n, ranks.begin() + at + 1);
    --n;
    look_up(at);
    if (at > 0) look_up(at - 1);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + n);
}

// A doubly linked list of symbols and a heap of (rank, position). A heap entry is stale when its position no longer
// has that rank; ranks are one to one with pairs.
void Bpe::merge_long(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const {
  QW_CHECK(piece.size() < kNoRank);
  const auto n = static_cast<std::uint32_t>(piece.size());
  auto& ids = scratch.ids;
  auto &ranks = scratch.ranks, &previous = scratch.previous, &next = scratch.next;
  auto& heap = scratch.heap;
  ids.resize(n);
  ranks.resize(n);
  previous.resize(n);
  next.resize(n);
  heap.clear();
  const auto entry = [](std::uint32_t rank, std::uint32_t at) { return (std::uint64_t{rank} << 32) | at; };
  for (std::uint32_t i = 0; i < n; ++i) {
    const auto byte = static_cast<unsigned char>(piece[i]);
    ids[i] = byte_ids_[byte];
    previous[i] = i - 1;  // wraps to kNoRank at 0
    next[i] = i + 1;
    ranks[i] = i + 1 < n ? byte_ranks_[byte * 256u + static_cast<unsigned char>(piece[i + 1])] : kNoRank;
    if (ranks[i] != kNoRank) heap.push_back(entry(ranks[i], i));
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto look_up = [&](std::uint32_t at) {
    ranks[at] = next[at] < n ? rank_of(ids[at], ids[next[at]]) : kNoRank;
    if (ranks[at] == kNoRank) return;
    heap.push_back(entry(ranks[at], at));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto rank = static_cast<std::uint32_t>(heap.back() >> 32), at = static_cast<std::uint32_t>(heap.back());
    heap.pop_back();
    if (ranks[at] != rank) continue;
    const std::uint32_t right = next[at];
    ids[at] = merged_[rank];
    ranks[right] = kNoRank;
    next[at] = next[right];
    if (next[at] < n) previous[next[at]] = at;
    look_up(at);
    if (previous[at] != kNoRank) look_up(previous[at]);
  }
  for (std::uint32_t i = 0; i < n; i = next[i]) out.push_back(ids[i]);
}

}  // namespace qw::tokenizer
