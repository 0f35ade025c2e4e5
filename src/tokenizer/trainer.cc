#include <algorithm>
#include <queue>

#include "tokenizer/internal/letters.h"
#include "tokenizer/internal/merge_state.h"
#include "tokenizer/tokenizer.h"

namespace qw::tokenizer {
namespace {

// More regular tokens than any public vocabulary has; guards against a slip of the keyboard.
constexpr std::int64_t kMaxVocab = std::int64_t{1} << 22;

struct Candidate {
  std::int64_t count;
  TokenId left, right;
  std::uint32_t pair;
  // The heap's top: largest count, then smallest pair of ids.
  friend bool operator<(const Candidate& a, const Candidate& b) {
    if (a.count != b.count) return a.count < b.count;
    return std::pair(a.left, a.right) > std::pair(b.left, b.right);
  }
};

Status check_options(const TrainOptions& options) {
  if (!pre_tokenizer_named(options.pre_tokenizer)) {
    return fail(ErrorKind::kUsage, "unknown pre-tokeniser \"" + options.pre_tokenizer + "\"");
  }
  if (options.vocab < 256 || options.vocab > kMaxVocab) {
    return fail(ErrorKind::kUsage, "vocabulary of " + std::to_string(options.vocab) + ": must be 256 (the bytes) to " +
                                       std::to_string(kMaxVocab));
  }
  if (options.min_frequency < 1) return fail(ErrorKind::kUsage, "min_frequency must be at least 1");
  return {};
}

// Learns merges until the vocabulary is full or no pair is frequent enough. Appends to spec.tokens and spec.merges.
void learn(MergeState& state, const TrainOptions& options, TokenizerSpec& spec,
           const std::function<void(std::int64_t, std::int64_t)>& progress) {
  StringIndex known;
  const auto string_of = [&](std::uint32_t i) { return std::string_view(spec.tokens[i]); };
  for (std::size_t i = 0; i < spec.tokens.size(); ++i) known.insert(spec.tokens[i], static_cast<std::uint32_t>(i));
  std::priority_queue<Candidate> queue;
  const auto push = [&](std::uint32_t i) {
    const auto& p = state.pairs()[i];
    if (p.count > 0) queue.push({p.count, p.left, p.right, i});
  };
  for (std::uint32_t i = 0; i < state.pairs().size(); ++i) push(i);
  std::vector<std::uint32_t> grown;
  const auto full = static_cast<std::size_t>(options.vocab);
  while (spec.tokens.size() < full && !queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const std::int64_t count = state.pairs()[top.pair].count;
    if (count != top.count) {
      // Fell since it was queued: back in its true place. (If it rose, a newer entry is there already.)
      if (count < top.count) push(top.pair);
      continue;
    }
    if (count < options.min_frequency) break;
    const std::string token =
        spec.tokens[static_cast<std::size_t>(top.left)] + spec.tokens[static_cast<std::size_t>(top.right)];
    auto id = known.find(token, string_of);  // another pair may have made the same bytes
    if (!id) {
      id = static_cast<std::uint32_t>(spec.tokens.size());
      spec.tokens.push_back(token);
      known.insert(token, *id);
      state.set_length(static_cast<TokenId>(*id), static_cast<std::uint32_t>(token.size()));
    }
    spec.merges.emplace_back(spec.tokens[static_cast<std::size_t>(top.left)],
                             spec.tokens[static_cast<std::size_t>(top.right)]);
    grown.clear();
    state.merge(top.pair, static_cast<TokenId>(*id), grown);
    for (const std::uint32_t i : grown) push(i);
    if (progress) progress(static_cast<std::int64_t>(spec.tokens.size()), options.vocab);
  }
}

Status append_added(const std::vector<std::string>& texts, TokenizerSpec& spec) {
  for (const std::string& text : texts) {
    const bool special = text.size() > 4 && text.starts_with("<|") && text.ends_with("|>");
    spec.added.push_back({text, static_cast<TokenId>(spec.tokens.size() + spec.added.size()), special});
  }
  const auto id_of = [&](std::string_view text) -> std::optional<TokenId> {
    for (const AddedToken& token : spec.added) {
      if (token.text == text) return token.id;
    }
    return std::nullopt;
  };
  const auto end_of_text = id_of("<|endoftext|>"), end_of_turn = id_of("<|im_end|>");
  spec.pad = end_of_text;
  spec.eos = end_of_turn ? end_of_turn : end_of_text;
  if (end_of_turn) spec.stop.push_back(*end_of_turn);
  if (end_of_text) spec.stop.push_back(*end_of_text);
  return Tokenizer::create(spec).map([](const Tokenizer&) {});
}

}  // namespace

Result<TokenizerSpec> train_bpe(const std::function<std::optional<std::string_view>()>& next,
                                const TrainOptions& options,
                                const std::function<void(std::int64_t done, std::int64_t total)>& progress) {
  QW_TRY(check_options(options));
  TokenizerSpec spec;
  spec.pre_tokenizer = options.pre_tokenizer;
  std::vector<TokenId> byte_ids(256);
  for (const unsigned char byte : bytes_in_letter_order()) {
    byte_ids[byte] = static_cast<TokenId>(spec.tokens.size());
    spec.tokens.emplace_back(1, static_cast<char>(byte));
  }
  auto pieces = std::make_unique<PieceCounter>(*pre_tokenizer_named(options.pre_tokenizer));
  while (const auto document = next()) {
    pieces->add(*document);
    if (pieces->bytes() + pieces->size() > MergeState::kMaxBytes) {
      return fail(ErrorKind::kResource, "tokenizer training: more than 4 GiB of distinct pieces; train on a sample");
    }
  }
  if (options.vocab > 256) {
    MergeState state(*pieces, byte_ids);
    pieces.reset();
    learn(state, options, spec, progress);
  }
  QW_TRY(append_added(options.added_tokens, spec));
  return spec;
}

}  // namespace qw::tokenizer
