// The table of pointer-level maths. One table per instruction set; all agree with cpu/portable within a derived bound.
//
// Kernels know raw pointers, sizes and strides; no tensors, no models, no allocation. They run on the calling thread
// over the range they are given: splitting work over threads is the caller's business, and must not change results.
//
// Batch invariance (a promise, tested on every ISA): what is computed for one row does not depend on how many rows
// are in the call, nor on how the output range is split. Every sum over `in` runs in one fixed order per ISA.
//
// Buffers whose size a table gives (packed, prepared, packed_b, scratch) hold no pointers, may be copied, and belong to
// one table: another instruction set lays them out differently. Align them to 64 bytes; 8 is enough to be right, not fast.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"

namespace qw::kernels {

using base::Isa;

// Formats a weight matrix may be stored in. Values equal nothing in files; `ops` maps tensor::DType to them. Types named
// as in GGUF are given to `pack` as their bytes lie in a file. Two more hold what no file has, exact in value:
//   kGroups8  32 elements: float scale[2], float min[2], int8 q[32];  w[j] = scale[j / 16] * q[j] - min[j / 16]
//   kGroups4  32 elements: float scale, float min, u8 q[16] (nibbles as in Q4_0, 0..15);  w[j] = scale * q - min
enum class WeightType : std::uint8_t {
  kF32, kF16, kBF16, kQ8_0, kQ4_0, kGroups8, kGroups4,
  kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS, kMXFP4
};

// y[r, o] = bias[o] + sum_i x[r, i] * W[o, i] over packed weights and prepared activations.
struct MatmulArgs {
  WeightType type;
  const void* packed;       // from Kernels::pack, whole matrix
  const void* prepared;     // from Kernels::prepare, `rows` rows
  const float* bias;        // [out] or nullptr
  float* y;                 // row r at y + r * ldy
  std::int64_t ldy;
  std::int64_t rows, out, in;
  std::int64_t out_begin, out_end;  // computes only these outputs; both multiples of out_granule, or out_end == out
};

// General matrix product for training: C[M,N] = (accumulate ? C : 0) + op(A)[M,K] * op(B)[K,N], row-major float32.
// kBF16 rounds the elements of A and B to bfloat16 and sums in float32; kF32 keeps float32 throughout.
enum class GemmPrecision : std::uint8_t { kF32, kBF16 };
struct GemmArgs {
  GemmPrecision precision;
  bool trans_a, trans_b;    // op(A)[m,k] = trans_a ? a[k*lda+m] : a[m*lda+k]; op(B)[k,n] = trans_b ? b[n*ldb+k] : b[k*ldb+n]
  std::int64_t m, n, k;
  const float* a; std::int64_t lda;
  const float* b; std::int64_t ldb;
  float* c; std::int64_t ldc;
  bool accumulate;
};

// Causal attention over whole sequences for training (flash style: keeps only the output and the row log-sum-exp).
// One call handles one sequence of T tokens and one kv head with its group of query heads.
struct AttentionTrainArgs {
  std::int64_t tokens, heads_per_kv, head_dim;
  float scale;              // 1/sqrt(head_dim)
  std::int64_t window;      // a token sees itself and this many less one before it; 0: all before it
  const float* q; std::int64_t ldq;   // token t, group head g at q + t*ldq + g*head_dim
  const float* k; std::int64_t ldk;   // token t at k + t*ldk
  const float* v; std::int64_t ldv;
  float* o; std::int64_t ldo;         // as q
  float* lse;               // [heads_per_kv, tokens]
  // Backward only: d_o as o; dq, dk, dv are overwritten.
  const float* d_o;
  float* dq; float* dk; float* dv;    // same strides as q, k, v
  void* scratch;            // Kernels::attention_scratch_bytes(precision, tokens, head_dim) bytes, 64-byte aligned
  // kBF16 may round the factors of every product to bfloat16 (sums and the softmax stay float32); a table without fast
  // products of pairs computes as for kF32.
  GemmPrecision precision = GemmPrecision::kF32;
};

// Keys and values of one sequence in fixed-size blocks of one layer. kQ8 and kQ4 keep 32 elements of a head's row with one
// scale, in as many bytes as Q8_0 and Q4_0 (34 and 18); head_dim and block_tokens are multiples of 32 then.
enum class CacheType : std::uint8_t { kF32, kF16, kBF16, kQ8, kQ4 };
enum class CachePart : std::uint8_t { kKeys, kValues };
// Long contexts are attended in segments of so many keys, cut at multiples of it: each is a softmax of its own, and they are
// joined in order. The cut depends on positions alone, so it changes no bit who computes a segment, and when.
inline constexpr std::int64_t kAttentionSegment = 1024;
// One query row against its sequence's paged cache: the last `window` of positions 0..n_keys-1 are visible (0: all).
struct AttentionDecodeArgs {
  CacheType type;
  std::int64_t heads, kv_heads, head_dim;
  float scale;
  std::int64_t window;
  const float* q;           // [heads, head_dim]
  float* o;                 // [heads, head_dim]
  std::int64_t n_keys;
  std::int64_t block_tokens;              // tokens per block, a power of two
  const std::int32_t* blocks;             // block numbers of this sequence in order
  const void* k_pool; const void* v_pool; // block b, kv head h begins where (b * kv_heads + h) * block_tokens rows of
                                          // head_dim elements end; the order within it is the table's own
  std::int64_t head_begin, head_end;      // computes only these kv heads (and their query groups)
};
// `rows` queries of one sequence at consecutive positions, whose keys and values are all in the cache already.
// Row r has n_keys + r positions up to itself, and its output is bit for bit what attention_decode gives for that row.
struct AttentionPrefillArgs {
  AttentionDecodeArgs first;  // row 0; row r has q at first.q + r * ldq, o at first.o + r * ldo
  std::int64_t rows, ldq, ldo;
};
// The running kernels keep one chunk of keys and values on the stack, so the head size has a ceiling (the largest
// Qwen head is 256).
inline constexpr std::int64_t kMaxHeadDim = 256;

// Segments [begin, end) that hold keys a query with `n_keys` positions up to itself sees.
struct AttentionSegments {
  std::int64_t begin, end;
};
inline AttentionSegments attention_segments(std::int64_t n_keys, std::int64_t window) {
  const std::int64_t first = window > 0 && n_keys > window ? n_keys - window : 0;
  return {first / kAttentionSegment, (n_keys - 1) / kAttentionSegment + 1};
}

// The gated delta rule over `rows` tokens of one sequence and one value head (ops/delta_rule.h), token by token:
//   S <- decay S + k d^T with d = beta (v - decay S^T k);  y = S^T q
// computed as u = S^T k, w = S^T q, d = beta (v - decay u), y = decay w + d (k . q), so that one pass over S both takes in a
// token and answers the next. Every sum is over key components in order: where a text is cut into calls changes no bit.
struct DeltaRuleRows {
  std::int64_t rows, key_dim, value_dim;
  const float* q; const float* k; std::int64_t ldk;  // row t at + t * ldk
  const float* v; std::int64_t ldv;
  const float* decay; const float* beta; std::int64_t ldg;
  float* y; std::int64_t ldy;
  float* state;                                      // [key_dim, value_dim], read and written
};

// The same function in chunks of kDeltaChunk positions, counted from position 0 of the sequence. Of the chunk a sequence is in,
// rows i so far are kept as their keys and what they write, u; S is that before the chunk, and rewritten at its end alone. With
// products D(t, i) of the decays of rows i + 1 .. t, and D(t) of all up to t,
//   u_t = beta_t (v_t - D(t) S^T k_t - sum over i < t of D(t, i) (k_i . k_t) u_i)
//   y_t = D(t) S^T q_t + sum over i <= t of D(t, i) (k_i . q_t) u_i
//   S <- D(last) S + sum over i of k_i (D(last, i) u_i)^T
// so that S is read once for all rows of a chunk. Every sum has one order whatever rows a call brings: where a text is cut into
// calls changes no bit.
inline constexpr std::int64_t kDeltaChunk = 8;
// Where things lie in the state of one value head. The order of S [key_dim, value_dim] is the table's own.
struct DeltaRuleState {
  std::int64_t key_dim, value_dim;
  constexpr std::int64_t keys() const { return key_dim * value_dim; }                     // [kDeltaChunk, key_dim]
  constexpr std::int64_t writes() const { return keys() + kDeltaChunk * key_dim; }        // u [kDeltaChunk, value_dim]
  constexpr std::int64_t decays() const { return writes() + kDeltaChunk * value_dim; }    // D(t), then D(t, i), of the last row t
  constexpr std::int64_t floats() const { return (decays() + 1 + kDeltaChunk + 15) / 16 * 16; }  // whole lines of a cache
};
struct DeltaRuleChunks {
  DeltaRuleRows rows;     // with a state as DeltaRuleState says
  std::int64_t position;  // of row 0; at 0 nothing of the state is read, else it is that of all rows before
};

// Copies tokens of one kv head, as they are stored, to the front of a pool of one kv head: what a row sees that does not see all.
struct CacheRun {
  std::int64_t begin, tokens;  // positions [begin, begin + tokens)
};
struct CacheGatherArgs {
  CacheType type;
  CachePart part;
  std::int64_t kv_heads, head_dim, block_tokens;  // as AttentionDecodeArgs
  const std::int32_t* blocks;
  const void* pool;
  std::int64_t head;
  const CacheRun* runs; std::int64_t n_runs;
  void* to;                                       // blocks 0, 1, 2, .. of as many tokens each
};

struct Kernels {
  Isa isa;
  const char* name;         // as base::isa_name

  // ---- inference matmul -------------------------------------------------------------------------------------------
  // `in` is a multiple of the block size of the quantised types. These quantise activations per 32: int8 with a float32
  // scale of max|x| / 127; kBF16 rounds activations to bfloat16; the other types keep them. kAmx gives the bytes of kAvx512
  // for quantised types, with tiles where rows are many enough for them.
  // A block of activations with a value that is not finite makes its row's outputs not finite.
  std::int64_t out_granule;                                        // outputs are tiled by this many rows of W
  std::size_t (*packed_bytes)(WeightType, std::int64_t out, std::int64_t in);
  // A matrix may be packed in several calls: rows from o on, a multiple of out_granule, go to packed_bytes(type, o, in).
  void (*pack)(WeightType, const void* rows, std::int64_t out, std::int64_t in, void* packed);
  std::size_t (*prepared_bytes)(WeightType, std::int64_t rows, std::int64_t in);
  // Prepares rows [row_begin, row_end) of x (row r at x + r*ldx): copies, rounds or quantises them for `type`.
  void (*prepare)(WeightType, const float* x, std::int64_t ldx, std::int64_t rows, std::int64_t in, void* prepared,
                  std::int64_t row_begin, std::int64_t row_end);
  // Types of which this gives the same share prepared rows.
  WeightType (*prepared_as)(WeightType);
  void (*matmul)(const MatmulArgs&);
  // Decodes row `row` of a packed matrix to float (embedding look-up in a tied, packed table).
  void (*unpack_row)(WeightType, const void* packed, std::int64_t out, std::int64_t in, std::int64_t row, float* y);

  // ---- training gemm: pack op(B) once, then compute row ranges of C ------------------------------------------------
  std::int64_t gemm_m_granule, gemm_n_granule;
  std::size_t (*gemm_packed_b_bytes)(GemmPrecision, std::int64_t n, std::int64_t k);
  // Packs columns [n_begin, n_end) of op(B); n_begin a multiple of gemm_n_granule.
  void (*gemm_pack_b)(const GemmArgs&, void* packed_b, std::int64_t n_begin, std::int64_t n_end);
  // The same, to the same bytes, of a B whose elements lie at `b` as bfloat16 (GemmArgs::b is not read); for kBF16 alone.
  // Null where a set has no such thing: B must then be made float32 first.
  void (*gemm_pack_b_bfloats)(const GemmArgs&, const std::uint16_t* b, void* packed_b, std::int64_t n_begin, std::int64_t n_end);
  std::size_t (*gemm_scratch_bytes)(GemmPrecision, std::int64_t m, std::int64_t k);  // per thread, for m rows
  // Computes rows [m_begin, m_end) and columns [n_begin, n_end) of C; begins are multiples of the granules.
  void (*gemm)(const GemmArgs&, const void* packed_b, void* scratch, std::int64_t m_begin, std::int64_t m_end,
               std::int64_t n_begin, std::int64_t n_end);
  // The same product to the same bytes for few rows of C and many columns: op(A) is packed once for all threads (m_begin
  // and n_begin as above), and who computes columns packs them first, so that packed weights never leave its cache. B is
  // read from `bfloats` if that is not null (kBF16 alone). All null where a set has no such thing.
  std::size_t (*gemm_packed_a_bytes)(GemmPrecision, std::int64_t m, std::int64_t k);
  void (*gemm_pack_a)(const GemmArgs&, void* packed_a, std::int64_t m_begin, std::int64_t m_end);
  std::size_t (*gemm_columns_scratch_bytes)(GemmPrecision, std::int64_t columns, std::int64_t k);  // per thread
  void (*gemm_columns)(const GemmArgs&, const std::uint16_t* bfloats, const void* packed_a, void* scratch,
                       std::int64_t n_begin, std::int64_t n_end);
  // The same with bfloat16 weights that are packed once for both directions, as gemm_pack_b packs B of x W^T (trans_b): that
  // product (trans_b), of which nothing is packed any more, or y W (not trans_b), of which columns are turned.
  void (*gemm_columns_packed)(const GemmArgs&, const void* packed, const void* packed_a, void* scratch,
                              std::int64_t n_begin, std::int64_t n_end);
  // Rows [m_begin, m_end) of C, m_begin as above, where both are packed already.
  void (*gemm_packed)(const GemmArgs&, const void* packed_a, const void* packed_b, std::int64_t m_begin, std::int64_t m_end);

  // ---- rows --------------------------------------------------------------------------------------------------------
  // y = x / sqrt(mean(x^2) + eps) * w per row of n; inverse[r] = 1/sqrt(...) if not null. y may alias x.
  void (*rms_norm)(const float* x, const float* w, float eps, std::int64_t rows, std::int64_t n, float* y, float* inverse);
  // dx += ..., dw += ... (for several ranges the caller gives one dw per range and adds them in fixed order).
  void (*rms_norm_backward)(const float* x, const float* w, const float* inverse, const float* dy, std::int64_t rows,
                            std::int64_t n, float* dx, float* dw);
  // Rotates pairs (i, i + rotary/2) of each head in place; cos/sin are [rows, rotary/2]; inverse = rotate by -angle.
  void (*rope)(float* x, std::int64_t ldx, std::int64_t rows, std::int64_t heads, std::int64_t head_dim,
               std::int64_t rotary, const float* cos, const float* sin, bool inverse);
  // out = silu(gate) * up, elementwise over n.
  void (*swiglu)(const float* gate, const float* up, std::int64_t n, float* out);
  void (*swiglu_backward)(const float* gate, const float* up, const float* dout, std::int64_t n, float* dgate, float* dup);
  void (*add)(const float* a, const float* b, std::int64_t n, float* out);          // out may alias a or b
  // out = x * sigmoid(gate), elementwise over n; out may alias x.
  void (*gate)(const float* x, const float* gate, std::int64_t n, float* out);
  // One row of a causal convolution by channel: y[c] = silu(sum over j < taps of w[j*ldw + c] * x[j][c]) over n channels, taps in
  // order, each product rounded before it is added; x[j] is the row that tap j meets, or null where there is none.
  void (*short_conv)(const float* const* x, const float* w, std::int64_t ldw, std::int64_t taps, std::int64_t n, float* y);
  // In place softmax of one row; returns log(sum(exp(x))).
  float (*softmax)(float* x, std::int64_t n);
  // One row of cross-entropy (0 <= label < n): returns -log p[label] in nats and overwrites logits with
  // (softmax - onehot) * scale.
  float (*cross_entropy)(float* logits, std::int64_t n, std::int64_t label, float scale);
  // log(sum(exp(x))) without touching x.
  float (*log_sum_exp)(const float* x, std::int64_t n);
  // Sum of squares in double, fixed order.
  double (*sum_squares)(const float* x, std::int64_t n);
  // AdamW on a range: bias_correction1 = 1 - b1^t, ...; decay = lr * weight_decay.
  void (*adamw)(float* w, const float* g, float* m, float* v, std::int64_t n, float lr, float beta1, float beta2,
                float eps, float decay, float bias_correction1, float bias_correction2, float grad_scale);

  // ---- recurrent layers --------------------------------------------------------------------------------------------
  void (*delta_rule)(const DeltaRuleRows&);
  void (*delta_rule_chunks)(const DeltaRuleChunks&);

  // ---- attention ---------------------------------------------------------------------------------------------------
  std::size_t (*attention_scratch_bytes)(GemmPrecision, std::int64_t tokens, std::int64_t head_dim);
  void (*attention_train_forward)(const AttentionTrainArgs&);
  void (*attention_train_backward)(const AttentionTrainArgs&);
  void (*attention_decode)(const AttentionDecodeArgs&);
  void (*attention_prefill)(const AttentionPrefillArgs&);
  // The same as attention_decode in parts: every segment that holds a visible key (attention_segments), in any order and on
  // any thread, each into its own `partial` of attention_partial_floats floats; then they are joined, in ascending order,
  // into o. All for kv heads [head_begin, head_end), whose keys lie side by side: several are read faster than one.
  std::int64_t (*attention_partial_floats)(const AttentionDecodeArgs&);
  void (*attention_segment)(const AttentionDecodeArgs&, std::int64_t segment, float* partial);
  void (*attention_join)(const AttentionDecodeArgs&, const float* partials);
  // Stores one token's keys (or values) [kv_heads, head_dim] into its slot of the pool. Values with a scale that is not
  // finite are stored as NaN.
  void (*cache_write)(CacheType, CachePart, const float* kv, std::int64_t kv_heads, std::int64_t head_dim,
                      std::int64_t block_tokens, std::int32_t block, std::int64_t slot, void* pool);
  void (*cache_gather)(const CacheGatherArgs&);
};

// The table of an instruction set; it must not exceed base::best_isa().
const Kernels& kernels_for(Isa isa);

}  // namespace qw::kernels
