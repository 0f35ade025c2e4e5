// Byte-pair merging of one piece (Sennrich, Haddow and Birch, "Neural machine translation of rare words with subword
// units", ACL 2016, on bytes): again and again the adjacent pair of lowest rank, the leftmost of equals, becomes one.
//
// Nearly every vocabulary is orderly: a token is made by one merge only, of parts that earlier merges make. Then two
// facts hold. Merging a piece is making the merges one after another in order of rank. And a list of tokens is what
// merging makes of its bytes if and only if each two neighbours are what merging makes of theirs (Antonov and Neubeck,
// "So many tokens, so little time", GitHub 2024). So the tokens are found from left to right: the longest that may
// stand behind the one before, and a step back where none may. That takes linear time and touches a token once; a
// vocabulary that is not orderly is merged pair by pair.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/huge_vector.h"
#include "base/result.h"
#include "tokenizer/internal/char_pairs.h"
#include "tokenizer/internal/encode_cache.h"
#include "tokenizer/internal/merge_table.h"
#include "tokenizer/internal/pair_map.h"
#include "tokenizer/internal/pre_tokenizer.h"
#include "tokenizer/internal/string_index.h"
#include "tokenizer/internal/token_trie.h"
#include "tokenizer/internal/word_table.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

class Bpe {
 public:
  // What a call of encode needs; keep one and use it again. One thread at a time. `cache` must be that thread's.
  struct Scratch {
    std::vector<TokenId> ids, found;
    std::vector<std::uint32_t> ranks, previous, next;
    std::vector<std::uint64_t> heap, open;
    EncodeCache* cache = nullptr;  // see cache_of_thread()
  };
  // Ids on their way into a vector: room for a few more can be taken for granted.
  class IdBlock {
   public:
    explicit IdBlock(std::vector<TokenId>& out) : out_(&out) {}
    TokenId* end() { return ids_.data() + size_; }
    // Ids written at end(), no more than kRoom since the last flush_if_full.
    void take(std::size_t count) { size_ += count; }
    void flush_if_full() {
      if (size_ > ids_.size() - kRoom) flush();
    }
    void flush() {
      out_->insert(out_->end(), ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(size_));
      size_ = 0;
    }

    static constexpr std::size_t kRoom = 2 * PieceScanner::kMarkBytes;

   private:
    std::vector<TokenId>* out_;
    std::size_t size_ = 0;
    std::array<TokenId, 1024> ids_;
  };

  // `tokens` must outlive the object. Fails if a byte has no token, a token occurs twice, or a merge names something
  // that is no token.
  static Result<Bpe> create(std::span<const std::string> tokens,
                            std::span<const std::pair<std::string, std::string>> merges);

  // Appends the ids of a piece of 1 byte to less than 4 GiB. Memory up to `readable`, at or after the end of the piece,
  // may be read. Time is linear if the vocabulary is orderly, else n log n.
  void encode(std::string_view piece, const char* readable, Scratch& scratch, std::vector<TokenId>& out) const {
    if (piece.size() > WordTable::kMaxBytes) return encode_unknown(piece, nullptr, scratch, out);
    const WordTable::Key key(piece, readable);
    if (const EncodeCache::Word* word = scratch.cache->find(key)) {
      out.insert(out.end(), word->ids, word->ids + word->count);
      return;
    }
    encode_unknown(piece, &key, scratch, out);
  }
  // Encodes what begins at `text`, where the marks were made, up to a place where more can be marked: returns how many
  // bytes, 0 if the first piece does not end among the marked. kReadAhead bytes behind them must be readable.
  static constexpr std::size_t kReadAhead = WordTable::kMaxBytes;
  std::size_t encode_marked(const char* text, const PieceScanner::Marks& marks, Scratch& scratch, IdBlock& out) const;
  // This thread's memory of what was found before, emptied if that was for another vocabulary.
  EncodeCache* cache_of_thread() const;
  std::optional<TokenId> find(std::string_view token) const;

 private:
  static constexpr std::uint32_t kNoRank = ~std::uint32_t{0};
  using IdPair = std::pair<TokenId, TokenId>;
  // What is asked of a token while neighbours are checked, half a cache line. Sets of 64 bits may hold more than they
  // should, never less. A token's right spine is the token, its right part, the right part of that, and so on to a
  // byte.
  struct alignas(32) Node {
    std::uint64_t merge = 0;      // the merge that makes it: order (see below) << 40 | left << 20 | right
    std::uint64_t partners = 0;   // partner_bit of all tokens that a merge joins to the front of this one
    std::uint64_t followers = 0;  // byte_bit of the first bytes of what merges join to the back of its right spine
    std::uint64_t leaders = 0;    // byte_bit of the last bytes of what merges join to the front of its left spine

    // Rank of the merge plus 1; 0 if there is none.
    std::uint32_t order() const { return static_cast<std::uint32_t>(merge >> 40); }
    TokenId left() const { return static_cast<TokenId>((merge >> 20) & 0xFFFFF); }
    TokenId right() const { return static_cast<TokenId>(merge & 0xFFFFF); }
  };
  static int byte_bit(char c) { return static_cast<unsigned char>(c) >> 2; }
  static int partner_bit(TokenId id) { return static_cast<int>((static_cast<std::uint32_t>(id) * 0x9E3779B9u) >> 26); }

  explicit Bpe(std::span<const std::string> tokens)
      : tokens_(tokens), index_(tokens.size()), char_pairs_(CharPairs::of(tokens)) {}
  Status index_tokens();
  // The merges by id; fills merged_.
  Result<std::vector<IdPair>> read_merges(std::span<const std::pair<std::string, std::string>> merges);
  // Fills nodes_, sizes_ and table_; false if the vocabulary is not orderly.
  bool find_nodes(std::span<const IdPair> merges);
  void find_followers(std::span<const IdPair> merges);
  void index_ranks(std::span<const IdPair> merges);
  std::vector<bool> whole_by_nodes() const;
  std::vector<bool> whole_by_merging() const;
  // Tables of the whole tokens, those that merging makes of their own bytes. No other token comes out of any piece.
  // False if the vocabulary is too large for a trie.
  bool index_trie(const std::vector<bool>& whole);
  void index_words(const std::vector<bool>& whole);
  // Rank of the merge of a pair, or kNoRank. Most pairs have none, which the filter knows without leaving the cache.
  std::uint32_t rank_of(TokenId left, TokenId right) const {
    const std::uint64_t key = pair_key(left, right), bit = filter_bit(key);
    if (((filter_[bit / 64] >> (bit % 64)) & 1) == 0) return kNoRank;
    const std::uint32_t* found = ranks_.find(key);
    return found != nullptr ? *found : kNoRank;
  }
  std::uint64_t filter_bit(std::uint64_t key) const { return (key * 0xD6E8FEB86659FD93u) >> filter_shift_; }
  const Node& node(TokenId id) const { return nodes_[static_cast<std::size_t>(id)]; }
  // Two tokens side by side, and the bytes where they meet.
  struct Seam {
    TokenId left, right;
    char last, first;
  };
  bool stay_apart(Seam seam, std::uint32_t before) const;
  // stay_apart for good, remembered.
  bool may_follow(const Seam& seam, EncodeCache& cache) const;
  void encode_unknown(std::string_view piece, const WordTable::Key* key, Scratch& scratch,
                      std::vector<TokenId>& out) const;
  TokenId* encode_into(std::string_view piece, const WordTable::Key* key, Scratch& scratch, TokenId* ids) const;
  void find_tokens(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;
  void merge_pairs(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;
  void merge_short(std::string_view piece, std::vector<TokenId>& out) const;
  void merge_long(std::string_view piece, Scratch& scratch, std::vector<TokenId>& out) const;

  std::uint64_t serial_ = 0;  // no other object of the process has it
  std::span<const std::string> tokens_;
  StringIndex index_;
  std::array<TokenId, 256> byte_ids_{};
  std::vector<TokenId> merged_;  // rank -> id of the token that the pair becomes
  WordTable words_;
  CharPairs char_pairs_;
  bool orderly_ = false;
  // Of an orderly vocabulary, by id:
  base::HugeVector<Node> nodes_;
  base::HugeVector<std::uint32_t> sizes_;  // in bytes
  base::HugeVector<TokenId> shorter_;      // the longest other token that the token begins with, or -1
  MergeTable table_;
  TokenTrie trie_;
  // Of any other, which is merged pair by pair:
  PairMap<std::uint32_t> ranks_;       // pair -> rank
  std::vector<std::uint64_t> filter_;  // one bit a hash of a pair that has a rank
  int filter_shift_ = 0;
  std::vector<std::uint32_t> byte_ranks_;  // [256 * 256]: rank_of two bytes, which is what every piece starts with
};

}  // namespace qw::tokenizer
