#include "data/build.h"

#include <algorithm>
#include <optional>

#include "base/file.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "data/chat_tokens.h"
#include "data/internal/sieve.h"
#include "data/internal/source_reader.h"
#include "data/poem_chat.h"
#include "data/poem_forms.h"
#include "data/token_shard.h"
#include "tokenizer/retrieval_prompt.h"

namespace qw::data {
namespace {

// One document of a shard.
struct Row {
  std::vector<TokenId> ids;
  std::uint32_t text_bytes = 0;
  std::vector<std::uint8_t> kept;
  float value = 0;
};
using Rows = std::vector<Row>;

struct Builder {
  const DataConfig& config;
  const tokenizer::Tokenizer& tokenizer;
  const chat::Template& chat_template;
  TokenId end_token;
  const std::string& hash;
  SeenDocuments& seen;
  Sieve& sieve;
  base::ThreadPool& pool;
  const ProgressFn& progress;

  RequestScripts scripts;

  Status add_document(const SourceConfig& source, const Document& document, const FormBalance& balance,
                      Rows& rows) const;
  Status add_poem(const SourceConfig& source, const Document& document, const FormBalance& balance,
                  Rows& rows) const;
  Status add_chat(const json::Object& chat, const SourceConfig& source, std::uint64_t line, Rows& rows,
                  std::size_t context = 0, float value = 0) const;
  Status add_retrieval(const SourceConfig& source, const Document& document, Rows& rows) const;
  Status add_ids(const std::vector<TokenId>& ids, float value, Rows& rows) const;
  Status add_batch(const SourceConfig& source, const FormBalance& balance, SourceReader& reader, std::span<Document> batch,
                   std::uint64_t first, ShardWriter& writer, std::vector<std::uint64_t>& origin) const;
  Result<json::Object> build_source(const SourceConfig& source) const;
};

Status Builder::add_chat(const json::Object& chat, const SourceConfig& source, std::uint64_t line,
                         Rows& rows, std::size_t context, float value) const {
  auto tokens = tokenize_chat(chat_template, chat, tokenizer, context);
  if (!tokens) return in_context(source.name + " line " + std::to_string(line), std::move(tokens).error());
  rows.push_back({std::move(tokens->ids), tokens->text_bytes, std::move(tokens->kept), value});
  return {};
}

// Draws of exercises differ between sources, even of the same file.
std::uint64_t exercise_stream(const SourceConfig& source, std::uint64_t line) {
  return first_bits(base::sha256_hex("exercises " + source.name)) + line;
}

// Poems that make no exercise are left out; the ledger shows how many documents were read and how many remain.
Status Builder::add_poem(const SourceConfig& source, const Document& document, const FormBalance& balance,
                         Rows& rows) const {
  const auto poem = parse_poem(document.text);
  if (!poem) return {};
  base::Rng rng(config.seed, exercise_stream(source, document.line));
  const RequestScripts used = source.mixed_scripts ? scripts : RequestScripts{};
  if (source.exercises == Exercises::kAny)
    return add_chat(poem_conversation(*poem, rng, used), source, document.line, rows);
  const auto form = poem_form(*poem);
  if (!form || !balance.keep(*form, rng)) return {};
  return add_chat(form_conversation(*poem, *form, rng, used), source, document.line, rows);
}

// The forms of all poems of a source; nothing is counted for other exercises.
Result<FormBalance> count_forms(const SourceConfig& source) {
  FormBalance balance;
  if (source.exercises != Exercises::kForms) return balance;
  SeenDocuments seen;
  SourceReader reader(source, Dedup::kNone, seen);
  Document document;
  for (;;) {
    QW_ASSIGN(const bool more, reader.next(document));
    if (!more) return balance;
    const auto poem = parse_poem(document.text);
    const auto form = poem ? poem_form(*poem) : std::nullopt;
    if (form) balance.count(*form);
  }
}

Status Builder::add_ids(const std::vector<TokenId>& ids, float value, Rows& rows) const {
  std::uint32_t bytes = 0;
  for (const TokenId id : ids)
    if (!tokenizer.is_special(id)) bytes += static_cast<std::uint32_t>(tokenizer.token_bytes(id).size());
  rows.push_back({ids, bytes, std::vector<std::uint8_t>(ids.size(), 1), value});
  return {};
}

// As the service asks for embeddings and rankings.
Status Builder::add_retrieval(const SourceConfig& source, const Document& document, Rows& rows) const {
  const std::vector<std::string>& texts = document.texts;
  if (holds_of(source) == Holds::kRetrieval) {
    for (std::size_t i = 0; i < texts.size(); ++i)
      QW_TRY(add_ids(tokenizer::embedding_prompt(tokenizer, texts[i], i == 0 ? source.instruction : ""),
                     i == 0 ? static_cast<float>(texts.size()) : 0, rows));
    return {};
  }
  for (std::size_t i = 1; i < texts.size(); ++i)
    QW_TRY(add_ids(tokenizer::ranking_prompt(tokenizer, source.instruction, texts[0], texts[i]), i == 1 ? 1 : 0, rows));
  return {};
}

Status Builder::add_document(const SourceConfig& source, const Document& document, const FormBalance& balance,
                             Rows& rows) const {
  if (source.exercises != Exercises::kNone) return add_poem(source, document, balance, rows);
  if (!document.texts.empty()) return add_retrieval(source, document, rows);
  if (is_chat(source)) {
    QW_TRY(add_chat(document.chat, source, document.line, rows, document.context, document.value));
    return holds_of(source) == Holds::kPairs ? add_chat(document.rejected, source, document.line, rows, document.context) : Status{};
  }
  std::vector<TokenId> ids;
  if (config.leading_end_token) ids.push_back(end_token);
  // Special tokens spelt out in a corpus are ordinary text: no document may end itself.
  const auto text = tokenizer.encode(document.text, /*parse_special=*/false);
  ids.insert(ids.end(), text.begin(), text.end());
  ids.push_back(end_token);
  rows.push_back({std::move(ids), static_cast<std::uint32_t>(document.text.size()), {}, 0});
  return {};
}

// Documents become tokens side by side, while one thread reads those of the next batch; they are written in order.
Status Builder::add_batch(const SourceConfig& source, const FormBalance& balance, SourceReader& reader,
                          std::span<Document> batch, std::uint64_t first, ShardWriter& writer,
                          std::vector<std::uint64_t>& origin) const {
  std::vector<Rows> rows(batch.size());
  std::vector<Status> statuses(batch.size());
  const auto tokenise = [&](std::size_t i) { statuses[i] = add_document(source, batch[i], balance, rows[i]); };
  constexpr std::size_t kAtOnce = 4;
  const std::size_t at_once = batch.size() > 64 * kAtOnce ? kAtOnce : 1;
  const auto pieces = static_cast<std::int64_t>((batch.size() + at_once - 1) / at_once);
  if (source.mixed_scripts) {  // what turns one script into the other serves one thread
    for (std::size_t i = 0; i < batch.size(); ++i) tokenise(i);
  } else {
    pool.parallel_for(pieces + 1, 1, [&](std::int64_t begin, std::int64_t end) {
      for (auto piece = static_cast<std::size_t>(begin); piece < static_cast<std::size_t>(end); ++piece) {
        if (piece == 0) reader.read_ahead();
        for (std::size_t i = (piece - 1) * at_once; piece > 0 && i < std::min(piece * at_once, batch.size()); ++i) tokenise(i);
      }
    });
  }
  for (std::size_t i = 0; i < batch.size(); ++i) {
    QW_TRY(statuses[i]);
    for (const Row& row : rows[i]) QW_TRY(writer.add(row.ids, row.text_bytes, row.kept, row.value));
    origin.resize(writer.documents(), first + i);
  }
  return {};
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

// What was done to its texts, in order; the counts stand beside it.
json::Array processing_of(const SourceConfig& source, const DataConfig& config) {
  const Dedup dedup = config.dedup;
  json::Array out;
  static constexpr const char* kInvalid[] = {"ill-formed UTF-8 replaced", "documents with ill-formed UTF-8 dropped",
                                             "ill-formed UTF-8 refused"};
  out.emplace_back(kInvalid[static_cast<std::size_t>(source.reader.invalid_utf8)]);
  out.emplace_back("documents without text dropped");
  if (source.reader.simplify_han) out.emplace_back("traditional characters made simplified");
  out.emplace_back("texts longer than " + std::to_string(source.reader.max_document_bytes) + " bytes cut");
  if (dedup != Dedup::kNone)
    out.emplace_back(dedup == Dedup::kWithin ? "exact copies within the source dropped"
                                             : "exact copies of earlier documents of all sources dropped");
  const CleaningRules& rules = source.cleaning;
  if (rules.boilerplate_documents > 0)
    out.emplace_back("lines that stand in " + std::to_string(rules.boilerplate_documents) + " documents of the source dropped");
  if (rules.normalisation != Normalisation::kNone)
    out.emplace_back(std::string(rules.normalisation == Normalisation::kNfc ? "NFC" : "NFKC") + ", without control and zero-width characters");
  if (rules.min_characters > 0 || rules.max_characters > 0) out.emplace_back("texts of other lengths dropped");
  if (rules.min_letters > 0) out.emplace_back("texts with few letters dropped");
  if (rules.max_repeated_lines < 1 || rules.max_repeated_runs < 1) out.emplace_back("texts that repeat themselves dropped");
  if (rules.language != Language::kAny)
    out.emplace_back(rules.language == Language::kChinese ? "texts that are not Chinese dropped" : "texts that are not English dropped");
  if (!config.keep_out.empty())
    out.emplace_back("documents that share " + std::to_string(config.keep_out_run) + " words in a row with texts for evaluation dropped");
  if (config.near_copies > 0) out.emplace_back("near copies of earlier documents dropped (MinHash)");
  if (!rules.personal_data.empty()) out.emplace_back("personal data replaced: " + rules.personal_data);
  if (source.exercises != Exercises::kNone) out.emplace_back("poems made into exercises in conversation form");
  if (source.max_documents > 0)
    out.emplace_back("only the first " + std::to_string(source.max_documents) + " documents taken");
  return out;
}

Result<json::Object> Builder::build_source(const SourceConfig& source) const {
  const auto train_path = config.output / (source.name + ".train.shard");
  const auto heldout_path = config.output / (source.name + ".heldout.shard");
  QW_ASSIGN(auto writer, ShardWriter::create(train_path, tokenizer.vocab_size(), hash,
                                             is_chat(source), holds_of(source) != Holds::kTexts));
  QW_TRY(sieve.learn(source, config.dedup));
  SourceReader reader(source, config.dedup, seen, &sieve, &pool);
  QW_ASSIGN(const FormBalance balance, count_forms(source));
  std::vector<std::uint64_t> origin;  // of each document written: its number among those read
  for (std::uint64_t number = 0;;) {
    QW_ASSIGN(const auto batch, reader.next_batch());
    if (batch.empty()) break;
    QW_TRY(add_batch(source, balance, reader, batch, number, writer, origin));
    number += batch.size();
    if (progress) progress({"shards", source.name, writer.documents(), 0});
  }
  // The tail is one of the corpus, so that exercises never show what another source of the same file holds out.
  const std::uint64_t boundary = reader.given() - heldout_documents(source, reader.given());
  const auto heldout = static_cast<std::uint64_t>(origin.end() - std::lower_bound(origin.begin(), origin.end(), boundary));
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
  if (!source.provenance.empty()) record.set("provenance", source.provenance);
  QW_ASSIGN(auto files, file_records(source));
  record.set("files", std::move(files));
  const ReaderCounts counts = reader.counts();
  record.set("documents_read", counts.documents);
  record.set("bytes_read", counts.bytes);
  record.set("duplicates_dropped", reader.duplicates());
  record.set("empty_dropped", counts.empty);
  record.set("invalid_utf8", counts.invalid_utf8);
  json::Object dropped;
  for (std::size_t f = 1; f < kFlaws; ++f)
    if (const auto n = sieve.dropped(source, static_cast<Flaw>(f)); n > 0) dropped.set(flaw_name(static_cast<Flaw>(f)), n);
  if (!dropped.empty()) record.set("dropped", std::move(dropped));
  if (source.cleaning.boilerplate_documents > 0) record.set("boilerplate_lines_dropped", sieve.lines_dropped(source));
  if (!source.cleaning.personal_data.empty()) record.set("personal_data_replaced", sieve.replaced(source));
  record.set("processing", processing_of(source, config));
  record.set("weight", source.weight);
  if (const Holds holds = holds_of(source); holds != Holds::kTexts) record.set("holds", holds_name(holds));
  if (!source.reader.labels.empty())
    record.set("labels", json::Array(source.reader.labels.begin(), source.reader.labels.end()));
  if (const Holds holds = holds_of(source); holds == Holds::kRetrieval || holds == Holds::kRankings)
    record.set("instruction", source.instruction);
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
                                              "); name the folder of the corpora by --corpus or QW_CORPUS; recipes/README.md says where they come from");
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
  SeenDocuments seen;
  QW_ASSIGN(Sieve sieve, Sieve::create(config));
  std::optional<HanConverter> simplified, traditional;
  RequestScripts scripts;
  for (const auto& source : config.sources)
    if (source.mixed_scripts && !simplified) {
      QW_ASSIGN(simplified, HanConverter::create(HanScript::kSimplified));
      QW_ASSIGN(traditional, HanConverter::create(HanScript::kTraditional));
      scripts = {&*simplified, &*traditional};
    }
  base::ThreadPool pool(config.threads);
  const Builder builder{config, tokenizer, chat_template, end_token, hash, seen, sieve, pool, progress, scripts};
  json::Array sources;
  for (const auto& source : config.sources) {
    QW_ASSIGN(auto record, builder.build_source(source));
    sources.push_back(std::move(record));
  }
  json::Object ledger;
  ledger.set("format", "qianwen-ledger-1");
  if (!config.dataset.empty()) ledger.set("dataset", config.dataset);
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
