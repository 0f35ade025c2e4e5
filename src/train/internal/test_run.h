// What the room's tests train: a tiny corpus, its shards, and a recipe for a model on them. Used by tests only.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "base/cpu.h"
#include "base/file.h"
#include "base/rng.h"
#include "data/build.h"
#include "data/config_table.h"
#include "train/trainer.h"

namespace qw::train {

// A tiny corpus, its shards, and a recipe for a two-layer model on them; built once for all tests.
class TestRun : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string name = (std::filesystem::temp_directory_path() / "qw_train_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    base::Rng rng(4);
    static const char* kWords[] = {"moon", "river", "crane", "autumn", "mountain", "wind", "old", "friend"};
    std::ofstream corpus(folder_ / "text.txt");
    for (int d = 0; d < 300; ++d) {
      for (int i = 0; i < 10; ++i) corpus << kWords[rng.below(8)] << (i % 5 == 4 ? "\n" : " ");
      corpus << "\n";
    }
    corpus.close();
    const auto object = *data::parse_toml(
        "output = '" + (folder_ / "shards").string() + "'\n[tokenizer]\nfolder = '" + (folder_ / "tok").string() +
            "'\nvocab = 280\nadded = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']\n"
            "[[source]]\nname = 'text'\npath = 'text.txt'\nlicence = 'CC0'\norigin = 'test'\n"
            "heldout_tail = 0.1\n",
        "data");
    const auto config = data::data_config(object, folder_);
    ASSERT_TRUE(config) << config.error().message;
    const auto ledger = data::build_data(*config, {});
    ASSERT_TRUE(ledger) << ledger.error().message;
    dataset_ = new data::Dataset(*data::open_dataset(folder_ / "shards"));
  }
  static void TearDownTestSuite() {
    delete dataset_;
    std::filesystem::remove_all(folder_);
  }

  static json::Object recipe() {
    return *data::parse_toml(R"(
output = "unused"
shards = "unused"
steps = 10
sequence_length = 48
batch_sequences = 4
accumulation = 2
precision = "f32"
seed = 9
[model]
model_type = "qwen3"
vocab_size = 288
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 8
max_position_embeddings = 64
rope_theta = 10000.0
rms_norm_eps = 1e-6
tie_word_embeddings = true
[optimizer]
lr = 0.01
[schedule]
warmup = 2
[checkpoint]
keep = 2
)",
                             "recipe");
  }
  static TrainConfig config_with(const std::vector<std::string>& overrides, json::Object object = recipe()) {
    for (const auto& o : overrides) EXPECT_TRUE(data::apply_override(object, o));
    auto config = train_config(object);
    EXPECT_TRUE(config) << config.error().message;
    return *config;
  }
  // The recipe's model with a layer that carries states, and experts.
  static std::vector<std::string> hybrid(std::vector<std::string> more) {
    for (const char* o :
         {"model_type='qwen3_next'", "full_attention_interval=2", "linear_num_key_heads=2", "linear_num_value_heads=4",
          "linear_key_head_dim=8", "linear_value_head_dim=8", "num_experts=4", "num_experts_per_tok=2",
          "moe_intermediate_size=16", "shared_expert_intermediate_size=16"})
      more.push_back(std::string("model.") + o);
    return more;
  }
  static const kernels::Kernels& kernels_here() { return kernels::kernels_for(base::best_isa()); }
  static std::unique_ptr<Trainer> trainer(const TrainConfig& config, base::ThreadPool& pool,
                                          const data::Dataset& dataset = *dataset_) {
    auto made = Trainer::create(config, dataset, kernels_here(), pool);
    EXPECT_TRUE(made) << made.error().message;
    return std::move(*made);
  }
  // A folder "base/model" to go on from.
  static void train_base() {
    base::ThreadPool pool(2);
    ASSERT_TRUE(trainer(config_with({output("base"), "steps=4", "export_type=f32"}), pool)->run({}));
  }
  // The shards of the lines in NAME.jsonl; all of them are held out, too.
  static const data::Dataset* examples(const std::string& name, const std::string& format,
                                       const std::string& more = "") {
    const std::string source =
        "path = '" + name + ".jsonl'\nformat = '" + format + "'\nlicence = 'CC0'\norigin = 'test'\n" + more;
    const auto object =
        *data::parse_toml("output = '" + (folder_ / name).string() + "'\ndedup = 'none'\n[tokenizer]\nfolder = '" +
                              (folder_ / "tok").string() + "'\n[[source]]\nname = 'train'\n" + source +
                              "[[source]]\nname = 'held'\nheldout_tail = 1.0\n" + source,
                          "data");
    const auto ledger = data::build_data(*data::data_config(object, folder_), {});
    EXPECT_TRUE(ledger) << ledger.error().message;
    return new data::Dataset(*data::open_dataset(folder_ / name));
  }
  // The newest checkpoint, and the run's files of these names, of a run from its beginning to its end, which is stopped
  // after step `stop` and resumed if that is not 0.
  static std::string bytes_of_run(const TrainConfig& config, const data::Dataset& dataset, int threads,
                                  std::int64_t stop, const std::vector<std::string>& names = {}) {
    base::ThreadPool pool(threads);
    std::filesystem::remove_all(config.output);
    if (stop > 0) {
      auto first = trainer(config, pool, dataset);
      Callbacks callbacks;
      callbacks.stop = [&] { return first->steps_done() == stop; };
      const auto status = first->run(callbacks);
      EXPECT_TRUE(!status && status.error().kind == ErrorKind::kInterrupted);
    }
    auto t = trainer(config, pool, dataset);
    if (stop > 0) {
      EXPECT_TRUE(t->resume());
      EXPECT_EQ(t->steps_done(), stop);
    }
    const auto status = t->run({});
    EXPECT_TRUE(status) << status.error().message;
    std::string out = *base::read_file(list_checkpoints(config.output).back());
    for (const std::string& name : names) out += *base::read_file(config.output / name);
    return out;
  }
  // One process of several: to the end, or until step `stop`, which only the last of them asks for.
  static void run_until(std::int64_t stop, Trainer& t, const Communicator& communicator, Callbacks callbacks) {
    if (stop > 0)
      callbacks.stop = [&] { return communicator.rank() == communicator.size() - 1 && t.steps_done() == stop; };
    const auto status = t.run(callbacks);
    if (stop > 0) {
      EXPECT_TRUE(!status && status.error().kind == ErrorKind::kInterrupted);
    } else {
      EXPECT_TRUE(status) << status.error().message;
    }
  }
  static std::string output(const std::string& name) { return "output='" + (folder_ / name).string() + "'"; }

  static inline std::filesystem::path folder_;
  static inline data::Dataset* dataset_ = nullptr;
};

}  // namespace qw::train
