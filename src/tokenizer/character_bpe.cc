#include "tokenizer/internal/character_bpe.h"

#include <algorithm>
#include <functional>

#include "base/utf8.h"
#include "tokenizer/internal/shown.h"

namespace qw::tokenizer {
namespace {

using Blank = CharacterVocabulary::Blank;

// Up to here looking at every pair for the lowest rank is faster than a heap.
constexpr std::size_t kShortSymbols = 32;

}  // namespace

std::string with_blanks(std::string_view section, Blank blank, bool first) {
  const bool there = section.starts_with(' ') || section.starts_with(kBlankSign);
  const bool put = blank == Blank::kAlways || (blank == Blank::kUnlessThere && !there) ||
                   (blank == Blank::kFirstUnlessThere && first && !there);
  std::string text = put ? " " : "";
  text.reserve(section.size() + 1);
  for (std::size_t from = 0;;) {
    const std::size_t at = section.find(kBlankSign, from);
    text += section.substr(from, at - from);
    if (at == std::string_view::npos) return text;
    text += ' ';
    from = at + kBlankSign.size();
  }
}

std::string blank_signs(std::string_view token) {
  std::string text;
  for (const char c : token) {
    if (c == ' ')
      text += kBlankSign;
    else
      text += c;
  }
  return text;
}

std::optional<int> byte_of_name(std::string_view name) {
  if (name.size() != 6 || !name.starts_with("<0x") || name[5] != '>') return std::nullopt;
  int byte = 0;
  for (const char c : name.substr(3, 2)) {
    if (c >= '0' && c <= '9')
      byte = byte * 16 + (c - '0');
    else if (c >= 'A' && c <= 'F')
      byte = byte * 16 + (c - 'A' + 10);
    else
      return std::nullopt;
  }
  return byte;
}

std::string name_of_byte(int byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[static_cast<std::size_t>(byte >> 4)], kDigits[static_cast<std::size_t>(byte & 15)],
          '>'};
}

Result<CharacterBpe> CharacterBpe::create(std::span<const std::string> tokens,
                                          std::span<const std::pair<std::string, std::string>> merges,
                                          std::span<const TokenId> bytes) {
  CharacterBpe bpe(tokens);
  QW_TRY(bpe.index_bytes(bytes));
  QW_TRY(bpe.index_tokens());
  QW_TRY(bpe.index_merges(merges));
  return bpe;
}

Status CharacterBpe::index_bytes(std::span<const TokenId> bytes) {
  is_byte_.resize(tokens_.size());
  if (bytes.size() != bytes_.size()) return fail(ErrorKind::kBadInput, "vocabulary: tokens of bytes are missing");
  for (std::size_t byte = 0; byte < bytes.size(); ++byte) {
    const auto id = static_cast<std::size_t>(bytes[byte]);
    if (bytes[byte] < 0 || id >= tokens_.size() || tokens_[id] != std::string(1, static_cast<char>(byte))) {
      return fail(ErrorKind::kBadInput, "vocabulary: no token for byte " + std::to_string(byte));
    }
    is_byte_[id] = true;
    bytes_[byte] = bytes[byte];
  }
  return {};
}

Status CharacterBpe::index_tokens() {
  ascii_.fill(-1);
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::string& token = tokens_[i];
    if (token.empty() || is_byte_[i]) continue;
    const auto id = static_cast<TokenId>(i);
    if (const auto other = find(token)) {
      return fail(ErrorKind::kBadInput, "vocabulary: ids " + std::to_string(*other) + " and " + std::to_string(id) +
                                            " are the same token " + shown_token(token));
    }
    index_.insert(token, static_cast<std::uint32_t>(i));
    const base::Utf8Char c = base::utf8_at(token, 0);
    if (c.code == base::kInvalidCode || c.size != token.size()) continue;
    (c.code < ascii_.size() ? ascii_[c.code] : wide_[pair_key(0, static_cast<TokenId>(c.code))]) = id;
  }
  return {};
}

Status CharacterBpe::index_merges(std::span<const std::pair<std::string, std::string>> merges) {
  std::string joined;
  std::uint32_t rank = 0;
  for (const auto& [left, right] : merges) {
    joined.assign(left).append(right);
    const auto left_id = find(left), right_id = find(right), id = find(joined);
    if (!left_id || !right_id || !id) {
      const std::string& missing = !left_id ? left : !right_id ? right : joined;
      return fail(ErrorKind::kBadInput,
                  "merge " + std::to_string(rank) + ": " + shown_token(missing) + " is not in the vocabulary");
    }
    merges_[pair_key(*left_id, *right_id)] = {rank++, *id};
    index_neighbours(joined);
  }
  return {};
}

void CharacterBpe::index_neighbours(std::string_view token) {
  TokenId last = -1;
  for (std::size_t at = 0; at < token.size();) {
    const base::Utf8Char c = base::utf8_at(token, at);
    const TokenId id = c.code == base::kInvalidCode ? -1 : id_of(c.code);
    if (last >= 0 && id >= 0) neighbours_[pair_key(last, id)] = true;
    last = id;
    at += c.size;
  }
}

std::optional<TokenId> CharacterBpe::find(std::string_view token) const {
  const auto id = index_.find(token, [&](std::uint32_t i) { return std::string_view(tokens_[i]); });
  return id ? std::optional(static_cast<TokenId>(*id)) : std::nullopt;
}

void CharacterBpe::encode(std::string_view text, std::vector<TokenId>& out) const {
  std::vector<TokenId> symbols;
  TokenId last = -1;
  for (std::size_t at = 0; at < text.size();) {
    const base::Utf8Char c = base::utf8_at(text, at);
    const TokenId id = c.code == base::kInvalidCode ? -1 : id_of(c.code);
    if (id < 0 || (last >= 0 && neighbours_.find(pair_key(last, id)) == nullptr)) merge(symbols, out);
    if (id >= 0) {
      symbols.push_back(id);
    } else {
      for (const char byte : text.substr(at, c.size)) out.push_back(bytes_[static_cast<unsigned char>(byte)]);
    }
    last = id;
    at += c.size;
  }
  merge(symbols, out);
}

void CharacterBpe::merge(std::vector<TokenId>& symbols, std::vector<TokenId>& out) const {
  if (symbols.size() > kShortSymbols)
    merge_long(symbols);
  else
    merge_short(symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
  symbols.clear();
}

void CharacterBpe::merge_short(std::vector<TokenId>& symbols) const {
  while (symbols.size() > 1) {
    const Merge* best = nullptr;
    std::size_t best_at = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const Merge* found = merge_of(symbols[i], symbols[i + 1]);
      if (found != nullptr && (best == nullptr || found->rank < best->rank)) best = found, best_at = i;
    }
    if (best == nullptr) return;
    symbols[best_at] = best->id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
}

// A doubly linked list of symbols and a heap of (rank, position). An entry is stale when the pair at its position no
// longer has that rank.
void CharacterBpe::merge_long(std::vector<TokenId>& symbols) const {
  constexpr std::uint32_t kNone = ~std::uint32_t{0};
  QW_CHECK(symbols.size() < kNone);
  const auto n = static_cast<std::uint32_t>(symbols.size());
  std::vector<std::uint32_t> previous(n), next(n);
  std::vector<std::uint64_t> heap;
  const auto pair_at = [&](std::uint32_t at) -> const Merge* {
    return symbols[at] >= 0 && next[at] < n ? merge_of(symbols[at], symbols[next[at]]) : nullptr;
  };
  const auto push = [&](std::uint32_t at) {
    const Merge* found = pair_at(at);
    if (found == nullptr) return;
    heap.push_back((std::uint64_t{found->rank} << 32) | at);
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  for (std::uint32_t i = 0; i < n; ++i) {
    previous[i] = i - 1;  // wraps to kNone at 0
    next[i] = i + 1;
  }
  for (std::uint32_t i = 0; i < n; ++i) push(i);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto rank = static_cast<std::uint32_t>(heap.back() >> 32), at = static_cast<std::uint32_t>(heap.back());
    heap.pop_back();
    const Merge* found = pair_at(at);
    if (found == nullptr || found->rank != rank) continue;
    const std::uint32_t right = next[at];
    symbols[at] = found->id;
    symbols[right] = -1;
    next[at] = next[right];
    if (next[at] < n) previous[next[at]] = at;
    push(at);
    if (previous[at] != kNone) push(previous[at]);
  }
  std::erase(symbols, -1);
}

}  // namespace qw::tokenizer
