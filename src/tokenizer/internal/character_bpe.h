// Byte-pair merging of characters, for vocabularies as SentencePiece makes them (CharacterVocabulary). The whole of a
// section is one piece, so it is cut where no token holds both characters: nothing can be merged across.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tokenizer/internal/pair_map.h"
#include "tokenizer/internal/string_index.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {

// U+2581, which stands for a blank in files.
constexpr std::string_view kBlankSign = "\u2581";

// The section as it is encoded: U+2581 as blanks, and a blank in front where `blank` says so. `first`: it begins the
// text.
std::string with_blanks(std::string_view section, CharacterVocabulary::Blank blank, bool first);
// The reverse of reading a token from a file: blanks as U+2581.
std::string blank_signs(std::string_view token);
// <0x41> is 65; nothing if the text has another form.
std::optional<int> byte_of_name(std::string_view name);
std::string name_of_byte(int byte);

class CharacterBpe {
 public:
  // `tokens` must outlive the object. Bad input if bytes are not 256 tokens that are those bytes, a token occurs twice,
  // or a merge names something that is no token.
  static Result<CharacterBpe> create(std::span<const std::string> tokens,
                                     std::span<const std::pair<std::string, std::string>> merges,
                                     std::span<const TokenId> bytes);
  // Appends the ids of any bytes. Time is n log n.
  void encode(std::string_view text, std::vector<TokenId>& out) const;
  // By text; tokens of bytes are not found.
  std::optional<TokenId> find(std::string_view token) const;

 private:
  struct Merge {
    std::uint32_t rank = 0;
    TokenId id = 0;
  };

  explicit CharacterBpe(std::span<const std::string> tokens) : tokens_(tokens), index_(tokens.size()) {}
  Status index_bytes(std::span<const TokenId> bytes);
  Status index_tokens();
  Status index_merges(std::span<const std::pair<std::string, std::string>> merges);
  void index_neighbours(std::string_view token);
  // The token that is this character, or -1.
  TokenId id_of(std::uint32_t code) const {
    if (code < ascii_.size()) return ascii_[code];
    const TokenId* found = wide_.find(pair_key(0, static_cast<TokenId>(code)));
    return found != nullptr ? *found : -1;
  }
  // Merges the symbols and appends what becomes of them.
  void merge(std::vector<TokenId>& symbols, std::vector<TokenId>& out) const;
  void merge_short(std::vector<TokenId>& symbols) const;
  void merge_long(std::vector<TokenId>& symbols) const;
  const Merge* merge_of(TokenId left, TokenId right) const { return merges_.find(pair_key(left, right)); }

  std::span<const std::string> tokens_;
  std::vector<bool> is_byte_;  // by id
  StringIndex index_;
  std::array<TokenId, 256> bytes_{};
  std::array<TokenId, 128> ascii_{};
  PairMap<TokenId> wide_;     // (0, code) -> id
  PairMap<Merge> merges_;     // by pair
  PairMap<bool> neighbours_;  // tokens of two characters that some merge's token holds side by side
};

}  // namespace qw::tokenizer
