#include "data/internal/source_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/sha256.h"
#include "data/internal/sieve.h"
#include "json/value.h"

namespace qw::data {
namespace {

// Of so much text or so many documents; what they hold besides their text is several times as much.
constexpr std::size_t kBatchBytes = std::size_t{4} << 20, kBatchDocuments = 4096;

std::size_t bytes_held_by(const json::Value& value) {
  std::size_t bytes = sizeof(json::Value);
  if (value.is_string()) bytes += value.as_string().size();
  if (value.is_array())
    for (const json::Value& item : value.as_array()) bytes += bytes_held_by(item);
  if (value.is_object())
    for (const auto& [key, item] : value.as_object()) bytes += key.size() + bytes_held_by(item);
  return bytes;
}
std::size_t bytes_held_by(const Document& document) {
  std::size_t bytes = document.text.size();
  for (const std::string& text : document.texts) bytes += text.size();
  for (const json::Object* chat : {&document.chat, &document.rejected})
    for (const auto& [key, item] : *chat) bytes += key.size() + bytes_held_by(item);
  return bytes;
}

Digest digest_of(const Document& document) {
  std::string all;
  if (!document.texts.empty())
    all = json::dump(json::Array(document.texts.begin(), document.texts.end()));
  else if (!document.chat.empty())
    all = json::dump(json::Value(document.chat), json::WriteStyle::compact()) +
          json::dump(json::Value(document.rejected), json::WriteStyle::compact()) +
          (document.value != 0 ? std::to_string(document.value) : "");
  const std::string hex = base::sha256_hex(all.empty() ? std::string_view(document.text) : all);
  return {first_bits(hex), first_bits(std::string_view(hex).substr(16))};
}

void accumulate(ReaderCounts& into, const ReaderCounts& c) {
  into.documents += c.documents;
  into.bytes += c.bytes;
  into.invalid_utf8 += c.invalid_utf8;
  into.empty += c.empty;
}

}  // namespace

std::uint64_t first_bits(std::string_view hex) {
  std::uint64_t value = 0;
  hex = hex.substr(0, 16);
  std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
  return value;
}

bool is_chat(const SourceConfig& source) {
  return source.exercises != Exercises::kNone || source.reader.format == SourceFormat::kChat ||
         source.reader.format == SourceFormat::kConversation;
}
Holds holds_of(const SourceConfig& source) {
  if (source.reader.format != SourceFormat::kConversation) return Holds::kTexts;
  switch (source.reader.form) {
    case ConversationForm::kPreference:
      return Holds::kPairs;
    case ConversationForm::kRated:
      return Holds::kRatings;
    case ConversationForm::kClassified:
      return Holds::kClasses;
    case ConversationForm::kVerified:
      return Holds::kPrompts;
    case ConversationForm::kRetrieval:
      return Holds::kRetrieval;
    case ConversationForm::kRanking:
      return Holds::kRankings;
    default:
      return Holds::kTexts;
  }
}

std::uint64_t heldout_documents(const SourceConfig& source, std::uint64_t documents) {
  return static_cast<std::uint64_t>(std::floor(source.heldout_tail * static_cast<double>(documents)));
}

struct SourceReader::Batch {
  std::vector<Document> documents;
  std::vector<Sieve::Finding> findings;
  std::size_t read = 0, stay = 0;  // of the documents
  bool ready = false;              // was read and is not yet examined
  bool ended = false;              // nothing follows but, where reading failed, why
  Status status;
};

SourceReader::SourceReader(const SourceConfig& source, Dedup dedup, SeenDocuments& seen, Sieve* sieve,
                           base::ThreadPool* pool)
    : source_(source),
      dedup_(dedup),
      seen_(seen),
      sieve_(sieve == nullptr || sieve->idle(source) ? nullptr : sieve),
      pool_(pool),
      batch_(std::make_unique<Batch>()),
      ahead_(std::make_unique<Batch>()) {
  if (dedup_ == Dedup::kWithin) seen_.clear();
}
SourceReader::~SourceReader() = default;

// The next document that is no exact copy.
Result<bool> SourceReader::read_one(Document& document) {
  for (;;) {
    if (!reader_) {
      if (file_ == source_.files.size()) return false;
      QW_ASSIGN(auto reader, DocumentReader::open(source_.files[file_++], source_.reader));
      reader_.emplace(std::move(reader));
    }
    QW_ASSIGN(const bool more, reader_->next(document));
    if (!more) {
      accumulate(counts_, reader_->counts());
      reader_.reset();
      continue;
    }
    if (dedup_ == Dedup::kNone || seen_.insert(digest_of(document)).second) return true;
    ++duplicates_;
  }
}

// Never more documents than may still be given: all that are read count, and copies of them are dropped elsewhere.
void SourceReader::read_ahead() {
  Batch& b = *ahead_;
  if (batch_->ended || b.ready) return;
  b.read = 0;
  b.ready = true;
  b.status = {};
  std::size_t most = kBatchDocuments, bytes = 0;
  if (source_.max_documents > 0)
    most = std::min<std::size_t>(most, static_cast<std::size_t>(source_.max_documents) - given_);
  b.ended = most == 0;
  while (b.read < most && bytes < kBatchBytes) {
    if (b.documents.size() == b.read) b.documents.emplace_back();
    b.documents[b.read] = Document();
    const auto more = read_one(b.documents[b.read]);
    b.ended = !more || !*more;
    if (!more) b.status = tl::unexpected(more.error());
    if (b.ended) return;
    bytes += bytes_held_by(b.documents[b.read++]);
  }
}

void SourceReader::examine(Batch& b) {
  b.stay = b.read;
  if (sieve_ == nullptr) return;
  b.findings.resize(std::max(b.findings.size(), b.read));
  const auto some = [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
      sieve_->examine(source_, b.documents[i], b.findings[i]);
  };
  constexpr std::int64_t kPieces = 256, kLargestPiece = 16;
  const auto count = static_cast<std::int64_t>(b.read);
  if (pool_ == nullptr)
    some(0, count);
  else
    pool_->parallel_for(count, std::clamp<std::int64_t>(count / kPieces, 1, kLargestPiece), some);
  b.stay = 0;
  constexpr std::size_t kAhead = 4;
  for (std::size_t i = 0; i < b.read; ++i) {
    if (i + kAhead < b.read) sieve_->expect(b.findings[i + kAhead]);
    if (sieve_->admits(source_, b.findings[i])) std::swap(b.documents[b.stay++], b.documents[i]);
  }
}

Result<std::span<Document>> SourceReader::next_batch() {
  handed_ = 0;
  while (!batch_->ended) {
    read_ahead();
    std::swap(batch_, ahead_);
    batch_->ready = false;
    examine(*batch_);
    given_ += batch_->stay;
    if (batch_->stay > 0) return std::span(batch_->documents.data(), batch_->stay);
  }
  batch_->stay = 0;
  if (!batch_->status) return tl::unexpected(batch_->status.error());
  return std::span<Document>();
}

Result<bool> SourceReader::next(Document& document) {
  if (handed_ == batch_->stay) {
    QW_ASSIGN(const auto batch, next_batch());
    if (batch.empty()) return false;
  }
  document = std::move(batch_->documents[handed_++]);
  return true;
}

ReaderCounts SourceReader::counts() const {
  ReaderCounts c = counts_;
  if (reader_) accumulate(c, reader_->counts());
  return c;
}

}  // namespace qw::data
