#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/sha256.h"
#include "data/build.h"
#include "data/config_table.h"
#include "data/provenance.h"
#include "tokenizer/retrieval_prompt.h"

namespace qw::data {
namespace {

constexpr std::int64_t kAnyCount = std::int64_t{1} << 40;

bool is_plain_name(std::string_view name) {
  if (name.empty() || name.size() > 64) return false;
  for (const char c : name)
    if (!(('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || ('0' <= c && c <= '9') || c == '_' || c == '-')) return false;
  return true;
}

Status read_reader(ConfigTable& t, SourceConfig& source) {
  ReaderOptions& reader = source.reader;
  int format = 0, separator = 0, invalid = 0, han = 0;
  QW_TRY(t.read_choice("format", {"text", "jsonl", "chat", "poems", "sharegpt", "alpaca", "prompt_completion", "preference", "rating", "class", "prompts", "retrieval", "ranking", "csv", "html", "markdown"}, format));
  QW_TRY(t.read_choice("separator", {"blank_line", "line", "file"}, separator));
  QW_TRY(t.read_choice("invalid_utf8", {"replace", "drop", "refuse"}, invalid));
  QW_TRY(t.read_choice("han", {"keep", "simplified"}, han));
  constexpr int kWhole = 13;  // from here on
  const bool poems = format == 3, conversations = format > 3 && format < kWhole;
  if (poems) {  // with other formats these keys stay unknown
    int exercises = 0;
    QW_TRY(t.read_choice("exercises", {"any", "forms"}, exercises));
    source.exercises = exercises == 1 ? Exercises::kForms : Exercises::kAny;
    QW_TRY(t.read("mixed_scripts", source.mixed_scripts));
  }
  reader.format = poems           ? SourceFormat::kText
                  : conversations ? SourceFormat::kConversation
                  : format >= kWhole ? static_cast<SourceFormat>(static_cast<int>(SourceFormat::kCsv) + format - kWhole)
                                  : static_cast<SourceFormat>(format);
  if (conversations) reader.form = static_cast<ConversationForm>(format - 4);
  if (conversations && reader.form == ConversationForm::kClassified) {  // with other formats the key stays unknown
    QW_TRY(t.read("labels", reader.labels));
    if (reader.labels.size() < 2) return fail(ErrorKind::kBadInput, t.name("labels") + " must name two classes or more");
    for (const auto& label : reader.labels)
      if (std::count(reader.labels.begin(), reader.labels.end(), label) > 1)
        return fail(ErrorKind::kBadInput, t.name("labels") + " names " + label + " twice");
  }
  if (conversations && (reader.form == ConversationForm::kRetrieval || reader.form == ConversationForm::kRanking)) {
    source.instruction = tokenizer::kDefaultInstruction;
    QW_TRY(t.read("instruction", source.instruction));
  }
  reader.separator = static_cast<Separator>(separator);
  reader.invalid_utf8 = static_cast<InvalidUtf8>(invalid);
  reader.simplify_han = han == 1;
  QW_TRY(t.read("text_field", reader.text_field));
  QW_TRY(t.read("messages_field", reader.messages_field));
  auto most = static_cast<std::int64_t>(reader.max_document_bytes);
  QW_TRY(t.read("max_document_bytes", most, 16, std::int64_t{1} << 30));
  reader.max_document_bytes = static_cast<std::uint64_t>(most);
  return {};
}

Status read_cleaning(ConfigTable t, CleaningRules& c) {
  int normalisation = 0, language = 0;
  QW_TRY(t.read_choice("unicode", {"keep", "nfc", "nfkc"}, normalisation));
  c.normalisation = static_cast<Normalisation>(normalisation);
  QW_TRY(t.read("min_characters", c.min_characters, 0, kAnyCount));
  QW_TRY(t.read("max_characters", c.max_characters, 0, kAnyCount));
  QW_TRY(t.read("min_letters", c.min_letters, 0, 1));
  QW_TRY(t.read("max_repeated_lines", c.max_repeated_lines, 0, 1));
  QW_TRY(t.read("max_repeated_runs", c.max_repeated_runs, 0, 1));
  QW_TRY(t.read("boilerplate_documents", c.boilerplate_documents, 0, kAnyCount));
  if (c.boilerplate_documents == 1)
    return fail(ErrorKind::kBadInput, t.name("boilerplate_documents") + " of 1 would drop every line");
  QW_TRY(t.read_choice("language", {"any", "zh", "en"}, language));
  c.language = static_cast<Language>(language);
  QW_TRY(t.read("personal_data", c.personal_data));
  return t.finish();
}

// A folder stands for the files below it, in the order of their names.
std::vector<std::filesystem::path> files_at(const std::filesystem::path& path) {
  std::error_code code;
  if (!std::filesystem::is_directory(path, code)) return {path};
  std::vector<std::filesystem::path> files;
  for (std::filesystem::recursive_directory_iterator it(path, code), end; !code && it != end; it.increment(code))
    if (std::error_code unread; it->is_regular_file(unread) && !it->path().filename().string().starts_with('.')) files.push_back(it->path());
  std::sort(files.begin(), files.end());
  return files;
}

Result<SourceConfig> read_source(ConfigTable& t, const std::filesystem::path& corpus) {
  SourceConfig source;
  QW_TRY(t.read("name", source.name));
  if (!is_plain_name(source.name))
    return fail(ErrorKind::kBadInput, t.name("name") + " must be 1 to 64 letters, digits, '-' or '_'");
  std::vector<std::string> paths;
  QW_TRY(t.read("path", paths));
  if (paths.empty()) return fail(ErrorKind::kBadInput, t.name("path") + " is missing");
  for (const auto& path : paths) {
    // "./x" means the working folder; an absolute path stays as it is.
    const auto files = files_at(path.starts_with("./") ? std::filesystem::path(path) : corpus / path);
    source.files.insert(source.files.end(), files.begin(), files.end());
  }
  if (source.files.empty()) return fail(ErrorKind::kBadInput, t.name("path") + ": no files are there");
  QW_TRY(t.read("licence", source.licence));
  QW_TRY(t.read("origin", source.origin));
  if (source.licence.empty() || source.origin.empty())
    return fail(ErrorKind::kBadInput, t.name("licence") + " and " + t.name("origin") + " must be stated");
  QW_TRY(read_reader(t, source));
  if (t.has("clean")) {
    QW_ASSIGN(auto cleaning, t.table("clean"));
    QW_TRY(read_cleaning(std::move(cleaning), source.cleaning));
  }
  QW_TRY(t.read("weight", source.weight, 0, 1000));
  QW_TRY(t.read("heldout_tail", source.heldout_tail, 0, 1));
  QW_TRY(t.read("max_documents", source.max_documents, 0, kAnyCount));
  QW_TRY(t.read("in_tokenizer", source.in_tokenizer));
  if (t.has("provenance")) {
    QW_ASSIGN(auto provenance, t.table("provenance"));
    QW_ASSIGN(source.provenance, read_provenance(std::move(provenance)));
  }
  QW_TRY(t.finish());
  return source;
}

Status read_tokenizer(ConfigTable& t, TokenizerConfig& tokenizer) {
  std::string folder;
  QW_TRY(t.read("folder", folder));
  if (folder.empty()) return fail(ErrorKind::kBadInput, t.name("folder") + " is missing");
  tokenizer.folder = folder;
  QW_TRY(t.read("vocab", tokenizer.vocab, 0, 1 << 24));
  QW_TRY(t.read("min_frequency", tokenizer.min_frequency, 1, kAnyCount));
  QW_TRY(t.read("sample_bytes", tokenizer.sample_bytes, 0, kAnyCount));
  QW_TRY(t.read("added", tokenizer.added));
  return t.finish();
}

}  // namespace

Result<DataConfig> data_config(const json::Object& object, const std::filesystem::path& corpus_override) {
  ConfigTable top(object, "");
  DataConfig config;
  std::string corpus = "corpus", output, chat_template;
  QW_TRY(top.read("corpus", corpus));
  QW_TRY(top.read("output", output));
  if (output.empty()) return fail(ErrorKind::kBadInput, "output is missing");
  config.output = output;
  auto seed = static_cast<std::int64_t>(config.seed);
  QW_TRY(top.read("seed", seed, 0, INT64_MAX));
  config.seed = static_cast<std::uint64_t>(seed);
  int dedup = static_cast<int>(config.dedup);
  QW_TRY(top.read_choice("dedup", {"none", "within", "across"}, dedup));
  config.dedup = static_cast<Dedup>(dedup);
  QW_TRY(top.read("near_copies", config.near_copies, 0, 1));
  if (config.near_copies > 0 && config.near_copies < 0.5)
    return fail(ErrorKind::kBadInput, "near_copies below 0.5 would call texts copies that are none");
  std::vector<std::string> keep_out;
  QW_TRY(top.read("keep_out", keep_out));
  for (const std::string& path : keep_out)
    for (auto& file : files_at(path)) config.keep_out.push_back(std::move(file));
  if (!keep_out.empty()) QW_TRY(top.read("keep_out_run", config.keep_out_run, 4, 1000));  // else the key stays unknown
  QW_TRY(top.read("leading_end_token", config.leading_end_token));
  QW_TRY(top.read("chat_template", chat_template));
  if (!chat_template.empty()) {
    QW_ASSIGN(config.chat_template, base::read_file(chat_template, 1 << 20));
  }
  QW_ASSIGN(auto tokenizer, top.table("tokenizer"));
  QW_TRY(read_tokenizer(tokenizer, config.tokenizer));
  if (top.has("dataset")) {
    QW_ASSIGN(auto dataset, top.table("dataset"));
    QW_ASSIGN(config.dataset, read_dataset_facts(std::move(dataset)));
  }
  QW_ASSIGN(auto sources, top.tables("source"));
  if (sources.empty()) return fail(ErrorKind::kBadInput, "no [[source]] is given");
  for (auto& table : sources) {
    QW_ASSIGN(auto source, read_source(table, corpus_override.empty() ? std::filesystem::path(corpus) : corpus_override));
    for (const auto& other : config.sources)
      if (other.name == source.name) return fail(ErrorKind::kBadInput, "two sources are named " + source.name);
    config.sources.push_back(std::move(source));
  }
  QW_TRY(top.finish());
  json::Object named = object;
  named.erase("corpus");  // where the files lie does not matter, their hashes are in the ledger
  config.fingerprint = base::sha256_hex(json::dump(json::Value(std::move(named))) + config.chat_template);
  return config;
}

}  // namespace qw::data
