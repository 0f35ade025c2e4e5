#include "data/internal/source_reader.h"

#include <charconv>
#include <cmath>

#include "base/sha256.h"
#include "data/internal/sieve.h"
#include "json/value.h"

namespace qw::data {
namespace {

Digest digest_of(const Document& document) {
  std::string all = document.text;
  if (!document.texts.empty()) all = json::dump(json::Array(document.texts.begin(), document.texts.end()));
  else if (!document.chat.empty())
    all = json::dump(json::Value(document.chat), json::WriteStyle::compact()) +
          json::dump(json::Value(document.rejected), json::WriteStyle::compact()) +
          (document.value != 0 ? std::to_string(document.value) : "");
  const std::string hex = base::sha256_hex(all);
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
    case ConversationForm::kPreference: return Holds::kPairs;
    case ConversationForm::kRated: return Holds::kRatings;
    case ConversationForm::kClassified: return Holds::kClasses;
    case ConversationForm::kVerified: return Holds::kPrompts;
    case ConversationForm::kRetrieval: return Holds::kRetrieval;
    case ConversationForm::kRanking: return Holds::kRankings;
    default: return Holds::kTexts;
  }
}

std::uint64_t heldout_documents(const SourceConfig& source, std::uint64_t documents) {
  return static_cast<std::uint64_t>(std::floor(source.heldout_tail * static_cast<double>(documents)));
}

SourceReader::SourceReader(const SourceConfig& source, Dedup dedup, SeenDocuments& seen, Sieve* sieve)
    : source_(source), dedup_(dedup), seen_(seen), sieve_(sieve) {
  if (dedup_ == Dedup::kWithin) seen_.clear();
}

Result<bool> SourceReader::next(Document& document) {
  for (;;) {
    if (source_.max_documents > 0 && given_ >= source_.max_documents) return false;
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
    if (dedup_ != Dedup::kNone && !seen_.insert(digest_of(document)).second) {
      ++duplicates_;
      continue;
    }
    if (sieve_ != nullptr) {
      QW_ASSIGN(const bool stays, sieve_->keeps(source_, document));
      if (!stays) continue;
    }
    ++given_;
    return true;
  }
}

ReaderCounts SourceReader::counts() const {
  ReaderCounts c = counts_;
  if (reader_) accumulate(c, reader_->counts());
  return c;
}

}  // namespace qw::data
