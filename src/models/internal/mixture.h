// Mixtures of experts in place of the feed-forward half: numbers, weights and the run of the forward pass.
#pragma once

#include <vector>

#include "models/internal/decoder.h"

namespace qw::models {

struct MixtureConfig {
  DenseConfig dense;                    // dense.traits.ffn_width: of layers without experts
  std::int32_t experts = 0, top_k = 0;
  std::int32_t expert_width = 0;        // F of one expert
  std::int32_t shared_width = 0;        // F of the expert every row takes; 0: none
  bool normalise = false;               // norm_topk_prob
  bool transposed = false;              // fused experts of the folder: [E, in, out]
  float balance = 0.001f;               // router_aux_loss_coef
  std::int32_t sparse_step = 1;         // decoder_sparse_step: layer i has experts if (i + 1) % sparse_step == 0
  std::vector<std::int32_t> mlp_only;   // and is not listed here
  bool has_experts(std::int32_t layer) const;
};

// What the architectures' classes assume when a file is silent.
struct MixtureDefaults {
  std::string_view architecture, gguf_architecture;
  std::int32_t head_dim = 0;    // see read_dense_hf
  bool shared = false;          // has a shared expert
  bool gguf_normalise = false;  // GGUF has no such key: readers go by the architecture
  Windows windows = Windows::kRefused;
};

Result<MixtureConfig> read_mixture_hf(const json::Object& config, const MixtureDefaults& defaults);
Result<MixtureConfig> read_mixture_gguf(const json::Object& metadata, const MixtureDefaults& defaults,
                                        bool has_output_weight, std::int64_t vocab);
json::Object write_mixture_hf(const MixtureConfig& c, std::string_view class_name);
json::Object write_mixture_gguf(const MixtureConfig& c, const MixtureDefaults& defaults);

struct MixtureWeights {
  ops::Weight router;           // [E, D]
  ops::Weight gate, up, down;   // of expert 0; the others follow
  FfnWeights shared;            // absent without a shared expert
  ops::Weight shared_gate;      // [1, D]
};
MixtureWeights mixture_weights(ParameterTable& table, const MixtureConfig& c, const LayerNames& names);

// The chosen experts of each row, and the shared one through its gate -> [N, D].
ops::Value mixture(ops::Executor& ex, ops::Value x, const MixtureWeights& w, const MixtureConfig& c);

// A decoder whose layers have experts or, where the configuration says so, one SwiGLU.
class MixtureDecoder : public Decoder {
 public:
  void forward(ops::Executor& ex) const override;

 protected:
  MixtureDecoder(MixtureConfig config, AttentionParts parts);
  MixtureConfig mixture_;

 private:
  struct Layer {
    AttentionWeights attention;
    ops::Weight ffn_norm;
    bool sparse = false;
    MixtureWeights experts;  // if sparse
    FfnWeights ffn;          // if not
  };
  std::vector<Layer> layers_;
};

}  // namespace qw::models
