// qianwen tokenizer train --input F... --vocab N OUT
#include <cstdio>
#include <memory>

#include "commands.h"
#include "data/build.h"
#include "data_setup.h"

namespace qw::app {
namespace {

struct Options {
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

Status train(const Options& o, json::Object& result) {
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

int run_train(const Options& o) {
  json::Object result;
  if (auto status = train(o, result); !status) return report(status.error());
  if (o.json) std::printf("%s\n", json::dump(json::Value(result)).c_str());
  else
    std::printf("%s: %lld tokens, %.3f bytes a token\n", o.out.c_str(),
                static_cast<long long>(result.find("vocab")->as_int()), result.find("bytes_per_token")->as_double());
  return 0;
}

}  // namespace

void add_tokenizer(CLI::App& app, Outcome& outcome) {
  auto* group = app.add_subcommand("tokenizer", "Trains tokenizers");
  group->require_subcommand(1);
  auto options = std::make_shared<Options>();
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
