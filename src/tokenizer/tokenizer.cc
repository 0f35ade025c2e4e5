#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <list>
#include <unordered_map>

#include "base/utf8.h"
#include "tokenizer/internal/added_tokens.h"
#include "tokenizer/internal/bpe.h"
#include "tokenizer/internal/character_bpe.h"
#include "tokenizer/internal/pre_tokenizer.h"
#include "tokenizer/internal/shown.h"
#include "tokenizer/stream_decoder.h"

namespace qw::tokenizer {
namespace {

// Ids name rows of the embedding; the largest vocabularies in use have about 2^18. A foreign file must not make us
// allocate by a number it names, so holes are limited too.
constexpr std::size_t kMaxIds = std::size_t{1} << 24, kMaxHoles = std::size_t{1} << 16;
// Added tokens are names such as <|im_start|>; the limit keeps the search for them linear in practice.
constexpr std::size_t kMaxAddedBytes = 1024;

}  // namespace

struct Tokenizer::Impl {
  TokenizerSpec spec;
  PreTokenizer pre = PreTokenizer::kQwen2;
  std::optional<Bpe> bpe;  // or else
  std::optional<CharacterBpe> characters;
  AddedTokens raw, normalized;                              // found before and after normalisation
  std::unordered_map<std::string_view, TokenId> added_ids;  // by text, into spec
  std::vector<std::string_view> bytes;                      // by id, into spec or with_blank
  std::list<std::string> with_blank;                        // added tokens whose text in spec has U+2581 for a blank
  std::vector<bool> special, byte;                          // by id

  std::optional<TokenId> find_regular(std::string_view text) const {
    return characters ? characters->find(text) : bpe->find(text);
  }
  Status index_ids();
  Status index_added(const AddedToken& token);
  Status check_ids() const;

  void encode_pieces(std::string_view text, Bpe::Scratch& scratch, std::vector<TokenId>& out) const {
    PieceScanner scanner(pre, text);
    const char* const end = text.data() + text.size();
    Bpe::IdBlock block(out);
    while (scanner.left() >= PieceScanner::kMarkBytes + Bpe::kReadAhead) {
      block.flush_if_full();
      if (const std::size_t size = bpe->encode_marked(scanner.position(), scanner.marks(), scratch, block)) {
        scanner.skip(size);
        continue;
      }
      block.flush();
      bpe->encode(scanner.next(), end, scratch, out);
    }
    block.flush();
    for (std::string_view p = scanner.next(); !p.empty(); p = scanner.next()) bpe->encode(p, end, scratch, out);
  }

  // Gives `plain` the text between added tokens and appends the ids of those.
  template <class F>
  static void split(const AddedTokens& tokens, std::string_view text, std::vector<TokenId>& out, const F& plain) {
    std::size_t from = 0;
    while (const auto match = tokens.empty() ? std::nullopt : tokens.find(text, from)) {
      if (match->begin > from) plain(text.substr(from, match->begin - from));
      out.push_back(match->id);
      from = match->end;
    }
    if (from < text.size()) plain(text.substr(from));
  }

  // A section of a text for a vocabulary of characters; `first`: nothing stands before it.
  void encode_characters(std::string_view text, bool first, bool parse, std::vector<TokenId>& out) const {
    const std::string changed = with_blanks(text, spec.characters->blank, first);
    if (!parse) return characters->encode(changed, out);
    split(normalized, changed, out, [&](std::string_view part) { characters->encode(part, out); });
  }

  void encode_plain(std::string_view text, bool parse, Bpe::Scratch& scratch, std::vector<TokenId>& out) const {
    std::string changed;
    if (spec.nfc && !surely_nfc(text)) {
      changed = to_nfc(text);
      text = changed;
    }
    if (!parse) return encode_pieces(text, scratch, out);
    split(normalized, text, out, [&](std::string_view part) { encode_pieces(part, scratch, out); });
  }
};

Status Tokenizer::Impl::index_added(const AddedToken& token) {
  const auto bad = [&](const std::string& what) {
    return fail(ErrorKind::kBadInput,
                "added token " + shown(token.text) + " (id " + std::to_string(token.id) + "): " + what);
  };
  if (token.text.empty()) return bad("empty text");
  if (token.text.size() > kMaxAddedBytes) return bad("longer than " + std::to_string(kMaxAddedBytes) + " bytes");
  const auto id = static_cast<std::size_t>(token.id);
  if (!bytes[id].empty() && bytes[id] != token.text) {
    return bad("the id already means " + shown_token(bytes[id]));
  }
  if (const auto other = find_regular(token.text); other && *other != token.id) {
    return bad("the text is also token " + std::to_string(*other));
  }
  if (!added_ids.emplace(token.text, token.id).second) return bad("is there twice");
  bytes[id] = token.text;
  if (characters && token.text.find(kBlankSign) != std::string::npos) {
    bytes[id] = with_blank.emplace_back(with_blanks(token.text, CharacterVocabulary::Blank::kNever, true));
  }
  special[id] = token.special;
  // A pre-tokeniser that puts blanks in front works on what added tokens leave, whichever kind they are.
  const bool by_section = spec.characters && spec.characters->blank != CharacterVocabulary::Blank::kAlways;
  if (!token.normalized || by_section) {
    raw.add(token.text, token.id);
  } else if (characters) {
    normalized.add(with_blanks(token.text, spec.characters->blank, true), token.id);
  } else {
    normalized.add(spec.nfc ? to_nfc(token.text) : token.text, token.id);
  }
  return {};
}

Status Tokenizer::Impl::index_ids() {
  std::size_t ids = spec.tokens.size();
  const std::size_t limit = std::min(kMaxIds, ids + spec.added.size() + kMaxHoles);
  for (const AddedToken& token : spec.added) {
    if (token.id < 0 || static_cast<std::size_t>(token.id) >= limit) {
      return fail(ErrorKind::kBadInput,
                  "added token " + shown(token.text) + ": id " + std::to_string(token.id) + " is out of range");
    }
    ids = std::max(ids, static_cast<std::size_t>(token.id) + 1);
  }
  if (ids > kMaxIds) return fail(ErrorKind::kBadInput, "vocabulary: more than 2^24 tokens");
  bytes.assign(spec.tokens.begin(), spec.tokens.end());
  bytes.resize(ids);
  special.resize(ids);
  for (const AddedToken& token : spec.added) QW_TRY(index_added(token));
  return check_ids();
}

Status Tokenizer::Impl::check_ids() const {
  const auto check = [&](const char* what, TokenId id) -> Status {
    if (id >= 0 && static_cast<std::size_t>(id) < bytes.size()) return {};
    return fail(ErrorKind::kBadInput, std::string(what) + " id " + std::to_string(id) +
                                          " is outside the vocabulary of " + std::to_string(bytes.size()));
  };
  if (spec.bos) QW_TRY(check("bos", *spec.bos));
  if (spec.eos) QW_TRY(check("eos", *spec.eos));
  if (spec.pad) QW_TRY(check("pad", *spec.pad));
  for (const TokenId id : spec.stop) QW_TRY(check("stop", id));
  return {};
}

Result<Tokenizer> Tokenizer::create(TokenizerSpec spec) {
  auto impl = std::make_unique<Impl>();
  impl->spec = std::move(spec);
  if (const auto& characters = impl->spec.characters) {
    QW_ASSIGN(impl->characters, CharacterBpe::create(impl->spec.tokens, impl->spec.merges, characters->bytes));
    QW_TRY(impl->index_ids());
    impl->byte.resize(impl->bytes.size());
    for (const TokenId id : characters->bytes) impl->byte[static_cast<std::size_t>(id)] = true;
    return Tokenizer(std::move(impl));
  }
  const auto pre = pre_tokenizer_named(impl->spec.pre_tokenizer);
  if (!pre) {
    return fail(ErrorKind::kBadInput, "unknown pre-tokeniser " + shown(impl->spec.pre_tokenizer));
  }
  impl->pre = *pre;
  QW_ASSIGN(impl->bpe, Bpe::create(impl->spec.tokens, impl->spec.merges));
  QW_TRY(impl->index_ids());
  return Tokenizer(std::move(impl));
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::int64_t Tokenizer::vocab_size() const { return static_cast<std::int64_t>(impl_->bytes.size()); }

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool parse_special) const {
  std::vector<TokenId> out;
  if (impl_->characters) {
    const auto encode_section = [&](std::string_view part) {
      impl_->encode_characters(part, part.data() == text.data(), parse_special, out);
    };
    if (parse_special) {
      Impl::split(impl_->raw, text, out, encode_section);
    } else if (!text.empty()) {
      encode_section(text);
    }
    return out;
  }
  Bpe::Scratch scratch;
  scratch.cache = impl_->bpe->cache_of_thread();
  if (!parse_special) {
    impl_->encode_plain(text, false, scratch, out);
    return out;
  }
  Impl::split(impl_->raw, text, out, [&](std::string_view part) { impl_->encode_plain(part, true, scratch, out); });
  return out;
}

std::string Tokenizer::decode_bytes(std::span<const TokenId> ids, bool skip_special) const {
  std::string out;
  for (const TokenId id : ids) {
    if (!skip_special || !is_special(id)) out += token_bytes(id);
  }
  return out;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string out;
  if (!impl_->characters) {
    base::append_valid_utf8(out, decode_bytes(ids, skip_special), true);
    return out;
  }
  StreamDecoder decoder(*this, skip_special);
  for (const TokenId id : ids) out += decoder.push(id);
  return out + decoder.finish();
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  return id >= 0 && id < vocab_size() ? impl_->bytes[static_cast<std::size_t>(id)] : std::string_view();
}

bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && id < vocab_size() && impl_->special[static_cast<std::size_t>(id)];
}

bool Tokenizer::is_byte(TokenId id) const {
  return id >= 0 && static_cast<std::size_t>(id) < impl_->byte.size() && impl_->byte[static_cast<std::size_t>(id)];
}

std::optional<TokenId> Tokenizer::find(std::string_view token_text) const {
  if (const auto at = impl_->added_ids.find(token_text); at != impl_->added_ids.end()) return at->second;
  return impl_->find_regular(token_text);
}

const TokenizerSpec& Tokenizer::spec() const { return impl_->spec; }

}  // namespace qw::tokenizer
