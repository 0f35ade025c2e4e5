// Decoders most of whose layers are gated delta networks, which carry a state instead of keys and values, and some are
// attention with a gate (Yang et al., "Gated delta networks", 2024; the Qwen3-Next and Qwen3.5 releases).
//
// Numbers in files: norms stand around 0 in Hugging Face folders, as they are in GGUF; the rates of forgetting as
// logarithms there, as -exp of them in GGUF. Projections are kept as GGUF has them.
#pragma once

#include <vector>

#include "models/internal/mixture.h"

namespace qw::models {

struct HybridConfig {
  MixtureConfig mixture;               // .dense.traits.layers: those with attention; experts == 0: no mixture
  std::vector<bool> full;              // by layer: attention
  std::int32_t taps = 4;               // of the short convolutions
  ops::DeltaRuleSpec delta;            // without .state
  bool sigmoid_gate = false;           // of the delta networks' outputs; else silu
  std::int32_t draft_layers = 0;       // of the file, for drafts of later tokens: one is kept, several are left aside
  std::vector<std::int64_t> sections;  // rotary pairs of each axis of a position; text has one position for all
  std::int32_t layers() const { return static_cast<std::int32_t>(full.size()); }
};

struct HybridDefaults {
  MixtureDefaults names;       // .shared of mixtures
  bool mixture = false;
  bool fused_inputs = false;   // one projection for queries, keys, values and gates of a delta network, by key head
  bool sections = false;       // positions have axes
  std::string_view class_name;
  std::string_view hf_type;    // what folders written here say
};

Result<HybridConfig> read_hybrid_hf(const json::Object& config, const HybridDefaults& defaults);
Result<HybridConfig> read_hybrid_gguf(const json::Object& metadata, const HybridDefaults& defaults,
                                      bool has_output_weight, std::int64_t vocab);
json::Object write_hybrid_hf(const HybridConfig& c, const HybridDefaults& defaults);
json::Object write_hybrid_gguf(const HybridConfig& c, const HybridDefaults& defaults);

struct DeltaWeights {
  ops::Weight qkv, gate;         // [2 keys + values, D], [values, D]
  ops::Weight write_forget;      // [2 Hv, D], by key head: writing, then forgetting; or
  ops::Weight write, forget;     // [Hv, D] each
  ops::Weight conv;              // [2 keys + values, taps]
  ops::Weight a_log, dt_bias;    // [Hv]
  ops::Weight out_norm, out;
  std::int64_t state = 0;        // where its states begin in a slot
};
// Appends a delta network's parameters and makes room for its states in `t`. `fused_inputs`: see HybridDefaults.
DeltaWeights delta_weights(ParameterTable& table, ModelTraits& t, const HybridConfig& c, bool fused_inputs, const LayerNames& names);
// The delta network of h, which is normalised already -> [N, D].
ops::Value delta_net(ops::Executor& ex, ops::Value h, const DeltaWeights& w, const HybridConfig& c);
// Floats of a row that the widest of them needs, gated attention included.
std::int64_t delta_row_floats(const ModelTraits& t, const HybridConfig& c);

class HybridDecoder : public Decoder {
 public:
  void forward(ops::Executor& ex) const override;
  void draft(ops::Executor& ex) const override;
  json::Object hf_config() const override { return write_hybrid_hf(hybrid_, defaults_); }
  json::Object gguf_metadata() const override { return write_hybrid_gguf(hybrid_, defaults_); }

 protected:
  HybridDecoder(HybridConfig config, HybridDefaults defaults);

 private:
  struct Layer {
    bool full = false, sparse = false;
    AttentionWeights attention;  // if full
    ops::Weight delta_norm;
    DeltaWeights delta;          // if not
    ops::Weight ffn_norm;
    MixtureWeights experts;      // if sparse
    FfnWeights ffn;              // if not
  };
  // The layer that drafts (multi-token prediction, DeepSeek-AI, "DeepSeek-V3", 2024, section 2.2): norms of what it is given
  // and of the token's embedding, a projection of both, one layer with attention, a last norm; ends shared with the model.
  struct Draft {
    ops::Weight embedding_norm, hidden_norm, join, norm;
    Layer layer;
  };
  Layer layer_weights(const LayerNames& names, bool full, bool sparse);
  void draft_weights();
  ops::Value run_layer(ops::Executor& ex, ops::Value x, const Layer& l, int cache_layer) const;
  void note_states();

  HybridConfig hybrid_;
  HybridDefaults defaults_;
  std::vector<Layer> layers_;
  Draft draft_;  // if traits().draft_layers
};

}  // namespace qw::models
