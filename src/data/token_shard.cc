#include "data/token_shard.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "base/sha256.h"

namespace qw::data {
namespace {

constexpr std::array<char, 8> kMagic = {'Q', 'W', 'T', 'O', 'K', 'S', 'H', '1'};
constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t kHasMask = 1, kHasValues = 2;
constexpr std::uint64_t kAlign = 8;                    // arrays of u64 are read in place
constexpr std::uint64_t kMaxDocuments = 1ull << 40;    // far above any corpus; keeps the size arithmetic from wrapping

struct Header {
  char magic[8];
  std::uint32_t version, token_bytes;
  std::uint64_t tokens, documents;
  std::uint32_t flags, reserved;
  unsigned char tokenizer_sha256[32];
  std::uint64_t text_bytes, offsets_at, bytes_at, mask_at, values_at;
  unsigned char pad[16];
};
static_assert(sizeof(Header) == 128);

std::uint64_t aligned(std::uint64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

// Where the arrays lie is a function of the counts, so a header can be checked completely.
void lay_out(Header& h) {
  h.offsets_at = aligned(sizeof(Header) + h.tokens * h.token_bytes);
  h.bytes_at = h.offsets_at + (h.documents + 1) * sizeof(std::uint64_t);
  h.mask_at = aligned(h.bytes_at + h.documents * sizeof(std::uint32_t));
  // 0 without values: such a shard is byte for byte what it was before there were any.
  h.values_at = (h.flags & kHasValues) == 0 ? 0 : aligned(h.mask_at + ((h.flags & kHasMask) != 0 ? (h.tokens + 7) / 8 : 0));
}

std::uint64_t file_size(const Header& h) {
  if ((h.flags & kHasValues) != 0) return h.values_at + h.documents * sizeof(float);
  return (h.flags & kHasMask) != 0 ? h.mask_at + (h.tokens + 7) / 8 : h.mask_at;
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& v) {
  return std::as_bytes(std::span(v));
}

void hash_text(base::Sha256& hash, std::string_view text) {
  hash.update(std::to_string(text.size()) + ":");
  hash.update(text);
}

}  // namespace

std::string tokenizer_hash(const tokenizer::TokenizerSpec& spec) {
  base::Sha256 hash;
  hash_text(hash, spec.pre_tokenizer);
  hash_text(hash, spec.nfc ? "nfc" : "raw");
  if (spec.characters) hash_text(hash, "characters, " + std::to_string(static_cast<int>(spec.characters->blank)));
  hash_text(hash, std::to_string(spec.tokens.size()));
  for (const auto& token : spec.tokens) hash_text(hash, token);
  hash_text(hash, std::to_string(spec.merges.size()));
  for (const auto& [left, right] : spec.merges) {
    hash_text(hash, left);
    hash_text(hash, right);
  }
  auto added = spec.added;
  std::sort(added.begin(), added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  for (const auto& token : added) {
    hash_text(hash, token.text);
    hash_text(hash, std::to_string(token.id) + (token.special ? "s" : "n"));
  }
  return hash.hex();
}

Result<TokenShard> TokenShard::open(const std::filesystem::path& path) {
  TokenShard shard;
  QW_ASSIGN(shard.file_, base::MappedFile::open(path));
  const auto bytes = shard.file_.bytes();
  const auto bad = [&](const char* why) { return fail(ErrorKind::kBadInput, path.string() + ": " + why); };
  Header h;
  if (bytes.size() < sizeof(h)) return bad("not a token shard (too short)");
  std::memcpy(&h, bytes.data(), sizeof(h));
  if (std::memcmp(h.magic, kMagic.data(), kMagic.size()) != 0) return bad("not a token shard (magic)");
  if (h.version != kVersion) return bad("token shard of an unknown version");
  if ((h.flags & ~(kHasMask | kHasValues)) != 0 || h.reserved != 0) return bad("token shard with unknown flags");
  if (h.token_bytes != 2 && h.token_bytes != 4) return bad("token shard with an unknown id width");
  if (h.tokens > bytes.size() || h.documents > kMaxDocuments || h.documents > bytes.size())
    return bad("token shard counts do not fit the file");
  Header expected = h;
  lay_out(expected);
  if (expected.offsets_at != h.offsets_at || expected.bytes_at != h.bytes_at || expected.mask_at != h.mask_at ||
      expected.values_at != h.values_at || file_size(h) != bytes.size())
    return bad("token shard counts do not fit the file");
  shard.documents_ = h.documents;
  shard.tokens_ = h.tokens;
  shard.text_bytes_ = h.text_bytes;
  shard.width_ = static_cast<int>(h.token_bytes);
  const std::byte* base = bytes.data();
  shard.tokens16_ = reinterpret_cast<const std::uint16_t*>(base + sizeof(h));
  shard.tokens32_ = reinterpret_cast<const std::uint32_t*>(base + sizeof(h));
  shard.offsets_ = reinterpret_cast<const std::uint64_t*>(base + h.offsets_at);
  shard.bytes_ = reinterpret_cast<const std::uint32_t*>(base + h.bytes_at);
  if ((h.flags & kHasMask) != 0) shard.mask_ = reinterpret_cast<const unsigned char*>(base + h.mask_at);
  if ((h.flags & kHasValues) != 0) {
    shard.values_ = reinterpret_cast<const float*>(base + h.values_at);
    for (std::uint64_t i = 0; i < h.documents; ++i)
      if (!std::isfinite(shard.values_[i])) return bad("token shard with a value that is not a number");
  }
  if (shard.offsets_[0] != 0 || shard.offsets_[h.documents] != h.tokens) return bad("token shard offsets are wrong");
  for (std::uint64_t i = 0; i < h.documents; ++i)
    if (shard.offsets_[i] > shard.offsets_[i + 1]) return bad("token shard offsets are wrong");
  if (shard.width_ == 4)
    for (std::uint64_t i = 0; i < h.tokens; ++i)
      if (shard.tokens32_[i] > 0x7fffffffu) return bad("token id out of range");
  static constexpr char kDigits[] = "0123456789abcdef";
  for (const unsigned char c : h.tokenizer_sha256) {
    shard.tokenizer_hash_ += kDigits[c >> 4];
    shard.tokenizer_hash_ += kDigits[c & 15];
  }
  return shard;
}

// ---- writing ------------------------------------------------------------------------------------------------------

struct ShardWriter::State {
  std::filesystem::path path, temporary;
  std::FILE* file = nullptr;
  int token_bytes = 2;
  bool masked = false, valued = false;
  std::string hash;
  std::vector<std::uint64_t> offsets{0};
  std::vector<std::uint32_t> text_bytes;
  std::vector<bool> mask;
  std::vector<float> values;

  ~State() {
    if (file != nullptr) std::fclose(file);
    if (!temporary.empty()) ::unlink(temporary.c_str());
  }

  Error io_error(const char* action) const {
    const ErrorKind kind = errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? ErrorKind::kResource : ErrorKind::kFailed;
    return Error{kind, path.string() + ": cannot " + action + ": " + std::strerror(errno)};
  }

  Header header(std::uint64_t first, std::uint64_t last) const {
    Header h{};
    std::memcpy(h.magic, kMagic.data(), kMagic.size());
    h.version = kVersion;
    h.token_bytes = static_cast<std::uint32_t>(token_bytes);
    h.tokens = offsets[last] - offsets[first];
    h.documents = last - first;
    h.flags = (masked ? kHasMask : 0) | (valued ? kHasValues : 0);
    for (std::size_t i = 0; i < 32; ++i)
      h.tokenizer_sha256[i] = static_cast<unsigned char>(std::stoul(hash.substr(2 * i, 2), nullptr, 16));
    for (std::uint64_t i = first; i < last; ++i) h.text_bytes += text_bytes[i];
    lay_out(h);
    return h;
  }

  Status copy_tokens(base::AtomicFile& out, std::uint64_t from, std::uint64_t to) {
    if (std::fseek(file, static_cast<long>(from * static_cast<std::uint64_t>(token_bytes)), SEEK_SET) != 0)
      return tl::unexpected(io_error("read back"));
    std::vector<std::byte> block(1 << 20);
    std::uint64_t left = (to - from) * static_cast<std::uint64_t>(token_bytes);
    while (left > 0) {
      const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(left, block.size()));
      if (std::fread(block.data(), 1, n, file) != n) return tl::unexpected(io_error("read back"));
      QW_TRY(out.write(std::span(block.data(), n)));
      left -= n;
    }
    return {};
  }

  Status write_part(const std::filesystem::path& to, std::uint64_t first, std::uint64_t last) {
    const Header h = header(first, last);
    QW_ASSIGN(auto out, base::AtomicFile::create(to));
    const auto pad_to = [&](std::uint64_t at) -> Status {
      const std::vector<std::byte> zeros(static_cast<std::size_t>(at - out.size()));
      return zeros.empty() ? Status{} : out.write(zeros);
    };
    QW_TRY(out.write(std::as_bytes(std::span(&h, 1))));
    QW_TRY(copy_tokens(out, offsets[first], offsets[last]));
    QW_TRY(pad_to(h.offsets_at));
    std::vector<std::uint64_t> starts;
    for (std::uint64_t i = first; i <= last; ++i) starts.push_back(offsets[i] - offsets[first]);
    QW_TRY(out.write(bytes_of(starts)));
    QW_TRY(out.write(std::as_bytes(std::span(text_bytes).subspan(first, last - first))));
    QW_TRY(pad_to(h.mask_at));
    if (masked) {
      std::vector<std::uint8_t> bits((h.tokens + 7) / 8);
      for (std::uint64_t i = 0; i < h.tokens; ++i)
        if (mask[offsets[first] + i]) bits[i >> 3] = static_cast<std::uint8_t>(bits[i >> 3] | (1u << (i & 7)));
      QW_TRY(out.write(bytes_of(bits)));
    }
    if (valued) {
      QW_TRY(pad_to(h.values_at));
      QW_TRY(out.write(std::as_bytes(std::span(values).subspan(first, last - first))));
    }
    return out.commit();
  }
};

Result<ShardWriter> ShardWriter::create(const std::filesystem::path& path, std::int64_t vocab, std::string tokenizer_hash,
                                        bool masked, bool valued) {
  QW_CHECK(tokenizer_hash.size() == 64);
  auto state = std::make_unique<State>();
  state->path = path;
  state->hash = std::move(tokenizer_hash);
  state->masked = masked;
  state->valued = valued;
  state->token_bytes = vocab < 65536 ? 2 : 4;
  const std::filesystem::path temporary = path.string() + ".tokens.tmp";
  state->file = std::fopen(temporary.c_str(), "w+b");
  if (state->file == nullptr) return tl::unexpected(state->io_error("create"));
  state->temporary = temporary;
  return ShardWriter(std::move(state));
}

ShardWriter::ShardWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
ShardWriter::ShardWriter(ShardWriter&&) noexcept = default;
ShardWriter::~ShardWriter() = default;

Status ShardWriter::add(std::span<const TokenId> ids, std::uint32_t text_bytes, std::span<const std::uint8_t> kept,
                        float value) {
  State& s = *state_;
  QW_CHECK((s.masked ? kept.size() == ids.size() : kept.empty()) && (s.valued || value == 0));
  bool written = true;
  if (ids.empty()) {
    // An empty document has no bytes to write.
  } else if (s.token_bytes == 2) {
    std::vector<std::uint16_t> narrow(ids.begin(), ids.end());
    if (!ids.empty()) written = std::fwrite(narrow.data(), 2, narrow.size(), s.file) == narrow.size();
  } else {
    written = std::fwrite(ids.data(), 4, ids.size(), s.file) == ids.size();
  }
  if (!written) return tl::unexpected(s.io_error("write"));
  s.offsets.push_back(s.offsets.back() + ids.size());
  s.text_bytes.push_back(text_bytes);
  for (const std::uint8_t k : kept) s.mask.push_back(k != 0);
  if (s.valued) s.values.push_back(value);
  return {};
}

std::uint64_t ShardWriter::documents() const { return state_->text_bytes.size(); }
std::uint64_t ShardWriter::tokens() const { return state_->offsets.back(); }

Status ShardWriter::finish(std::uint64_t heldout, const std::filesystem::path& heldout_path) {
  State& s = *state_;
  QW_CHECK(heldout <= documents());
  if (std::fflush(s.file) != 0) return tl::unexpected(s.io_error("write"));
  const std::uint64_t split = documents() - heldout;
  QW_TRY(s.write_part(s.path, 0, split));
  if (heldout > 0) QW_TRY(s.write_part(heldout_path, split, documents()));
  return {};
}

}  // namespace qw::data
