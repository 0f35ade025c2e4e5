// From corpora to training data: a tokenizer (trained here or given), one token shard per source, a held-out shard per
// source, and a ledger that says where every token came from.
//
// A build is a function of its configuration and its files: the same bytes come out every time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/document_reader.h"
#include "json/value.h"
#include "tokenizer/tokenizer.h"

namespace qw::data {

enum class Exercises : std::uint8_t { kNone, kAny, kForms };    // what becomes of poems (poem_chat.h, poem_forms.h)
enum class Dedup : std::uint8_t { kNone, kWithin, kAcross };  // exact copies of a document, by SHA-256 of its text

enum class Normalisation : std::uint8_t { kNone, kNfc, kNfkc };  // Unicode's; control and zero-width characters go, too
enum class Language : std::uint8_t { kAny, kChinese, kEnglish };

// What a text must be to stay, and what is replaced in it. The rules for whole texts are for plain ones, not for conversations.
struct CleaningRules {
  Normalisation normalisation = Normalisation::kNone;
  std::int64_t min_characters = 0, max_characters = 0;  // but white space; max 0 = any
  double min_letters = 0;          // share of the characters that are letters of any script
  double max_repeated_lines = 1;   // share of characters in lines that stood in the text before
  double max_repeated_runs = 1;    // share of words (of Chinese: characters) in runs of ten that stood before
  Language language = Language::kAny;
  std::int64_t boilerplate_documents = 0;  // lines that stand in so many documents of the source are dropped; 0 = none
  std::string personal_data;       // kinds to be replaced by their names; empty: none
  friend bool operator==(const CleaningRules&, const CleaningRules&) = default;
};
// Replaces what tells of people in a text; returns how much there was. Called by many threads at once.
using Scrubber = std::function<std::uint64_t(std::string&)>;

struct SourceConfig {
  std::string name;                          // also the name of its shards
  std::vector<std::filesystem::path> files;  // resolved against the corpus folder; "./x" against the working folder
  std::string licence, origin;               // for the ledger; both must be given
  ReaderOptions reader;
  double weight = 1;             // how often an epoch sees each document; a fraction is drawn by chance
  double heldout_tail = 0;       // this share of the documents, the last ones, is never trained on
  std::int64_t max_documents = 0;  // 0 = all
  Exercises exercises = Exercises::kNone;  // not kNone: format = "poems", text documents become conversations
  bool mixed_scripts = false;    // poems: requests in simplified and in traditional characters
  std::string instruction;       // retrieval and ranking: what the query is asked for
  bool in_tokenizer = true;      // whether the tokenizer learns from it
  CleaningRules cleaning;
  json::Object provenance;       // what is stated of it (provenance.h); for the ledger
};

struct TokenizerConfig {
  std::filesystem::path folder;      // loaded when it holds a tokenizer, else trained and written there
  std::int64_t vocab = 0;            // all ids, added tokens included; 0 = never train, the folder must exist
  std::int64_t min_frequency = 2;
  std::int64_t sample_bytes = 0;     // of each source; 0 = all
  std::vector<std::string> added;    // special tokens, in order after the regular ones
};

struct DataConfig {
  std::filesystem::path output;
  std::uint64_t seed = 1;
  int threads = 0;                   // 0 = one for each processor; the same bytes come out with any number
  Dedup dedup = Dedup::kAcross;
  double near_copies = 0;            // documents this similar to an earlier one of any source are dropped; 0 = none
  std::vector<std::filesystem::path> keep_out;  // documents that have a run of words of these files are dropped
  std::int64_t keep_out_run = 13;    // words; of Chinese, characters
  std::function<Result<Scrubber>(const std::string& kinds)> scrubber;  // who finds personal data; may be absent
  bool leading_end_token = false;    // also put the end-of-text token before every document
  std::string chat_template;         // Jinja source with generation marks; empty = ChatML
  TokenizerConfig tokenizer;
  std::vector<SourceConfig> sources;
  json::Object dataset;              // what is stated of all of it: id, version, name, ...
  std::string fingerprint;           // SHA-256 of the configuration without the corpus folder
};

// Reads and checks a configuration (docs/formats/data_config.md). `corpus` replaces the corpus folder of the file when
// not empty. Relative paths are relative to the working folder, source files to the corpus folder.
Result<DataConfig> data_config(const json::Object& config, const std::filesystem::path& corpus);

struct BuildProgress {
  std::string_view stage;    // "tokenizer", "shards"
  std::string_view source;
  std::uint64_t done = 0, total = 0;  // documents (total 0 = unknown), or merges for the tokenizer
};
using ProgressFn = std::function<void(const BuildProgress&)>;

// Trains the tokenizer on the sources (held-out tails excluded) and writes its folder.
Status train_tokenizer(const DataConfig& config, const ProgressFn& progress);
// Builds shards and ledger; trains the tokenizer first when its folder is absent. Returns the ledger as written to
// <output>/ledger.json.
Result<json::Object> build_data(const DataConfig& config, const ProgressFn& progress);

// Fails (kUsage) when the ledger in config.output was built from another configuration.
Status check_ledger_config(const DataConfig& config);

}  // namespace qw::data
