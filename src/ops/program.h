// A forward pass written down: a flat list of operations over numbered values. Made by RecordingExecutor.
//
// Value ids count up from 0 in the order of the calls that made them, so a RunningExecutor that hears the same calls
// gives the same ids, and a plan made for the program holds for it too.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/executor.h"
#include "tensor/tensor.h"

namespace qw::ops {

enum class OpKind : std::uint8_t { kEmbed, kGiven, kRmsNorm, kLinear, kRope, kAttention, kSwiglu, kAdd, kExperts, kColumns, kGateRows,
                                  kScale, kSilu, kMatchRows, kNgrams, kRelu, kConcat, kShortConv, kDeltaRule, kEnterGroup, kSumGroup, kHead };  // the two of groups: slicing.h
const char* op_name(OpKind kind);

struct Op {
  OpKind kind = OpKind::kAdd;
  Value out{};    // none (id -1) for kHead
  Value in[5]{};  // attention q, k, v and, with an index, its queries and keys, or with chunks, q_before and q_far; swiglu gate, up; add a, b; experts x, logits; gate_rows x, gate; concat a, b;
                  // delta_rule x, forget, write; others in[0]
  std::int32_t together = 1;  // kLinear: products from this one on that one call asked for; 0: those behind the first
  Weight weight{}, bias{};  // kHead: an absent weight gives the rows as they are; delta_rule: a_log, dt_bias
  float eps = 0;                // kRmsNorm
  std::int32_t norm_width = 0;  // kRmsNorm: width of one normalised group (the row, or head_dim)
  std::int32_t norm_sets = 1;   // kRmsNorm: weights of one group each; group g of a row has those of g % norm_sets
  RopeSpec rope{};
  AttentionSpec attention{};
  IndexSpec index{};  // kAttention; ratio 0: none
  ExpertsSpec experts{};
  std::int32_t first_column = 0;  // kColumns
  std::int32_t column_group = 0;  // kColumns: width of the groups (the row, or head_dim) the columns are taken of
  ShortConvSpec conv{};
  float factor = 0;  // kScale, kMatchRows
  NgramSpec ngrams{};
  DeltaRuleSpec delta{};
  int inputs() const;  // how many of in[] are used
  std::int32_t groups() const { return in[0].width / column_group; }  // kColumns: how many of them a row has
};

struct Program {
  std::vector<Op> ops;
  std::vector<std::int32_t> widths;  // by value id
  // Index into ops of the op that made a value, and of the last op that reads it (the maker if none does).
  std::vector<std::int32_t> maker, last_use;
  Value kept{};  // readable after the pass; id -1: none
};

// Writes calls down. `parameters` are the shapes of the model's parameter table; a call whose shapes do not fit is a
// bug of the model's forward (QW_CHECK). Use: RecordingExecutor r(shapes); model.forward(r); Program p = r.finish();
class RecordingExecutor final : public Executor {
 public:
  explicit RecordingExecutor(std::vector<tensor::Shape> parameters);
  Program finish();

  Value embed(Weight table) override;
  Value given(std::int32_t width) override;
  void keep(Value x) override;
  Value rms_norm(Value x, Weight w, float eps) override;
  Value head_rms_norm(Value x, Weight w, std::int32_t head_dim, float eps) override;
  Value linear(Value x, Weight w, Weight bias = {}) override;
  void products(Value x, std::span<const Product> of, std::span<Value> y) override;
  using Executor::products;
  Value rope(Value x, const RopeSpec& spec) override;
  Value attention(Value q, Value k, Value v, const AttentionSpec& spec) override;
  Value chunked_attention(Value q, Value q_before, Value q_far, Value k, Value v, const AttentionSpec& spec) override;
  Value indexed_attention(Value q, Value k, Value v, Value index_q, Value index_k, const AttentionSpec& spec, const IndexSpec& index) override;
  Value swiglu(Value gate, Value up) override;
  Value add(Value a, Value b) override;
  Value experts(Value x, Value logits, const ExpertsSpec& spec) override;
  Value columns(Value x, std::int32_t begin, std::int32_t width) override;
  Value head_columns(Value x, std::int32_t begin, std::int32_t width, std::int32_t head_dim) override;
  Value gate_rows(Value x, Value gate) override;
  Value scale(Value x, float factor) override;
  Value silu(Value x) override;
  Value match_rows(Value a, Value b, float scale) override;
  Value ngrams(const NgramSpec& spec) override;
  Value relu(Value x) override;
  Value concat(Value a, Value b) override;
  Value short_conv(Value x, Weight w, const ShortConvSpec& spec) override;
  Value delta_rule(Value x, Value forget, Value write, Weight a_log, Weight dt_bias, const DeltaRuleSpec& spec) override;
  void head(Value x, Weight w) override;

 private:
  Value push(Op op, std::int32_t width);
  const tensor::Shape& shape(Weight w) const;
  std::vector<tensor::Shape> parameters_;
  Program program_;
};

}  // namespace qw::ops
