// Heads other than the language model's: how configurations name them, their weights, and their forward pass.
//
//   config.json "architectures"        GGUF                                         gives for a row
//   ...ForCausalLM (or none)           no pooling_type                              logits
//   ...Model, folders of embeddings    pooling_type 3                               the hidden row
//   ...ForSequenceClassification       pooling_type 4, classifier.output_labels     W x
//   ...ForRewardModel                  head.kind "reward"                           W2 relu(W1 x + b1) + b2, one number
//   ...ForProcessRewardModel           head.kind "step_reward"                      the same, two numbers
//   ...ForGuardModel                   head.kind "guard"                            four lists of classes
// The head.* keys and the names of their tensors are this program's own: no other writes such files.
#pragma once

#include "models/internal/config_reader.h"
#include "models/internal/dense.h"
#include "models/model.h"

namespace qw::models {

struct HeadWeights {
  ops::Weight in, in_bias, out, out_bias;  // of scores; `in` only where there is a hidden layer
  struct Branch {
    ops::Weight in, norm, levels, categories;
  };
  Branch response, query;  // of a guard
};

// Fills traits.head and what belongs to it; kBadInput naming the key.
Status read_head_hf(const json::Object& config, DenseConfig& c);
Status read_head_gguf(const ConfigReader& in, DenseConfig& c);
// Sets the keys; `class_name` is the language model's, "Qwen3ForCausalLM".
void write_head_hf(const DenseConfig& c, std::string_view class_name, json::Object& config);
void write_head_gguf(const DenseConfig& c, const std::string& arch, json::Object& metadata);  // arch: "qwen3."

// Of any head but the language model's.
HeadWeights head_weights(ParameterTable& table, const DenseConfig& c);
void run_head(ops::Executor& ex, ops::Value x, const HeadWeights& w, const DenseConfig& c);

}  // namespace qw::models
