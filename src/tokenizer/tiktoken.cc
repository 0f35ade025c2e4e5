// The vocabulary file of the first Qwen generation.
//
// It has no merges: a pair may merge if its bytes are a token, the lowest token first. The merge that made a token is
// found by merging its bytes with the tokens before it only; what remains are two parts, its merge.
#include <algorithm>
#include <charconv>

#include "base/base64.h"
#include "tokenizer/internal/folder_files.h"
#include "tokenizer/internal/string_index.h"

namespace qw::tokenizer {
namespace {

// Qwen's longest token has 128 bytes; the work for a token grows with its square.
constexpr std::size_t kMaxTokenBytes = 256;
// <|extra_0|> to <|extra_204|> follow the three tokens of ChatML.
constexpr int kExtras = 205;

// Their chats are built by code, not by a template of the checkpoint: a system turn always comes first, with this text if
// the caller has none.
constexpr std::string_view kChatTemplate =
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

Status read_line(std::string_view line, TokenizerSpec& spec) {
  const std::size_t space = line.find(' ');
  const std::string token = base::from_base64(line.substr(0, space)).value_or("");
  std::size_t rank = 0;
  const std::string_view number = space == std::string_view::npos ? "" : line.substr(space + 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), rank);
  const std::string where = "line " + std::to_string(spec.tokens.size() + 1);
  if (token.empty() || error != std::errc() || end != number.data() + number.size()) {
    return fail(ErrorKind::kBadInput, where + ": expected base64 of a token and its rank");
  }
  if (rank != spec.tokens.size())
    return fail(ErrorKind::kBadInput, where + ": rank " + std::to_string(rank) + " out of order");
  if (token.size() > kMaxTokenBytes) return fail(ErrorKind::kBadInput, where + ": token of over 256 bytes");
  spec.tokens.push_back(token);
  return {};
}

// The token's bytes merged with tokens of lower rank, as places where parts begin.
std::vector<std::size_t> parts_of(const TokenizerSpec& spec, const StringIndex& known, std::string_view token) {
  constexpr std::uint32_t kNone = ~std::uint32_t{0};
  std::vector<std::size_t> starts;
  for (std::size_t i = 0; i <= token.size(); ++i) starts.push_back(i);
  const auto rank_at = [&](std::size_t i) {
    if (i + 2 >= starts.size()) return kNone;
    const auto found = known.find(token.substr(starts[i], starts[i + 2] - starts[i]),
                                  [&](std::uint32_t n) { return std::string_view(spec.tokens[n]); });
    return found.value_or(kNone);
  };
  std::vector<std::uint32_t> ranks;
  for (std::size_t i = 0; i < token.size(); ++i) ranks.push_back(rank_at(i));
  for (;;) {
    const auto least = std::min_element(ranks.begin(), ranks.end());
    if (*least == kNone) break;
    const auto at = static_cast<std::size_t>(least - ranks.begin());
    starts.erase(starts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    ranks.erase(ranks.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    ranks[at] = rank_at(at);
    if (at > 0) ranks[at - 1] = rank_at(at - 1);
  }
  return starts;
}

Status derive_merges(TokenizerSpec& spec) {
  StringIndex known(spec.tokens.size());
  const auto is_known = [&](const std::string& token) {
    return known.find(token, [&](std::uint32_t n) { return std::string_view(spec.tokens[n]); }).has_value();
  };
  for (std::size_t rank = 0; rank < spec.tokens.size(); ++rank) {
    const std::string& token = spec.tokens[rank];
    if (is_known(token)) {
      return fail(ErrorKind::kBadInput, "line " + std::to_string(rank + 1) + ": the token is there already");
    }
    if (token.size() > 1) {
      const auto starts = parts_of(spec, known, token);
      if (starts.size() != 3 || !is_known(token.substr(0, starts[1])) || !is_known(token.substr(starts[1]))) {
        return fail(ErrorKind::kBadInput, "line " + std::to_string(rank + 1) + ": no two tokens before make this one");
      }
      spec.merges.emplace_back(token.substr(0, starts[1]), token.substr(starts[1]));
    }
    known.insert(token, static_cast<std::uint32_t>(rank));
  }
  return {};
}

}  // namespace

Status read_tiktoken(const std::string& text, AddedReader& added, TokenizerSpec& spec) {
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    begin = end + 1;
    if (!line.empty()) QW_TRY(read_line(line, spec));
  }
  QW_TRY(derive_merges(spec));
  auto id = static_cast<TokenId>(spec.tokens.size());
  std::vector<std::string> names = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (int i = 0; i < kExtras; ++i) names.push_back("<|extra_" + std::to_string(i) + "|>");
  // That generation normalised the whole text before it looked for special tokens.
  for (std::string& name : names) {
    QW_TRY(added.add("special tokens", {.text = std::move(name), .id = id++, .special = true, .normalized = true}));
  }
  spec.eos = spec.pad = added.find("<|endoftext|>");
  spec.stop = {*spec.eos, *added.find("<|im_end|>")};
  spec.chat_template = kChatTemplate;
  return {};
}

}  // namespace qw::tokenizer
