// What the decoders share beyond their numbers: the table of ends and of attention weights, and the two runs of the
// forward pass (attention with its norm and residual; SwiGLU). Each architecture says which parts it has.
#pragma once

#include <string>

#include "models/internal/dense.h"
#include "models/internal/heads.h"
#include "models/model.h"

namespace qw::models {

// Absent weights (id -1) are parts the architecture does not have.
struct AttentionWeights {
  ops::Weight norm;
  bool gated = false;          // see AttentionParts
  ops::Weight q, q_bias, k, k_bias, v, v_bias;
  ops::Weight q_norm, k_norm;  // RMS norms over each head, before the rotation
  ops::Weight o;
  // Where an index chooses what attention sees (index.ratio > 0; index.key_norm is its keys'): its projections and queries' norm.
  ops::IndexSpec index;
  ops::Weight index_q, index_k, index_q_norm;
};

struct FfnWeights {
  ops::Weight gate, up, down;
};

struct AttentionParts {
  bool biases = false;      // on q, k and v
  bool head_norms = false;  // q_norm and k_norm
  bool gated = false;       // q gives each head its query, then a gate of its output
  bool outer_norm = true;   // before the projections
};

// "model.layers.3." and "blk.3.".
struct LayerNames {
  explicit LayerNames(int layer) : LayerNames(layer, "model.layers." + std::to_string(layer) + ".") {}
  LayerNames(int layer, std::string hf_begin) : hf(std::move(hf_begin)), gguf("blk." + std::to_string(layer) + ".") {}
  std::string hf, gguf;
};

AttentionWeights attention_weights(ParameterTable& table, const ModelTraits& t, const LayerNames& names,
                                   AttentionParts parts);
// `hf` and `gguf` are the beginnings of the three names: hf + "gate_proj.weight", gguf + "gate" + gguf_end.
FfnWeights ffn_weights(ParameterTable& table, const std::string& hf, const std::string& gguf,
                       const std::string& gguf_end, std::int64_t ffn_width, std::int64_t width);

// Attention of h, which is normalised already, in cache layer `layer` -> [N, D].
ops::Value attention(ops::Executor& ex, ops::Value h, const AttentionWeights& w, const DenseConfig& config, int layer);
// x + attention(norm(x)) of cache layer `layer` -> [N, D].
ops::Value attention_block(ops::Executor& ex, ops::Value x, const AttentionWeights& w, const DenseConfig& config,
                           int layer);
// down(silu(gate x) up x) -> [N, D].
ops::Value swiglu_ffn(ops::Executor& ex, ops::Value x, const FfnWeights& w);

// Hugging Face names of the ends (GGUF's are the same for all).
struct EndNames {
  const char* embedding = "model.embed_tokens.weight";
  const char* norm = "model.norm.weight";  // null: there is none
};

// A model whose table begins with the embedding and ends with the last norm and the head. A subclass fills the layers
// in between: begin_table(), its layers, end_table().
class Decoder : public Model {
 public:
  const ModelTraits& traits() const override { return config_.traits; }
  const std::vector<ParameterSpec>& parameters() const override { return table_.specs(); }
  ops::Weight embedding() const override { return embedding_; }
  ops::Weight head() const override { return head_; }

 protected:
  explicit Decoder(DenseConfig config, EndNames names = {})
      : config_(std::move(config)), table_(config_.init_std), names_(names) {
    begin_table();
  }
  void end_table();
  // The last norm and the head, whichever the model has. What layers that draft take is the row behind the norm, or `kept`.
  void finish(ops::Executor& ex, ops::Value x, ops::Value kept = {}) const;

  DenseConfig config_;
  ParameterTable table_;
  ops::Weight embedding_, norm_, head_;  // head_ == embedding_ when tied; absent with another head

 private:
  void begin_table();
  EndNames names_;
  HeadWeights other_head_;
};

}  // namespace qw::models
