#include "data/packing.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <numeric>

#include "base/sha256.h"
#include "data/internal/draws.h"
#include "json/value.h"

namespace qw::data {
namespace {

// Pieces packed at once: large enough that best fit leaves well under 1 % empty, small enough that rows of one batch
// hold documents of every length.
constexpr std::size_t kWindow = 16384;
tl::unexpected<Error> bad_ledger(const std::filesystem::path& path, const char* why) {
  return fail(ErrorKind::kBadInput, path.string() + ": " + why);
}

const char* method_for(Holds holds) {
  static constexpr const char* kTables[] = {"", "[preference] or [reward]", "[kto]", "[classes]", "[grpo]", "[embedding]", "[ranking]"};
  return kTables[static_cast<std::size_t>(holds)];
}

Result<Holds> holds_in(const json::Value& source, const std::filesystem::path& ledger) {
  const json::Value* said = source.find("holds");
  if (said == nullptr) return Holds::kTexts;
  for (const Holds holds : {Holds::kPairs, Holds::kRatings, Holds::kClasses, Holds::kPrompts, Holds::kRetrieval,
                            Holds::kRankings})
    if (*said == json::Value(holds_name(holds))) return holds;
  return bad_ledger(ledger, "a source holds what is not known here");
}

// The names of classes that a source has, into `labels`.
Status read_labels(const json::Value& source, const std::filesystem::path& ledger, std::vector<std::string>& labels) {
  const json::Value* said = source.find("labels");
  if (said == nullptr) return {};
  if (!said->is_array()) return bad_ledger(ledger, "labels is not an array");
  std::vector<std::string> names;
  for (const json::Value& name : said->as_array()) {
    if (!name.is_string()) return bad_ledger(ledger, "a label is not a text");
    names.push_back(name.as_string());
  }
  if (!labels.empty() && labels != names) return bad_ledger(ledger, "its sources have different labels");
  labels = std::move(names);
  return {};
}

Status read_instruction(const json::Value& source, const std::filesystem::path& ledger, std::optional<std::string>& out) {
  const json::Value* said = source.find("instruction");
  if (said == nullptr) return {};
  if (!said->is_string()) return bad_ledger(ledger, "instruction is not a text");
  if (out && *out != said->as_string()) return bad_ledger(ledger, "its sources have different instructions");
  out = said->as_string();
  return {};
}

Status open_part(const std::filesystem::path& folder, const json::Value& source, const char* part,
                 const Dataset& dataset, std::vector<DatasetSource>& out) {
  const auto ledger = folder / "ledger.json";
  const json::Value* name = source.find("name");
  const json::Value* weight = source.find("weight");
  const json::Value* record = source.find(part);
  if (name == nullptr || !name->is_string() || weight == nullptr || !weight->is_number() || record == nullptr)
    return bad_ledger(ledger, "a source has no name, weight or shard");
  const json::Value* file = record->find("shard");
  const json::Value* documents = record->find("documents");
  if (file == nullptr || file->is_null()) return {};
  if (!file->is_string() || std::filesystem::path(file->as_string()).filename() != file->as_string())
    return bad_ledger(ledger, "a shard name is not a plain file name");
  QW_ASSIGN(auto shard, TokenShard::open(folder / file->as_string()));
  if (shard.tokenizer_hash() != dataset.tokenizer_hash)
    return bad_ledger(shard.path(), "was made with another tokenizer than the ledger says");
  if (documents == nullptr || !documents->is_int() || static_cast<std::uint64_t>(documents->as_int()) != shard.documents())
    return bad_ledger(shard.path(), "does not hold the documents that the ledger lists");
  for (std::uint64_t i = 0; i < shard.tokens(); ++i)
    if (shard.token(i) >= dataset.vocab) return bad_ledger(shard.path(), "holds a token id outside the vocabulary");
  QW_ASSIGN(const Holds holds, holds_in(source, ledger));
  if (holds != Holds::kTexts && !shard.has_values()) return bad_ledger(shard.path(), "holds no values");
  if (holds == Holds::kClasses) {
    for (std::uint64_t i = 0; i < shard.documents(); ++i)
      if (!(shard.value(i) >= 0 && shard.value(i) < static_cast<float>(dataset.labels.size())) ||
          shard.value(i) != std::floor(shard.value(i)))
        return bad_ledger(shard.path(), "holds a class that the ledger has no name for");
  }
  if (shard.documents() > 0) out.push_back({name->as_string(), std::move(shard), weight->as_double(), holds});
  return {};
}

}  // namespace

const char* holds_name(Holds holds) {
  static constexpr const char* kNames[] = {"texts", "pairs", "ratings", "classes", "prompts", "retrieval", "rankings"};
  return kNames[static_cast<std::size_t>(holds)];
}

Result<Dataset> open_dataset(const std::filesystem::path& folder) {
  const auto path = folder / "ledger.json";
  QW_ASSIGN(const std::string text, base::read_file(path, 64 << 20));
  auto parsed = json::parse(text);
  if (!parsed) return in_context(path.string(), std::move(parsed).error());
  const json::Value* format = parsed->find("format");
  if (format == nullptr || !format->is_string() || format->as_string() != "qianwen-ledger-1")
    return bad_ledger(path, "not a data ledger of this program");
  Dataset dataset;
  const json::Value* hash = parsed->find("tokenizer_sha256");
  const json::Value* tokenizer = parsed->find("tokenizer");
  const json::Value* vocab = parsed->find("vocab");
  const json::Value* sources = parsed->find("sources");
  if (hash == nullptr || !hash->is_string() || tokenizer == nullptr || !tokenizer->is_string() || vocab == nullptr ||
      !vocab->is_int() || sources == nullptr || !sources->is_array())
    return bad_ledger(path, "lacks tokenizer, vocab or sources");
  dataset.tokenizer_hash = hash->as_string();
  dataset.tokenizer_folder = tokenizer->as_string();
  dataset.vocab = vocab->as_int();
  dataset.ledger = text;
  dataset.ledger_sha256 = base::sha256_hex(text);
  std::optional<std::string> instruction;
  for (const auto& source : sources->as_array()) {
    QW_TRY(read_labels(source, path, dataset.labels));
    QW_TRY(read_instruction(source, path, instruction));
  }
  dataset.instruction = instruction.value_or("");
  for (const auto& source : sources->as_array()) {
    QW_TRY(open_part(folder, source, "train", dataset, dataset.train));
    QW_TRY(open_part(folder, source, "heldout", dataset, dataset.heldout));
  }
  return dataset;
}

void PackedBatch::clear() {
  tokens.clear();
  positions.clear();
  labels.clear();
  cu_seqlens.assign(1, 0);
  kept = 0;
}

void append_piece(const TokenShard& shard, const Piece& piece, PackedBatch& batch) {
  for (std::uint64_t i = 0; i < piece.length; ++i) {
    const std::uint64_t at = piece.begin + i;
    const bool kept = shard.kept(at + 1);
    batch.tokens.push_back(shard.token(at));
    batch.positions.push_back(static_cast<std::int32_t>(i));
    batch.labels.push_back(kept ? shard.token(at + 1) : -1);
    batch.kept += kept ? 1 : 0;
  }
  batch.cu_seqlens.push_back(static_cast<std::int32_t>(batch.tokens.size()));
}

void cut_document(const TokenShard& shard, std::uint32_t source, std::uint64_t document, std::int64_t sequence_length,
                  std::vector<Piece>& out) {
  const std::uint64_t begin = shard.begin(document), end = shard.end(document);
  const auto most = static_cast<std::uint64_t>(sequence_length);
  for (std::uint64_t at = begin; at + 1 < end; at += most) {
    const std::uint64_t length = std::min(most, end - 1 - at);
    bool counts = !shard.has_mask();
    for (std::uint64_t i = 0; i < length && !counts; ++i) counts = shard.kept(at + 1 + i);
    if (counts) out.push_back({source, static_cast<std::uint32_t>(length), at});
  }
}

std::vector<std::vector<std::uint32_t>> best_fit(std::span<const Piece> pieces, std::int64_t capacity) {
  std::vector<std::uint32_t> order(pieces.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return pieces[a].length > pieces[b].length; });
  std::vector<std::vector<std::uint32_t>> bins;
  const auto width = static_cast<std::size_t>(capacity) + 1;
  // by_free[f] = bins with exactly f rows free; a 64-ary bitmap finds the smallest f that fits.
  std::vector<std::vector<std::uint32_t>> by_free(width);
  std::vector<std::uint64_t> occupied((width + 63) / 64, 0);
  const auto put = [&](std::size_t free, std::uint32_t bin) {
    by_free[free].push_back(bin);
    occupied[free / 64] |= std::uint64_t{1} << (free % 64);
  };
  const auto smallest = [&](std::size_t need) {
    std::size_t word = need / 64;
    std::uint64_t bits = occupied[word] & (~std::uint64_t{0} << (need % 64));
    while (bits == 0 && ++word < occupied.size()) bits = occupied[word];
    return bits == 0 ? width : word * 64 + static_cast<std::size_t>(__builtin_ctzll(bits));
  };
  for (const std::uint32_t i : order) {
    const std::size_t need = pieces[i].length;
    QW_CHECK(need >= 1 && need < width);
    std::size_t free = smallest(need);
    std::uint32_t bin;
    if (free == width) {
      bin = static_cast<std::uint32_t>(bins.size());
      bins.emplace_back();
      free = width - 1;
    } else {
      bin = by_free[free].back();
      by_free[free].pop_back();
      if (by_free[free].empty()) occupied[free / 64] &= ~(std::uint64_t{1} << (free % 64));
    }
    bins[bin].push_back(i);
    if (free > need) put(free - need, bin);
  }
  return bins;
}

Epoch::Epoch(const std::vector<DatasetSource>& sources, std::int64_t sequence_length, std::uint64_t seed,
             std::uint64_t epoch) {
  base::Rng repeat(seed, stream_of(kRepeatStream, epoch)), order(seed, stream_of(kShuffleStream, epoch));
  std::vector<Piece> all;
  for (std::uint32_t s = 0; s < sources.size(); ++s) {
    for (std::uint64_t d = 0; d < sources[s].shard.documents(); ++d) {
      auto times = times_seen(sources[s].weight, repeat);
      while (times-- > 0) cut_document(sources[s].shard, s, d, sequence_length, all);
    }
  }
  shuffle(all, order);
  std::vector<std::vector<Piece>> rows;
  for (std::size_t at = 0; at < all.size(); at += kWindow) {
    const std::span<const Piece> window(all.data() + at, std::min(kWindow, all.size() - at));
    for (const auto& bin : best_fit(window, sequence_length)) {
      auto& row = rows.emplace_back();
      for (const std::uint32_t i : bin) row.push_back(window[i]);
    }
  }
  shuffle(rows, order);
  pieces_.reserve(all.size());
  starts_.push_back(0);
  for (const auto& row : rows) {
    for (const Piece& piece : row) rows_ += piece.length;
    pieces_.insert(pieces_.end(), row.begin(), row.end());
    starts_.push_back(pieces_.size());
  }
}

std::span<const Piece> Epoch::sequence(std::int64_t i) const {
  const std::uint64_t begin = starts_[static_cast<std::size_t>(i)], end = starts_[static_cast<std::size_t>(i) + 1];
  return {pieces_.data() + begin, static_cast<std::size_t>(end - begin)};
}

BatchStream::BatchStream(const std::vector<DatasetSource>& sources, std::int64_t sequence_length, std::uint64_t seed,
                         Cursor cursor)
    : sources_(&sources),
      sequence_length_(sequence_length),
      seed_(seed),
      cursor_(cursor),
      epoch_(sources, sequence_length, seed, cursor.epoch) {}

Result<BatchStream> BatchStream::create(const std::vector<DatasetSource>& sources, std::int64_t sequence_length,
                                        std::uint64_t seed, Cursor cursor) {
  for (const DatasetSource& source : sources)
    if (source.holds != Holds::kTexts)
      return fail(ErrorKind::kBadInput, source.name + ": holds " + holds_name(source.holds) + ", which are learnt from with " +
                                            method_for(source.holds) + " only");
  BatchStream out(sources, sequence_length, seed, cursor);
  if (out.epoch_.sequences() == 0) return fail(ErrorKind::kBadInput, "the training data is empty");
  if (cursor.sequence < 0 || cursor.sequence > out.epoch_.sequences())
    return fail(ErrorKind::kUsage, "the data position of the checkpoint lies outside the data");
  return out;
}

void BatchStream::next(std::int64_t sequences, PackedBatch& batch) {
  batch.clear();
  for (std::int64_t i = 0; i < sequences; ++i) {
    // A source with a small fractional weight may leave an epoch empty: go on to one that is not.
    while (cursor_.sequence >= epoch_.sequences()) {
      cursor_ = {cursor_.epoch + 1, 0};
      epoch_ = Epoch(*sources_, sequence_length_, seed_, cursor_.epoch);
    }
    for (const Piece& piece : epoch_.sequence(cursor_.sequence)) append_piece((*sources_)[piece.source].shard, piece, batch);
    ++cursor_.sequence;
  }
}

}  // namespace qw::data
