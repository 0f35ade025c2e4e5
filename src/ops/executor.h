// How a model's forward pass is written once and used twice.
//
// models/<arch>/forward.cc calls these methods. The RunningExecutor performs each call at once on (quantised, packed)
// weights and a paged cache. The RecordingExecutor writes the calls down as a flat Program, which training replays
// forward and then backward. Both see the same calls in the same order, so what is trained is what is served.
//
// Shapes: N rows (tokens of all sequences in the batch, one after the other), D model width, H query heads, K kv heads,
// Dh head width, F ffn width, V vocabulary. Values are float32 [N, width].
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace qw::ops {

// Names a value of this forward pass. Cheap to copy; valid until the executor begins another pass.
struct Value {
  std::int32_t id = -1;
  std::int32_t width = 0;
};

// Names a weight: an index into the model's parameter table (models/parameters.h). -1 = absent (e.g. no bias).
struct Weight {
  std::int32_t id = -1;
  bool present() const { return id >= 0; }
};

enum class RopeScaling : std::uint8_t { kNone, kLinear, kYarn, kDynamicNtk };

// Dual chunk attention (An et al., "Training-free long-context scaling of large language models", 2024) counts positions
// anew in every chunk. Keys, and queries towards their own chunk, stand where they are in it; towards the chunk before, a
// query stands one chunk further on, and towards those before that at the place of a chunk's last query.
enum class ChunkView : std::uint8_t { kOwn, kBefore, kFar };
// Tokens of a chunk are a multiple of this, so that attention can be taken together from parts which lie in one chunk each.
inline constexpr std::int64_t kChunkUnit = 1024;

struct RopeSpec {
  std::int32_t head_dim = 0;
  std::int32_t rotary = 0;  // rotated width, <= head_dim; pairs (i, i + rotary/2)
  float theta = 10000.0f;
  // Reaching beyond the trained context. kLinear: positions / factor. kYarn: Peng et al., "YaRN", 2023. kDynamicNtk: the
  // base grows with the length of a sequence's prompt, as Qwen (2023) does it; not in training.
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1;
  float original_context = 0;           // kYarn, kDynamicNtk: context before scaling
  float beta_fast = 32, beta_slow = 1;  // kYarn: turns per context that bound the blend
  float attention_factor = 1;           // kYarn: multiplies cos and sin
  // Of queries (Su, "Entropy invariance of attention", 2021): > 0: the row at position p is also multiplied by
  // ln(p + 1) / ln(logn_context) where that is above 1; not in training.
  float logn_context = 0;
  // Dual chunk attention; in training every document lies in one chunk. chunk: tokens of one; 0: positions are counted once.
  std::int64_t chunk = 0, chunk_reach = 0;  // the second: queries stand no further on than this
  ChunkView view = ChunkView::kOwn;
  // > 0: cos and sin are multiplied by max(1, 0.1 ln(n / growth_context) + 1), where n counts the tokens of the sequence's
  // prompt, or those up to the row if these are more; not in training.
  float growth_context = 0;
  friend bool operator==(const RopeSpec&, const RopeSpec&) = default;
};

struct AttentionSpec {
  std::int32_t layer = 0;  // which layer of the cache
  std::int32_t heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 0;  // 1/sqrt(head_dim)
  std::int64_t window = 0;  // a token sees itself and this many less one before it; 0: all before it
  std::int64_t chunk = 0;   // tokens of a chunk of dual chunk attention, a multiple of kChunkUnit; 0: there are none
};

// Which tokens attention sees (token_index.h): the best blocks by an index, and the unfinished block.
struct IndexSpec {
  std::int32_t heads = 0, dim = 0;  // queries of a row, [heads, dim]; a row's key has dim components
  std::int32_t ratio = 0;           // tokens of a block; 0: there is no index, attention sees everything
  std::int32_t blocks = 0;          // of those, how many a row sees at most
  Weight key_norm;                  // [dim], of blocks' keys
  float eps = 0;
  RopeSpec rope;                    // of blocks' keys, at the position of their first token
  // Tokens up to a row, itself included, up to which it sees them all.
  std::int64_t all_seen() const { return std::int64_t{blocks} * ratio + ratio - 1; }
};

// A mixture of experts (experts.h). The weights of expert e are gate.id + e [F, D], up.id + e [F, D], down.id + e [D, F].
struct ExpertsSpec {
  std::int32_t experts = 0, top_k = 0;
  std::int32_t width = 0;    // F of one expert
  bool normalise = false;    // the chosen probabilities are divided by their sum
  float balance = 0;         // coefficient of the load-balancing loss in training; 0: none
  Weight gate, up, down;
};

// Layers that carry a state from token to token instead of keys and values. A sequence's states lie in one slot of floats;
// `state` says where a layer's begins. At position 0 a state is zeros.

// short_conv.h. The state is the last (taps - 1) dilation inputs [.., C], oldest first.
struct ShortConvSpec {
  std::int64_t state = 0;
  std::int32_t dilation = 1;  // rows between two taps
};

// delta_rule.h. The state is one kernels::DeltaRuleState for each value head.
struct DeltaRuleSpec {
  std::int32_t key_heads = 0, value_heads = 0;  // value_heads is a multiple of key_heads
  std::int32_t key_dim = 0, value_dim = 0;
  bool tiled = false;  // value head h goes with key head h % key_heads; else with h / (value_heads / key_heads)
  std::int64_t state = 0;
  std::int32_t key_head(std::int32_t h) const { return tiled ? h % key_heads : h / (value_heads / key_heads); }
  std::int32_t keys_width() const { return key_heads * key_dim; }
  std::int32_t values_width() const { return value_heads * value_dim; }
  std::int32_t input_width() const { return 2 * keys_width() + values_width(); }
  std::int64_t head_state_floats() const;
  std::int64_t state_floats() const { return value_heads * head_state_floats(); }
};

inline constexpr std::int32_t kMaxNgram = 8, kMaxNgramHeads = 256;

// ngrams.h. The state is the last size - 1 tokens.
struct NgramSpec {
  std::int32_t size = 0, heads_each = 0;      // n-grams of 2 .. size tokens, so many heads for each of these
  std::int32_t dim = 0;                       // columns of a head
  std::int32_t end_of_text = 0;
  std::vector<std::uint64_t> factors;         // [size]
  std::vector<std::int64_t> sizes, offsets;   // [heads]: rows of a head's part of the table, and where it begins
  Weight table;                               // [rows_each, dim], the first of as many as hold all rows
  std::int32_t tables = 1;
  std::int64_t rows_each = 0;
  std::int64_t state = 0;
  std::int32_t heads() const { return (size - 1) * heads_each; }
};

// One of several products of a value (Executor::products).
struct Product {
  Weight w;
  Weight bias{};
};
inline constexpr int kMostProducts = 8;

class Executor {
 public:
  virtual ~Executor() = default;

  // Rows of `table` [V, D] for the batch's token ids -> [N, D].
  virtual Value embed(Weight table) = 0;
  // Rows that come with the batch (StepBatch::given) -> [N, width]. A program has at most one, and is not trained.
  virtual Value given(std::int32_t width) = 0;
  // x stays readable after the pass (RunningExecutor::kept): what layers that draft take from it. At most one.
  virtual void keep(Value x) = 0;
  // x / rms(x) * w over the whole row -> [N, D].
  virtual Value rms_norm(Value x, Weight w, float eps) = 0;
  // The same over each head: x is [N, heads * head_dim], w is [head_dim], or [heads * head_dim] where each has its own.
  virtual Value head_rms_norm(Value x, Weight w, std::int32_t head_dim, float eps) = 0;
  // x W^T + b -> [N, out]; w is [out, in].
  virtual Value linear(Value x, Weight w, Weight bias = {}) = 0;
  // Several products of one x, y[i] as linear(x, of[i].w, of[i].bias) gives it: whoever runs them may do it in one go. At
  // most kMostProducts.
  virtual void products(Value x, std::span<const Product> of, std::span<Value> y) = 0;
  template <std::size_t n>
  std::array<Value, n> products(Value x, const Product (&of)[n]) {
    std::array<Value, n> y;
    products(x, of, y);
    return y;
  }
  // Rotary position embedding at each row's position.
  virtual Value rope(Value x, const RopeSpec& spec) = 0;
  // Causal attention of each row over its own sequence up to itself; stores k and v in the cache -> [N, H * Dh].
  virtual Value attention(Value q, Value k, Value v, const AttentionSpec& spec) = 0;
  // The same with chunks (spec.chunk > 0): the queries turned for each ChunkView, the keys for kOwn. Documents in training lie
  // in one chunk: there q alone has a gradient.
  virtual Value chunked_attention(Value q, Value q_before, Value q_far, Value k, Value v, const AttentionSpec& spec) = 0;
  // The same as far as the index of the row shows it: index_q [N, heads * dim] is normalised and turned already, index_k
  // [N, dim] is not and goes to the cache too. The choice has no gradient.
  virtual Value indexed_attention(Value q, Value k, Value v, Value index_q, Value index_k, const AttentionSpec& spec,
                                  const IndexSpec& index) = 0;
  // silu(gate) * up.
  virtual Value swiglu(Value gate, Value up) = 0;
  virtual Value add(Value a, Value b) = 0;
  // Each row through its top k experts by `logits` [N, E] -> [N, D].
  virtual Value experts(Value x, Value logits, const ExpertsSpec& spec) = 0;
  // Columns [begin, begin + width) of x: a part of a fused projection.
  virtual Value columns(Value x, std::int32_t begin, std::int32_t width) = 0;
  // Of each head the columns [begin, begin + width): x is [N, heads * head_dim] -> [N, heads * width].
  virtual Value head_columns(Value x, std::int32_t begin, std::int32_t width, std::int32_t head_dim) = 0;
  // x * sigmoid(gate); gate [N, G] where G divides the width of x: gate g is that of the g-th part of the columns.
  virtual Value gate_rows(Value x, Value gate) = 0;
  // x * factor.
  virtual Value scale(Value x, float factor) = 0;
  // x * sigmoid(x).
  virtual Value silu(Value x) = 0;
  // How well the rows of a and b match: of p = scale * (a . b) the root that keeps its sign, sign(p) sqrt(max(|p|, 1e-6)) -> [N, 1].
  virtual Value match_rows(Value a, Value b, float scale) = 0;
  // Embeddings of the n-grams that end in each row -> [N, heads * dim].
  virtual Value ngrams(const NgramSpec& spec) = 0;
  // max(x, 0).
  virtual Value relu(Value x) = 0;
  // The columns of a, then those of b.
  virtual Value concat(Value a, Value b) = 0;
  // silu of a causal convolution of each column with its own taps w [C, taps] -> [N, C].
  virtual Value short_conv(Value x, Weight w, const ShortConvSpec& spec) = 0;
  // The gated delta rule over x = queries | keys | values, with a gate for forgetting and one for writing of each value
  // head, both before their non-linearities -> [N, value_heads * value_dim].
  virtual Value delta_rule(Value x, Value forget, Value write, Weight a_log, Weight dt_bias,
                           const DeltaRuleSpec& spec) = 0;
  // The language-model head: final hidden rows x W^T. Running: logits of the rows the batch asks for. Recording: the
  // chunked linear + cross-entropy, which never holds [N, V] at once. An absent w: the rows of x are themselves what
  // the model gives (embeddings, scores of classes).
  virtual void head(Value x, Weight w) = 0;
};

}  // namespace qw::ops
