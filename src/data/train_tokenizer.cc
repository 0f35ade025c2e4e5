#include <optional>

#include "base/thread_pool.h"
#include "data/build.h"
#include "data/chat_tokens.h"
#include "data/internal/sieve.h"
#include "data/internal/source_reader.h"

namespace qw::data {
namespace {

// Feeds the tokenizer trainer; the last documents are held out here too, so it never sees evaluation text.
class TrainingText {
 public:
  TrainingText(const DataConfig& config, const ProgressFn& progress)
      : config_(config), progress_(progress), pool_(config.threads) {}

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
      if (!begin(source)) return false;
      SourceReader counter(source, Dedup::kWithin, seen_, &*sieve_, &pool_);
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
      sieve_->restart();
      reader_.emplace(source, Dedup::kWithin, seen_, &*sieve_, &pool_);
      return true;
    }
    return false;
  }

  // A sieve that knows nothing of other sources.
  bool begin(const SourceConfig& source) {
    if (!sieve_) {
      auto sieve = Sieve::create(config_);
      if (!sieve) {
        error_ = std::move(sieve).error();
        return false;
      }
      sieve_.emplace(std::move(*sieve));
    }
    sieve_->restart();
    if (auto status = sieve_->learn(source, Dedup::kWithin); !status) {
      error_ = std::move(status).error();
      return false;
    }
    return true;
  }

  const DataConfig& config_;
  const ProgressFn& progress_;
  base::ThreadPool pool_;
  SeenDocuments seen_;
  std::optional<Sieve> sieve_;
  std::optional<SourceReader> reader_;
  std::size_t source_ = 0;
  std::uint64_t taken_ = 0, allowed_ = 0, bytes_ = 0;
  Document document_;
  Error error_{ErrorKind::kFailed, ""};
};

}  // namespace

Status train_tokenizer(const DataConfig& config, const ProgressFn& progress) {
  const TokenizerConfig& t = config.tokenizer;
  const auto regular = t.vocab - static_cast<std::int64_t>(t.added.size());
  if (regular < 256) return fail(ErrorKind::kBadInput, "tokenizer.vocab must leave room for the 256 bytes and the added tokens");
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
  const auto id_of = [&](std::string_view name) -> std::optional<tokenizer::TokenId> {
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
  return tokenizer::save_tokenizer_folder(*spec, t.folder);
}

}  // namespace qw::data
