// qianwen data build CONFIG.toml | data show DIR
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "base/file.h"
#include "commands.h"
#include "data/packing.h"
#include "data_setup.h"

namespace qw::app {
namespace {

struct DataOptions {
  std::string config, corpus, folder;
  std::vector<std::string> overrides;
  std::int64_t samples = 0;
  int threads = 0;
  bool json = false;
};

long long number(const json::Value* object, const char* key) {
  const json::Value* v = object == nullptr ? nullptr : object->find(key);
  return v != nullptr && v->is_int() ? v->as_int() : 0;
}

std::string text(const json::Value& object, const char* key) {
  const json::Value* v = object.find(key);
  return v != nullptr && v->is_string() ? v->as_string() : "";
}

void print_ledger(const json::Object& ledger, const std::string& folder, bool as_json) {
  if (as_json) {
    json::Object shown = ledger;
    shown.set("ledger", folder + "/ledger.json");
    std::printf("%s\n", json::dump(json::Value(std::move(shown))).c_str());
    return;
  }
  std::printf("%-28s %10s %12s %10s %10s  %s\n", "source", "documents", "tokens", "held out", "duplicates", "licence");
  const json::Value* sources = ledger.find("sources");
  for (const auto& source : sources->as_array())
    std::printf("%-28s %10lld %12lld %10lld %10lld  %s\n", text(source, "name").c_str(),
                number(source.find("train"), "documents"), number(source.find("train"), "tokens"),
                number(source.find("heldout"), "tokens"), number(&source, "duplicates_dropped"),
                text(source, "licence").c_str());
  const json::Value* totals = ledger.find("totals");
  std::printf("%-28s %10lld %12lld %10lld %10lld\n", "all", number(totals, "documents"), number(totals, "tokens"),
              number(totals, "heldout_tokens"), number(totals, "duplicates_dropped"));
  std::printf("ledger: %s/ledger.json\n", folder.c_str());
}

int build(const DataOptions& o) {
  auto config = load_data_config(o.config, o.overrides, o.corpus);
  if (!config) return report(config.error());
  config->threads = o.threads;
  auto ledger = data::build_data(*config, o.json ? data::ProgressFn{} : person_progress());
  if (!ledger) return report(ledger.error());
  print_ledger(*ledger, config->output.string(), o.json);
  return 0;
}

// How what counts in the loss is told from what does not.
struct Marks {
  const char *begin, *end;
};
// Green where a terminal shows it and its user has not turned colours off (no-color.org); signs elsewhere.
Marks marks() {
  const char* off = std::getenv("NO_COLOR");
  const bool colours = ::isatty(STDOUT_FILENO) == 1 && (off == nullptr || *off == '\0');
  return colours ? Marks{"\x1b[32m", "\x1b[0m"} : Marks{"【", "】"};
}

// Foreign text as a terminal may see it: control characters but line ends and tabs become their pictures.
std::string harmless(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    const bool control = (u < 0x20 && c != '\n' && c != '\t') || u == 0x7F;
    if (!control) {
      out += c;
      continue;
    }
    // U+2400 + the character, U+2421 for delete.
    out += "\xE2\x90";
    out += u == 0x7F ? static_cast<char>(0xA1) : static_cast<char>(0x80 + u);
  }
  return out;
}

// One document as text. What counts in the loss is marked when the shard has a mask.
std::string sample_text(const data::TokenShard& shard, std::uint64_t document, const tokenizer::Tokenizer& tokenizer,
                        const Marks& mark) {
  std::string out;
  std::vector<tokenizer::TokenId> run;
  bool kept = false;
  const auto flush = [&] {
    const std::string text = harmless(tokenizer.decode(run, /*skip_special=*/false));
    if (!text.empty()) out += kept && shard.has_mask() ? mark.begin + text + mark.end : text;
    run.clear();
  };
  for (std::uint64_t at = shard.begin(document); at < shard.end(document); ++at) {
    if (shard.kept(at) != kept) flush();
    kept = shard.kept(at);
    run.push_back(shard.token(at));
  }
  flush();
  return out;
}

// Evenly spaced documents of every training shard, to look at what a model will see and learn.
Status print_samples(const data::Dataset& dataset, std::int64_t count) {
  QW_ASSIGN(auto spec, tokenizer::load_tokenizer_folder(dataset.tokenizer_folder));
  QW_ASSIGN(const auto tokenizer, tokenizer::Tokenizer::create(std::move(spec)));
  const Marks mark = marks();
  for (const auto& source : dataset.train) {
    const std::uint64_t n = std::min(static_cast<std::uint64_t>(count), source.shard.documents());
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t document = i * source.shard.documents() / n;
      std::printf("--- %s, document %llu\n%s\n", source.name.c_str(), static_cast<unsigned long long>(document),
                  sample_text(source.shard, document, tokenizer, mark).c_str());
    }
  }
  return {};
}

int show(const DataOptions& o) {
  // Opens every shard first, so that what is shown is also there and fits the ledger.
  const auto dataset = data::open_dataset(o.folder);
  if (!dataset) return report(dataset.error());
  if (o.samples > 0) {
    const auto status = print_samples(*dataset, o.samples);
    return status ? 0 : report(status.error());
  }
  auto file = base::read_file(std::filesystem::path(o.folder) / "ledger.json");
  if (!file) return report(file.error());
  auto ledger = json::parse(*file);
  if (!ledger) return report(ledger.error());
  print_ledger(ledger->as_object(), o.folder, o.json);
  return 0;
}

}  // namespace

void add_data(CLI::App& app, Outcome& outcome) {
  auto* data = app.add_subcommand("data", "Builds and shows training data");
  data->require_subcommand(1);
  auto options = std::make_shared<DataOptions>();
  auto* build_command = data->add_subcommand("build", "Corpora -> tokenizer, token shards, provenance ledger");
  build_command->add_option("config", options->config, "data configuration (TOML)")->required();
  build_command->add_option("--corpus", options->corpus, "folder of the corpora (also: QW_CORPUS)");
  build_command->add_option("--set", options->overrides, "override a key: a.b=c");
  add_threads_option(*build_command, options->threads);
  build_command->add_flag("--json", options->json, "machine-readable output");
  build_command->callback([&outcome, options] { outcome.code = build(*options); });
  auto* show_command = data->add_subcommand("show", "Checks the shards of a folder and shows its ledger");
  show_command->add_option("folder", options->folder, "folder with ledger.json")->required();
  show_command->add_option("--samples", options->samples, "print this many documents of each source; green, or between 【】, is what is learnt");
  show_command->add_flag("--json", options->json, "machine-readable output");
  show_command->callback([&outcome, options] { outcome.code = show(*options); });
}

}  // namespace qw::app
