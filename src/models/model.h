// A model family as the rest of the house sees it: traits, a table of parameters, and one forward pass.
//
// An architecture is one folder under models/ and one line in all_models.cc. Nothing outside models/ names one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "json/value.h"
#include "ops/executor.h"
#include "tensor/tensor.h"

namespace qw::models {

// What a model gives for a token, of its final hidden row.
enum class HeadKind : std::uint8_t {
  kLanguage,   // logits over the vocabulary: it generates text
  kEmbedding,  // the hidden row itself; a text's embedding is that of its last token
  kClasses,    // a score for each class of the sequence, at its last token; one number: a reward
  kSteps,      // scores of {wrong, right} for the step that ends at this token
  kGuard,      // scores of the four lists of labels, one after the other, at every token
};

// For people: "language model", "embedding", "classes", "steps", "guard".
const char* head_name(HeadKind kind);

struct HeadTraits {
  HeadKind kind = HeadKind::kLanguage;
  std::int32_t outputs = 0;  // numbers of a row; 0 for kLanguage, which gives as many as there are tokens
  std::vector<std::string> labels;  // of kClasses; empty if the file names none
  std::vector<std::string> response_levels, response_categories, query_levels, query_categories;  // kGuard, in this order
};

// What other rooms need to know; capabilities are fields, never names.
struct ModelTraits {
  std::string architecture;      // Hugging Face model_type, e.g. "qwen3"; for display and files only
  std::int64_t vocab = 0;        // rows of the embedding table (may exceed the tokenizer)
  std::int32_t layers = 0;       // layers that keep keys and values
  std::int32_t heads = 0, kv_heads = 0, head_dim = 0;
  std::int32_t width = 0, ffn_width = 0;
  std::int64_t context = 0;      // longest sequence the checkpoint was made for
  ops::IndexSpec index;          // of all attention that has one, but for its weight; the cache holds its keys too
  bool tied_embeddings = false;
  // Mixtures of experts: experts of a layer, how many of them a token takes, and the width of one; 0: none.
  std::int32_t experts = 0, experts_per_token = 0, expert_width = 0;
  // Layers that carry a state from token to token instead of keys and values, by number among all layers; the floats of a
  // sequence's state in all of them; and the floats that the widest of them needs for a row while it is computed.
  std::vector<std::int32_t> recurrent;
  std::int64_t state_floats = 0, recurrent_row_floats = 0;
  // Tensors that may stand in a file and are left aside: the beginning of their names, and what they are, for people.
  struct LeftAside {
    std::string prefix, what;
  };
  std::vector<LeftAside> left_aside;
  // Tensors of whole numbers that folders hold beside the parameters; the model was made with them (model_from_hf_config).
  struct Integers {
    std::string hf_name;
    std::vector<std::int64_t> values;
  };
  std::vector<Integers> integers;
  std::vector<std::string> gguf_u64;  // keys of gguf_metadata() whose arrays readers elsewhere take as u64 only
  // Layers that draft later tokens (Model::draft): their keys and values stand in the cache behind those of `layers`. 0: none.
  std::int32_t draft_layers = 0;
  std::int32_t draft_width = 0;  // of the rows they take
  std::vector<std::string> notices;  // what of the configuration is not computed although the model runs, for people
  HeadTraits head;
};

// How a file holds a parameter, where that differs from here. Row r here is row `row(r)` there, and columns alike; no
// function: as they stand.
struct FileForm {
  enum class Numbers : std::uint8_t {
    kSame,
    kOneLess,         // there: x - 1 (norms stored around 0)
    kMinusExp,        // there: -exp(x)
  };
  Numbers numbers = Numbers::kSame;
  tensor::Shape whole;  // the tensor's shape there, which may hold several parameters; rank 0: that of here
  std::function<std::int64_t(std::int64_t)> row, column;
  bool same() const { return numbers == Numbers::kSame && whole.rank() == 0 && !row && !column; }
  bool moves() const { return whole.rank() != 0 || row || column; }
};

// One parameter: how it is named in each file format, its shape, and how a fresh model draws it.
struct ParameterSpec {
  std::string hf_name;           // "model.layers.0.self_attn.q_proj.weight"
  std::string gguf_name;         // "blk.0.attn_q.weight"
  tensor::Shape shape;           // [out, in] or [n]
  bool is_norm = false;          // initialised to 1; kept F32 in files; no weight decay
  bool is_bias = false;          // initialised to 0; kept F32; no weight decay
  float init_std = 0.02f;        // N(0, init_std) otherwise
  // A parameter may be one part of a larger tensor: the whole is `parts` parameters' shapes, one after the other. GGUF
  // stores the experts of a layer so; parameters that share a gguf_name stand side by side in the table, in order.
  std::int32_t gguf_part = 0, gguf_parts = 1;
  bool gguf_vector = false;      // [1, n] here is [n] there
  std::string hf_fused = {};     // another home in Hugging Face folders: a whole with hf_fused_parts parts; "" = none
  std::int32_t hf_fused_part = 0, hf_fused_parts = 1;
  std::int32_t hf_fused_each = 0;  // > 0: the whole is transposed, [E, in, out], and so many parts share its columns

  FileForm hf = {}, gguf = {};
  bool gguf_none = false;  // GGUF files have no place for it
  bool gguf_rows = false;  // parts stand one below the other in GGUF, [parts * out, in], not stacked
  bool selects = false;    // only chooses what attention sees: it has no gradient
  bool draft = false;      // belongs to layers that draft: the forward pass does not use it
  float init_rate = 0;  // > 0: initialised to ln of U(0.01, init_rate)

  // Names this parameter alone, also where several stand in one tensor of a folder: for checkpoints of training.
  std::string own_name() const { return hf.moves() ? hf_name + "|" + gguf_name : hf_name; }
  // Shape of the whole tensor in GGUF.
  tensor::Shape gguf_shape() const;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelTraits& traits() const = 0;
  // ops::Weight{i} names parameters()[i].
  virtual const std::vector<ParameterSpec>& parameters() const = 0;
  // Embedding table and head of the language model as parameter ids (equal when tied); no head if traits().head is
  // another.
  virtual ops::Weight embedding() const = 0;
  virtual ops::Weight head() const = 0;
  virtual void forward(ops::Executor& ex) const = 0;
  // The pass of the layers that draft (traits().draft_layers > 0), a program of its own over the same parameters and cache.
  // Its row at position p takes, as ops::Executor::given, what forward keeps of position p (ops::Executor::keep), and as its
  // token the one at p + 1; it gives logits of the token at p + 2. For further drafts it may be given what it kept itself of
  // the row before. Its cache, layers [layers, layers + draft_layers), needs a row at every position, as forward's does; it
  // carries no state. What it says is a guess: it has no part in what the model says.
  virtual void draft(ops::Executor& ex) const;
  // The configuration as a Hugging Face config.json object / as GGUF keys (arch-prefixed), for writers.
  virtual json::Object hf_config() const = 0;
  virtual json::Object gguf_metadata() const = 0;
};

// The model_type of every architecture the house knows.
std::vector<std::string> architectures();
// Makes a model from the config.json of a Hugging Face folder (or the [model] table of a training recipe, same keys).
// Errors: kBadInput naming the key.
// `draft_layers`: how many layers that draft it is to have; absent: as many as the configuration says. (Folders may say so
// and lack their tensors: load.h goes by those.) `integers`: small tensors of whole numbers that the folder holds, by name.
Result<std::unique_ptr<Model>> model_from_hf_config(const json::Object& config, std::optional<std::int32_t> draft_layers = {},
                                                    const json::Object& integers = {});
// The body of a language model with a head of scores (HeadKind::kClasses) in place of its own: one of each label; without
// labels a single one, a reward. Its other parameters have the names they had. kBadInput when the architecture has no such head.
Result<std::unique_ptr<Model>> model_with_scores(const Model& body, const std::vector<std::string>& labels);
// The body of a language model that gives its last hidden rows (HeadKind::kEmbedding). Its parameters have the names they had.
Result<std::unique_ptr<Model>> model_with_embeddings(const Model& body);
// Makes a model from GGUF metadata (general.architecture and its keys). `has_output_weight` tells whether the head is
// a tensor of its own; `vocab` is the row count of token_embd.weight.
Result<std::unique_ptr<Model>> model_from_gguf_metadata(const json::Object& metadata, bool has_output_weight,
                                                        std::int64_t vocab);

}  // namespace qw::models
