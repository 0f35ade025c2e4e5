#include "signature.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "api/prompt.h"
#include "base/file.h"
#include "base/rng.h"
#include "convert.h"
#include "data/build.h"
#include "data/config_table.h"
#include "data/packing.h"
#include "kernels/kernels.h"
#include "open_model.h"
#include "train/trainer.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;

// FNV-1a, 64 bits: a fingerprint, no protection.
class Hash {
 public:
  void add(std::string_view bytes) {
    for (const char c : bytes) value_ = (value_ ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
    value_ = (value_ ^ 0xff) * 0x100000001b3ull;  // an end, so that "a","b" is not "ab"
  }
  template <class T>
  void add_numbers(const std::vector<T>& numbers) {
    for (const auto n : numbers) add(std::to_string(n));
    add("");
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325ull;
};

struct Folder {
  fs::path path;
  ~Folder() {
    std::error_code ignored;
    if (!path.empty()) fs::remove_all(path, ignored);
  }
};

// Poems of a tiny language: enough to learn a vocabulary and a grammar of pairs from.
std::string corpus() {
  static const char* kWords[] = {"moon", "river", "crane", "autumn", "山", "水", "明月", "清风", "old", "friend"};
  base::Rng rng(1);
  std::string text;
  for (int poem = 0; poem < 240; ++poem) {
    for (int word = 0; word < 12; ++word) text += std::string(kWords[rng.below(10)]) + (word % 4 == 3 ? "\n" : " ");
    text += "\n";
  }
  return text;
}

Result<data::Dataset> make_dataset(const fs::path& folder) {
  QW_TRY(base::write_file_atomically(folder / "corpus.txt", corpus()));
  const json::Object tokenizer{{"folder", (folder / "tokenizer").string()},
                               {"vocab", 288},
                               {"added", json::Array{"<|endoftext|>", "<|im_start|>", "<|im_end|>"}}};
  const json::Object source{{"name", "words"}, {"path", "corpus.txt"}, {"licence", "CC0-1.0"}, {"origin", "made here"}};
  QW_ASSIGN(const auto config, data::data_config({{"output", (folder / "shards").string()},
                                                  {"tokenizer", tokenizer},
                                                  {"source", json::Array{source}}},
                                                 folder));
  QW_ASSIGN(const auto ledger, data::build_data(config, {}));
  return data::open_dataset(folder / "shards");
}

// Keys of all generations in one: each architecture reads its own.
json::Object tiny_config(const std::string& architecture, std::int64_t vocab, int kv_heads) {
  return {{"model_type", architecture},
          {"vocab_size", vocab},
          {"hidden_size", 32},
          {"intermediate_size", 64},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", kv_heads},
          {"head_dim", 8},
          {"kv_channels", 8},
          {"max_position_embeddings", 128},
          {"seq_length", 128},
          {"num_experts", 4},
          {"num_experts_per_tok", 2},
          {"moe_intermediate_size", 32},
          {"shared_expert_intermediate_size", 32},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", false}};
}

Status answers(const fs::path& model_path, int threads, Hash& hash) {
  engine::LoadOptions options;
  options.threads = threads;
  options.isa = base::Isa::kPortable;
  QW_ASSIGN(ReadyModel model, load_model(model_path.string(), options));
  if (!model.chat_template) return fail(ErrorKind::kFailed, model_path.string() + ": lost its chat template");
  chat::Conversation conversation{json::Array{json::Object{{"role", "user"}, {"content", "明月 river<|im_end|>"}}}, {}, true, {}};
  QW_ASSIGN(const auto prompt, api::chat_prompt(*model.chat_template, conversation, *model.tokenizer));
  hash.add_numbers(prompt.ids);
  for (const float temperature : {0.0f, 1.0f}) {
    engine::Request request;
    request.prompt = prompt.ids;
    request.params.temperature = temperature;
    request.params.seed = 7;
    request.max_tokens = 16;
    QW_ASSIGN(const auto generation, engine::generate(model.loaded->engine(), std::move(request)));
    hash.add_numbers(generation.tokens);
  }
  return {};
}

Status live(const std::string& architecture, int kv_heads, const fs::path& folder, const data::Dataset& dataset,
            int threads, Hash& hash) {
  hash.add(architecture + "/" + std::to_string(kv_heads));
  const json::Object config = tiny_config(architecture, dataset.vocab, kv_heads);
  if (const auto model = models::model_from_hf_config(config); !model) {
    hash.add("refused");
    return {};
  }
  const fs::path output = folder / (architecture + std::to_string(kv_heads));
  QW_ASSIGN(const auto recipe, train::train_config({{"output", output.string()},
                                                    {"shards", (folder / "shards").string()},
                                                    {"steps", 12},
                                                    {"sequence_length", 64},
                                                    {"batch_sequences", 2},
                                                    {"precision", "f32"},
                                                    {"export_type", "f32"},
                                                    {"model", config},
                                                    {"optimizer", json::Object{{"lr", 0.01}}}}));
  base::ThreadPool pool(threads);
  QW_ASSIGN(auto trainer, train::Trainer::create(recipe, dataset, kernels::kernels_for(base::Isa::kPortable), pool));
  std::vector<std::int64_t> losses;
  for (std::int64_t i = 0; i < recipe.steps; ++i) {
    QW_ASSIGN(const auto step, trainer->step());
    losses.push_back(std::llround(step.loss * 1000));  // three decimals: libraries differ in the last bits of exp
  }
  hash.add_numbers(losses);
  QW_TRY(trainer->export_model(output / "model"));
  QW_TRY(answers(output / "model", threads, hash));
  const fs::path small = output / "small.gguf";
  QW_TRY(convert_model((output / "model").string(), small.string(), "q8_0", threads));
  return answers(small, threads, hash);
}

}  // namespace

Result<std::uint64_t> signature(int threads) {
  std::string name = (fs::temp_directory_path() / "qianwen-signature-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) return fail(ErrorKind::kFailed, name + ": cannot make the folder");
  const Folder folder{name};
  QW_ASSIGN(const auto dataset, make_dataset(folder.path));
  Hash hash;
  hash.add(dataset.tokenizer_hash);
  for (const std::string& architecture : models::architectures()) {
    for (const int kv_heads : {2, 4}) {  // shared keys and values, and a pair for each head
      if (auto status = live(architecture, kv_heads, folder.path, dataset, threads, hash); !status) {
        return in_context(architecture, status.error());
      }
    }
  }
  return hash.value();
}

}  // namespace qw::app
