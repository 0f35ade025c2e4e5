// qianwen tokenizer train --input F... --vocab N OUT: learns a vocabulary.
// qianwen tokenizer extend MODEL OUT --add TOKEN...: gives a tokenizer more tokens, and its model rows for them.
#include <cstdio>
#include <filesystem>
#include <memory>
#include <numeric>

#include "commands.h"
#include "base/file.h"
#include "data/build.h"
#include "data_setup.h"
#include "formats/hf_folder.h"
#include "formats/resize_vocabulary.h"
#include "text_source.h"

namespace qw::app {
namespace {

struct TokenizerOptions {
  std::vector<std::string> inputs, added{"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  std::string out, separator = "blank_line";
  std::int64_t vocab = 8192, min_frequency = 2;
  bool simplified = false, json = false;
};

// Bytes a token on (the beginning of) the inputs, to judge a vocabulary by.
Result<double> bytes_a_token(const data::DataConfig& config, const tokenizer::Tokenizer& tokenizer) {
  constexpr std::uint64_t kEnough = 4 << 20;  // of each file; more does not move the second decimal
  std::uint64_t bytes = 0, tokens = 0;
  for (const auto& path : config.sources.front().files) {
    QW_ASSIGN(auto reader, data::DocumentReader::open(path, config.sources.front().reader));
    data::Document document;
    std::uint64_t taken = 0;
    while (taken < kEnough) {
      QW_ASSIGN(const bool more, reader.next(document));
      if (!more) break;
      taken += document.text.size();
      tokens += tokenizer.encode(document.text, false).size();
    }
    bytes += taken;
  }
  return tokens == 0 ? 0.0 : static_cast<double>(bytes) / static_cast<double>(tokens);
}

Status train(const TokenizerOptions& o, json::Object& result) {
  data::DataConfig config;
  config.tokenizer.folder = o.out;
  config.tokenizer.vocab = o.vocab;
  config.tokenizer.min_frequency = o.min_frequency;
  config.tokenizer.added = o.added;
  data::SourceConfig source;
  source.name = "input";
  source.files.assign(o.inputs.begin(), o.inputs.end());
  source.reader.simplify_han = o.simplified;
  source.reader.separator = o.separator == "line"   ? data::Separator::kLine
                            : o.separator == "file" ? data::Separator::kFile
                                                    : data::Separator::kBlankLine;
  config.sources.push_back(source);
  QW_TRY(data::train_tokenizer(config, o.json ? data::ProgressFn{} : person_progress()));
  QW_ASSIGN(auto spec, tokenizer::load_tokenizer_folder(o.out));
  QW_ASSIGN(const auto tokenizer, tokenizer::Tokenizer::create(std::move(spec)));
  QW_ASSIGN(const double ratio, bytes_a_token(config, tokenizer));
  result.set("vocab", tokenizer.vocab_size());
  result.set("bytes_per_token", ratio);
  result.set("folder", o.out);
  return {};
}

int run_train(const TokenizerOptions& o) {
  json::Object result;
  if (auto status = train(o, result); !status) return report(status.error());
  if (o.json) std::printf("%s\n", json::dump(json::Value(result)).c_str());
  else
    std::printf("%s: %lld tokens, %.3f bytes a token\n", o.out.c_str(),
                static_cast<long long>(result.find("vocab")->as_int()), result.find("bytes_per_token")->as_double());
  return 0;
}

namespace fs = std::filesystem;

struct ExtendOptions {
  std::string model, out, init = "pieces";
  std::vector<std::string> tokens;
  bool plain = false, json = false;
};

bool has_weights(const fs::path& folder) {
  std::error_code code;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    if (it->path().extension() == ".safetensors") return true;
  }
  return false;
}

// A new token's row is the mean of the rows of the tokens that its text was until now, or of all tokens there are.
formats::VocabularyRows plan_rows(const ExtendOptions& o, const tokenizer::Tokenizer& old,
                                  const tokenizer::TokenizerSpec& spec) {
  formats::VocabularyRows plan;
  std::vector<std::int64_t> all;
  for (std::int64_t id = 0; o.init == "mean" && id < old.vocab_size(); ++id) {
    if (!old.token_bytes(static_cast<tokenizer::TokenId>(id)).empty()) all.push_back(id);
  }
  for (const auto& token : spec.added) {
    if (token.id < old.vocab_size()) continue;
    const auto ids = old.encode(token.text, false);
    plan.fresh.push_back({token.id, o.init == "mean" ? all : std::vector<std::int64_t>(ids.begin(), ids.end())});
    plan.rows = token.id + 1;
  }
  return plan;
}

Status extend(const ExtendOptions& o, json::Object& result) {
  QW_ASSIGN(const std::string path, resolve_model(o.model));
  if (!fs::is_directory(path)) {
    return fail(ErrorKind::kUsage, path + ": not a folder; `qianwen convert` makes one of a GGUF file");
  }
  std::error_code code;
  if (fs::equivalent(path, o.out, code)) return fail(ErrorKind::kUsage, o.out + ": is the input itself");
  QW_ASSIGN(auto old_spec, tokenizer_of(path));
  QW_ASSIGN(const auto old, tokenizer::Tokenizer::create(std::move(old_spec)));
  QW_ASSIGN(const auto spec, tokenizer::extend_tokenizer(old, o.tokens, !o.plain));
  fs::create_directories(o.out, code);
  if (code) return fail(ErrorKind::kFailed, o.out + ": cannot create: " + code.message());
  if (has_weights(path)) {
    QW_ASSIGN(const auto model, formats::HfFolder::open(path));
    QW_ASSIGN(const std::int64_t rows, formats::write_resized_vocabulary(model, plan_rows(o, old, spec), o.out));
    QW_TRY(base::write_file_atomically(fs::path(o.out) / "generation_config.json",
                                       json::dump(model.generation_config(), {.indent = 2}) + "\n"));
    result.set("rows", rows);
    result.set("init", o.init);
  }
  QW_TRY(tokenizer::save_tokenizer_folder(spec, o.out));
  json::Object ids;
  for (const auto& token : spec.added) {
    if (token.id >= old.vocab_size()) ids.set(token.text, std::int64_t{token.id});
  }
  result.set("added", std::move(ids));
  result.set("vocab", old.vocab_size() + static_cast<std::int64_t>(o.tokens.size()));
  result.set("folder", o.out);
  return {};
}

int run_extend(const ExtendOptions& o) {
  json::Object result;
  if (auto status = extend(o, result); !status) return report(status.error());
  if (o.json) {
    std::printf("%s\n", json::dump(json::Value(result)).c_str());
    return 0;
  }
  for (const auto& [text, id] : result.find("added")->as_object()) {
    std::printf("%7lld  %s\n", static_cast<long long>(id.as_int()), json::dump(json::Value(text)).c_str());
  }
  const json::Value* rows = result.find("rows");
  const std::string weights = rows == nullptr ? "no weights in the folder, tokenizer only"
                                              : "embedding of " + std::to_string(rows->as_int()) + " rows";
  std::printf("%s: %lld tokens, %s\n", o.out.c_str(), static_cast<long long>(result.find("vocab")->as_int()),
              weights.c_str());
  return 0;
}

void add_extend(CLI::App& group, Outcome& outcome) {
  auto options = std::make_shared<ExtendOptions>();
  auto* command = group.add_subcommand("extend", "Adds tokens to a model folder, and rows for them to its embedding");
  command->add_option("model", options->model, "model or tokenizer folder")->required();
  command->add_option("out", options->out, "folder to write")->required();
  command->add_option("--add", options->tokens, "tokens, in the order of their ids; once for each or all at once")->required()->take_all();
  command->add_option("--init", options->init,
                      "a new row is the mean of the rows of the pieces its text was (pieces) or of all tokens (mean)")
      ->check(CLI::IsMember({"pieces", "mean"}));
  command->add_flag("--plain", options->plain, "not special: the new tokens stay in decoded text");
  command->add_flag("--json", options->json, "machine-readable output");
  command->callback([&outcome, options] { outcome.code = run_extend(*options); });
}

}  // namespace

void add_tokenizer(CLI::App& app, Outcome& outcome) {
  auto* group = app.add_subcommand("tokenizer", "Trains tokenizers and adds tokens to them");
  group->require_subcommand(1);
  add_extend(*group, outcome);
  auto options = std::make_shared<TokenizerOptions>();
  auto* command = group->add_subcommand("train", "Learns a byte-level BPE from text files (plain or .xz)");
  command->add_option("out", options->out, "folder to write")->required();
  command->add_option("--input", options->inputs, "text files")->required()->take_all();
  command->add_option("--vocab", options->vocab, "ids in all, special tokens included")->check(CLI::Range(257, 1 << 24));
  command->add_option("--min-frequency", options->min_frequency, "pairs seen less often are not merged");
  command->add_option("--added", options->added, "special tokens, in order");
  command->add_option("--separator", options->separator, "what ends a document")
      ->check(CLI::IsMember({"blank_line", "line", "file"}));
  command->add_flag("--simplified", options->simplified, "turn traditional Chinese into simplified first");
  command->add_flag("--json", options->json, "machine-readable output");
  command->callback([&outcome, options] { outcome.code = run_train(*options); });
}

}  // namespace qw::app
