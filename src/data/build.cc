#include "data/build.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "base/file.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "data/chat_tokens.h"
#include "data/poem_chat.h"
#include "data/token_shard.h"

namespace qw::data {
namespace {

constexpr std::uint64_t kPoemStream = std::uint64_t{0x706f656d} << 24;  // Philox streams of exercises, by line
constexpr std::uint64_t kProgressEvery = 2000;  // documents between two progress calls: some ms of work

// 128 bits of SHA-256 are enough that two different documents never meet.
struct Digest {
  std::uint64_t a, b;
  friend bool operator==(const Digest&, const Digest&) = default;
};
struct DigestHash {
  std::size_t operator()(const Digest& d) const { return static_cast<std::size_t>(d.a); }
};

std::uint64_t from_hex(std::string_view hex) {
  std::uint64_t value = 0;
  std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
  return value;
}

Digest digest_of(const Document& document) {
  const bool chat = !document.chat.empty();
  const std::string hex =
      base::sha256_hex(chat ? json::dump(json::Value(document.chat), json::WriteStyle::compact()) : document.text);
  return {from_hex(std::string_view(hex).substr(0, 16)), from_hex(std::string_view(hex).substr(16, 16))};
}

// All documents of a source, file after file, without copies; `seen` may be shared between sources.
class SourceReader {
 public:
  SourceReader(const SourceConfig& source, Dedup dedup, std::unordered_set<Digest, DigestHash>& seen)
      : source_(source), dedup_(dedup), seen_(seen) {
    if (dedup_ == Dedup::kWithin) seen_.clear();
  }

  Result<bool> next(Document& document) {
    for (;;) {
      if (source_.max_documents > 0 && given_ >= source_.max_documents) return false;
      if (!reader_) {
        if (file_ == source_.files.size()) return false;
        QW_ASSIGN(auto reader, DocumentReader::open(source_.files[file_++], source_.reader));
        reader_.emplace(std::move(reader));
      }
      QW_ASSIGN(const bool more, reader_->next(document));
      if (!more) {
        add_counts();
        reader_.reset();
        continue;
      }
      if (dedup_ != Dedup::kNone && !seen_.insert(digest_of(document)).second) {
        ++duplicates_;
        continue;
      }
      ++given_;
      return true;
    }
  }
  std::uint64_t duplicates() const { return duplicates_; }
  ReaderCounts counts() const {
    ReaderCounts c = counts_;
    if (reader_) accumulate(c, reader_->counts());
    return c;
  }

 private:
  static void accumulate(ReaderCounts& into, const ReaderCounts& c) {
    into.documents += c.documents;
    into.bytes += c.bytes;
    into.invalid_utf8 += c.invalid_utf8;
    into.empty += c.empty;
  }
  void add_counts() { accumulate(counts_, reader_->counts()); }

  const SourceConfig& source_;
  Dedup dedup_;
  std::unordered_set<Digest, DigestHash>& seen_;
  std::optional<DocumentReader> reader_;
  std::size_t file_ = 0;
  std::int64_t given_ = 0;
  std::uint64_t duplicates_ = 0;
  ReaderCounts counts_;
};

bool is_chat(const SourceConfig& source) { return source.poems || source.reader.format == SourceFormat::kChat; }

std::uint64_t heldout_documents(const SourceConfig& source, std::uint64_t documents) {
  return static_cast<std::uint64_t>(std::floor(source.heldout_tail * static_cast<double>(documents)));
}

// Feeds the tokenizer trainer; the last documents are held out here too, so it never sees evaluation text.
class TrainingText {
 public:
  TrainingText(const DataConfig& config, const ProgressFn& progress) : config_(config), progress_(progress) {}

  std::optional<std::string_view> next() {
    while (error_.message.empty()) {
      if (!reader_ && !open_next()) return std::nullopt;
      if (taken_ >= allowed_ || over_sample()) {
        reader_.reset();
        continue;
      }
      auto more = reader_->next(document_);
      if (!more) {
        error_ = std::move(more).error();
        break;
      }
      if (!*more) {
        reader_.reset();
        continue;
      }
      ++taken_;
      bytes_ += document_.text.size();
      if (progress_ && taken_ % kProgressEvery == 0)
        progress_({"tokenizer: reading", config_.sources[source_ - 1].name, taken_, allowed_});
      return document_.text;
    }
    return std::nullopt;
  }
  const Error& error() const { return error_; }

 private:
  bool over_sample() const {
    return config_.tokenizer.sample_bytes > 0 && bytes_ >= static_cast<std::uint64_t>(config_.tokenizer.sample_bytes);
  }
  // Counts the documents of the next source first, to know where its held-out tail begins.
  bool open_next() {
    for (; source_ < config_.sources.size(); ) {
      const SourceConfig& source = config_.sources[source_++];
      if (!source.in_tokenizer || is_chat(source)) continue;
      seen_.clear();
      SourceReader counter(source, Dedup::kWithin, seen_);
      std::uint64_t documents = 0;
      for (;;) {
        auto more = counter.next(document_);
        if (!more) {
          error_ = std::move(more).error();
          return false;
        }
        if (!*more) break;
        ++documents;
      }
      seen_.clear();
      taken_ = bytes_ = 0;
      allowed_ = documents - heldout_documents(source, documents);
      reader_.emplace(source, Dedup::kWithin, seen_);
      return true;
    }
    return false;
  }

  const DataConfig& config_;
  const ProgressFn& progress_;
  std::unordered_set<Digest, DigestHash> seen_;
  std::optional<SourceReader> reader_;
  std::size_t source_ = 0;
  std::uint64_t taken_ = 0, allowed_ = 0, bytes_ = 0;
  Document document_;
  Error error_{ErrorKind::kFailed, ""};
};

struct Builder {
  const DataConfig& config;
  const tokenizer::Tokenizer& tokenizer;
  const chat::Template& chat_template;
  TokenId end_token;
  const std::string& hash;
  std::unordered_set<Digest, DigestHash>& seen;
  const ProgressFn& progress;

  const HanSimplifier* simplifier;  // may be null

  Status add_document(const SourceConfig& source, const Document& document, ShardWriter& writer) const;
  Status add_poem(const SourceConfig& source, const Document& document, ShardWriter& writer) const;
  Status add_chat(const json::Object& chat, const SourceConfig& source, std::uint64_t line, ShardWriter& writer) const;
  Result<json::Object> build_source(const SourceConfig& source) const;
};

Status Builder::add_chat(const json::Object& chat, const SourceConfig& source, std::uint64_t line,
                         ShardWriter& writer) const {
  auto tokens = tokenize_chat(chat_template, chat, tokenizer);
  if (!tokens) return in_context(source.name + " line " + std::to_string(line), std::move(tokens).error());
  return writer.add(tokens->ids, tokens->text_bytes, tokens->kept);
}

// Poems that make no exercise are left out; the ledger shows how many documents were read and how many remain.
Status Builder::add_poem(const SourceConfig& source, const Document& document, ShardWriter& writer) const {
  const auto poem = parse_poem(document.text);
  if (!poem) return {};
  base::Rng rng(config.seed, kPoemStream + document.line);
  const HanSimplifier* simplify = source.simplify_requests ? simplifier : nullptr;
  return add_chat(poem_conversation(*poem, rng, simplify), source, document.line, writer);
}

Status Builder::add_document(const SourceConfig& source, const Document& document, ShardWriter& writer) const {
  if (source.poems) return add_poem(source, document, writer);
  if (source.reader.format == SourceFormat::kChat) return add_chat(document.chat, source, document.line, writer);
  std::vector<TokenId> ids;
  if (config.leading_end_token) ids.push_back(end_token);
  // Special tokens spelt out in a corpus are ordinary text: no document may end itself.
  const auto text = tokenizer.encode(document.text, /*parse_special=*/false);
  ids.insert(ids.end(), text.begin(), text.end());
  ids.push_back(end_token);
  return writer.add(ids, static_cast<std::uint32_t>(document.text.size()));
}

json::Object shard_record(const std::filesystem::path& path, const TokenShard* shard) {
  json::Object o;
  o.set("shard", shard == nullptr ? json::Value() : json::Value(path.filename().string()));
  o.set("documents", shard == nullptr ? std::uint64_t{0} : shard->documents());
  o.set("tokens", shard == nullptr ? std::uint64_t{0} : shard->tokens());
  o.set("text_bytes", shard == nullptr ? std::uint64_t{0} : shard->text_bytes());
  return o;
}

Result<json::Array> file_records(const SourceConfig& source) {
  json::Array files;
  for (const auto& path : source.files) {
    QW_ASSIGN(auto sha, base::sha256_file_hex(path));
    json::Object file;
    file.set("file", path.filename().string());
    file.set("sha256", std::move(sha));
    std::error_code code;
    file.set("bytes", static_cast<std::uint64_t>(std::filesystem::file_size(path, code)));
    files.push_back(std::move(file));
  }
  return files;
}

Result<json::Object> Builder::build_source(const SourceConfig& source) const {
  const auto train_path = config.output / (source.name + ".train.shard");
  const auto heldout_path = config.output / (source.name + ".heldout.shard");
  QW_ASSIGN(auto writer, ShardWriter::create(train_path, tokenizer.vocab_size(), hash,
                                             is_chat(source)));
  SourceReader reader(source, config.dedup, seen);
  Document document;
  for (;;) {
    QW_ASSIGN(const bool more, reader.next(document));
    if (!more) break;
    QW_TRY(add_document(source, document, writer));
    if (progress && writer.documents() % kProgressEvery == 0) progress({"shards", source.name, writer.documents(), 0});
  }
  const std::uint64_t heldout = heldout_documents(source, writer.documents());
  QW_TRY(writer.finish(heldout, heldout_path));
  QW_ASSIGN(const auto train, TokenShard::open(train_path));
  std::optional<TokenShard> tail;
  if (heldout > 0) {
    QW_ASSIGN(tail, TokenShard::open(heldout_path));
  }
  json::Object record;
  record.set("name", source.name);
  record.set("licence", source.licence);
  record.set("origin", source.origin);
  QW_ASSIGN(auto files, file_records(source));
  record.set("files", std::move(files));
  const ReaderCounts counts = reader.counts();
  record.set("documents_read", counts.documents);
  record.set("bytes_read", counts.bytes);
  record.set("duplicates_dropped", reader.duplicates());
  record.set("empty_dropped", counts.empty);
  record.set("invalid_utf8", counts.invalid_utf8);
  record.set("weight", source.weight);
  record.set("heldout_tail", source.heldout_tail);
  record.set("train", shard_record(train_path, &train));
  record.set("heldout", shard_record(heldout_path, tail ? &*tail : nullptr));
  return record;
}

bool holds_tokenizer(const std::filesystem::path& folder) {
  std::error_code code;
  return std::filesystem::exists(folder / "tokenizer.json", code) || std::filesystem::exists(folder / "vocab.json", code);
}

Result<TokenId> end_token_of(const tokenizer::Tokenizer& tokenizer) {
  if (const auto id = tokenizer.find("<|endoftext|>")) return *id;
  if (tokenizer.spec().eos) return *tokenizer.spec().eos;
  return fail(ErrorKind::kBadInput, "the tokenizer has neither <|endoftext|> nor an eos token");
}

// Before any work: a corpus that is not there is the commonest mistake, and it should not show after minutes.
Status check_files(const DataConfig& config) {
  std::error_code code;
  for (const auto& source : config.sources)
    for (const auto& path : source.files)
      if (!std::filesystem::exists(path, code))
        return fail(ErrorKind::kBadInput, path.string() + ": no such file (source " + source.name +
                                              "); name the folder of the corpora by --corpus or QW_CORPUS");
  return {};
}

Status make_folder(const std::filesystem::path& folder) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) return fail(ErrorKind::kFailed, folder.string() + ": cannot create: " + code.message());
  return {};
}

json::Object totals_of(const json::Array& sources) {
  std::int64_t documents = 0, tokens = 0, heldout = 0, duplicates = 0;
  for (const auto& source : sources) {
    documents += source.find("train")->find("documents")->as_int();
    tokens += source.find("train")->find("tokens")->as_int();
    heldout += source.find("heldout")->find("tokens")->as_int();
    duplicates += source.find("duplicates_dropped")->as_int();
  }
  json::Object o;
  o.set("documents", documents);
  o.set("tokens", tokens);
  o.set("heldout_tokens", heldout);
  o.set("duplicates_dropped", duplicates);
  return o;
}

}  // namespace

Status train_tokenizer(const DataConfig& config, const ProgressFn& progress) {
  const TokenizerConfig& t = config.tokenizer;
  const auto regular = t.vocab - static_cast<std::int64_t>(t.added.size());
  if (regular < 256) return fail(ErrorKind::kUsage, "tokenizer.vocab must leave room for the 256 bytes and the added tokens");
  TrainingText text(config, progress);
  tokenizer::TrainOptions options;
  options.vocab = regular;
  options.min_frequency = t.min_frequency;
  options.added_tokens = t.added;
  auto spec = tokenizer::train_bpe([&] { return text.next(); }, options, [&](std::int64_t done, std::int64_t total) {
    if (progress)
      progress({"tokenizer: merging", "", static_cast<std::uint64_t>(done), static_cast<std::uint64_t>(total)});
  });
  if (!text.error().message.empty()) return tl::unexpected(text.error());
  if (!spec) return tl::unexpected(std::move(spec).error());
  const auto id_of = [&](std::string_view name) -> std::optional<TokenId> {
    for (const auto& token : spec->added)
      if (token.text == name) return token.id;
    return std::nullopt;
  };
  spec->pad = id_of("<|endoftext|>");
  spec->eos = id_of("<|im_end|>") ? id_of("<|im_end|>") : id_of("<|endoftext|>");
  spec->stop.clear();
  for (const auto id : {spec->eos, spec->pad})
    if (id && (spec->stop.empty() || spec->stop.front() != *id)) spec->stop.push_back(*id);
  if (id_of("<|im_start|>")) spec->chat_template = kChatMlTemplate;
  QW_TRY(make_folder(t.folder));
  return tokenizer::save_tokenizer_folder(*spec, t.folder);
}

Result<json::Object> build_data(const DataConfig& config, const ProgressFn& progress) {
  QW_TRY(check_files(config));
  if (!holds_tokenizer(config.tokenizer.folder)) {
    if (config.tokenizer.vocab == 0)
      return fail(ErrorKind::kBadInput, config.tokenizer.folder.string() + ": no tokenizer there, and tokenizer.vocab is not set");
    QW_TRY(train_tokenizer(config, progress));
  }
  QW_ASSIGN(auto spec, tokenizer::load_tokenizer_folder(config.tokenizer.folder));
  const std::string hash = tokenizer_hash(spec);
  QW_ASSIGN(const auto tokenizer, tokenizer::Tokenizer::create(std::move(spec)));
  QW_ASSIGN(const TokenId end_token, end_token_of(tokenizer));
  QW_ASSIGN(const auto chat_template, chat::Template::parse(config.chat_template.empty() ? kChatMlTrainingTemplate
                                                                                       : config.chat_template));
  QW_TRY(make_folder(config.output));
  std::unordered_set<Digest, DigestHash> seen;
  std::optional<HanSimplifier> simplifier;
  for (const auto& source : config.sources)
    if (source.simplify_requests && !simplifier) {
      QW_ASSIGN(simplifier, HanSimplifier::create());
    }
  const Builder builder{config, tokenizer, chat_template, end_token, hash, seen, progress, simplifier ? &*simplifier : nullptr};
  json::Array sources;
  for (const auto& source : config.sources) {
    QW_ASSIGN(auto record, builder.build_source(source));
    sources.push_back(std::move(record));
  }
  json::Object ledger;
  ledger.set("format", "qianwen-ledger-1");
  ledger.set("config_sha256", config.fingerprint);
  ledger.set("tokenizer_sha256", hash);
  ledger.set("tokenizer", config.tokenizer.folder.string());
  ledger.set("vocab", tokenizer.vocab_size());
  ledger.set("seed", config.seed);
  ledger.set("dedup", config.dedup == Dedup::kNone ? "none" : config.dedup == Dedup::kWithin ? "within" : "across");
  ledger.set("totals", totals_of(sources));
  ledger.set("sources", std::move(sources));
  json::WriteStyle style;
  style.indent = 2;
  QW_TRY(base::write_file_atomically(config.output / "ledger.json", json::dump(json::Value(ledger), style) + "\n"));
  return ledger;
}

Status check_ledger_config(const DataConfig& config) {
  const auto path = config.output / "ledger.json";
  QW_ASSIGN(const std::string text, base::read_file(path, 64 << 20));
  auto ledger = json::parse(text);
  if (!ledger) return in_context(path.string(), std::move(ledger).error());
  const json::Value* built = ledger->find("config_sha256");
  if (built == nullptr || !built->is_string() || built->as_string() != config.fingerprint)
    return fail(ErrorKind::kUsage, path.string() + ": was built from another configuration; run 'qianwen data build' again");
  return {};
}

}  // namespace qw::data
