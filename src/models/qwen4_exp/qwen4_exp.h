// Qwen3.8-Flash-Next, text: delta networks and attention with mixtures of experts around a residual of several streams, and
// embeddings of hashed n-grams in one layer. The README says what is computed and what stood model for it.
#pragma once

#include <vector>

#include "models/internal/hybrid.h"

namespace qw::models::qwen4_exp {

struct Config {
  HybridConfig hybrid;
  std::int32_t streams = 4, rank = 320;            // of the residual, and of the mixers of its streams
  std::int32_t index_heads = 0, index_dim = 0;     // of the indexer that chooses what attention sees
  std::int64_t index_budget = 0, index_ratio = 0;  // tokens chosen; tokens of a block
  // Embeddings of n-grams.
  std::vector<std::int32_t> ple_layers;  // that have them, in order
  std::int32_t ple_width = 0, ple_taps = 4;
  std::int32_t ngram_size = 3, heads_per_ngram = 8, shards = 1;
  std::int64_t ngram_base = 0, ngram_divisor = 0, seed = 0;
  std::int32_t end_of_text = 0;
  std::vector<ops::NgramSpec> ngrams;  // of these layers, made of the above or of the file's numbers; without .table and .state
};

Result<Config> read_hf(const json::Object& config);
Result<Config> read_gguf(const json::Object& metadata, bool has_output_weight, std::int64_t vocab);
json::Object write_hf(const Config& c);
json::Object write_gguf(const Config& c);

// Name of the table of the n-grams of ple_layers[which] in GGUF; files of llama.cpp have at most one.
std::string gguf_table(std::int32_t which);
// What the hashes are made of by the published rule: factors, sizes and offsets of the heads. kBadInput if they cannot be.
Status settle_ngrams(Config& c);

class Qwen4Exp final : public Decoder {
 public:
  explicit Qwen4Exp(Config config);
  void forward(ops::Executor& ex) const override;
  void draft(ops::Executor& ex) const override;
  json::Object hf_config() const override { return write_hf(config4_); }
  json::Object gguf_metadata() const override { return write_gguf(config4_); }

 private:
  // Mixes the streams to the row that a half of a layer reads, and says how much of what it makes each stream takes.
  struct Mixer {
    ops::Weight norm;      // [streams * D]
    ops::Weight down, up;  // [rank, streams * D], [streams * D, rank]
    ops::Weight inject;    // [streams, streams * D]; absent behind the last layer
  };
  struct Ngrams {
    ops::Weight key, value;                      // [streams * D, E], [D, E]
    ops::Weight norm_key, norm_query, norm_conv;  // [streams * D]
    ops::Weight conv;                            // [streams * D, taps]
    std::int64_t conv_state = 0;
    ops::NgramSpec spec;
  };
  struct Layer {
    bool full = false;
    std::int32_t ngrams = -1;  // of ple_
    Mixer attention_mixer, ffn_mixer;
    AttentionWeights attention;  // if full
    DeltaWeights delta;          // if not
    MixtureWeights experts;
  };
  // The layer that drafts: norms of the residual's streams and of the token's embedding, what both become together in each stream,
  // one layer with attention, a mixer; ends shared with the model.
  struct Draft {
    ops::Weight embedding_norm, hidden_norm, embedding, hidden;
    Layer layer;
    Mixer last;
  };
  struct Mixed {
    ops::Value row, inject;  // [N, D], [N, streams]
  };
  Mixer mixer_weights(const std::string& hf, const std::string& gguf, bool inject);
  AttentionWeights indexed_attention_weights(const LayerNames& names);
  void ngram_weights(const LayerNames& names, std::int32_t which);
  Layer layer_weights(const LayerNames& names, bool full);
  void draft_weights();
  void note_numbers();
  ops::Value run_layer(ops::Executor& ex, ops::Value streams, const Layer& l, int cache_layer) const;
  Mixed mix(ops::Executor& ex, ops::Value streams, const Mixer& w) const;
  ops::Value take(ops::Executor& ex, ops::Value streams, ops::Value made, ops::Value inject) const;
  ops::Value tiled(ops::Executor& ex, ops::Value x) const;
  ops::Value add_ngrams(ops::Executor& ex, ops::Value streams, const Ngrams& w) const;

  Config config4_;
  std::vector<Layer> layers_;
  Mixer last_;
  std::vector<Ngrams> ple_;
  Draft draft_;  // if traits().draft_layers
};

Result<std::unique_ptr<Model>> from_hf_config(const json::Object& config);
Result<std::unique_ptr<Model>> from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                  std::int64_t vocab);

}  // namespace qw::models::qwen4_exp
