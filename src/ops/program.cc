#include "ops/program.h"

#include <utility>

#include "base/result.h"
#include "ops/internal/append_op.h"

namespace qw::ops {

const char* op_name(OpKind kind) {
  switch (kind) {
    case OpKind::kEmbed:
      return "embed";
    case OpKind::kGiven:
      return "given";
    case OpKind::kRmsNorm:
      return "rms_norm";
    case OpKind::kLinear:
      return "linear";
    case OpKind::kRope:
      return "rope";
    case OpKind::kAttention:
      return "attention";
    case OpKind::kSwiglu:
      return "swiglu";
    case OpKind::kAdd:
      return "add";
    case OpKind::kExperts:
      return "experts";
    case OpKind::kColumns:
      return "columns";
    case OpKind::kGateRows:
      return "gate_rows";
    case OpKind::kScale:
      return "scale";
    case OpKind::kSilu:
      return "silu";
    case OpKind::kMatchRows:
      return "match_rows";
    case OpKind::kNgrams:
      return "ngrams";
    case OpKind::kRelu:
      return "relu";
    case OpKind::kConcat:
      return "concat";
    case OpKind::kShortConv:
      return "short_conv";
    case OpKind::kDeltaRule:
      return "delta_rule";
    case OpKind::kEnterGroup:
      return "enter_group";
    case OpKind::kSumGroup:
      return "sum_group";
    case OpKind::kHead:
      return "head";
  }
  return "?";
}

int Op::inputs() const {
  switch (kind) {
    case OpKind::kEmbed:
    case OpKind::kGiven:
    case OpKind::kNgrams:
      return 0;
    case OpKind::kAttention:
      return index.ratio > 0 || attention.chunk > 0 ? 5 : 3;
    case OpKind::kDeltaRule:
      return 3;
    case OpKind::kSwiglu:
    case OpKind::kAdd:
    case OpKind::kExperts:
    case OpKind::kGateRows:
    case OpKind::kMatchRows:
    case OpKind::kConcat:
      return 2;
    default:
      return 1;
  }
}

Value append_op(Program& program, Op op, std::int32_t width) {
  const auto index = static_cast<std::int32_t>(program.ops.size());
  for (int i = 0; i < op.inputs(); ++i) {
    const Value v = op.in[i];
    QW_CHECK(v.id >= 0 && static_cast<std::size_t>(v.id) < program.widths.size());
    QW_CHECK(v.width == program.widths[static_cast<std::size_t>(v.id)]);
    program.last_use[static_cast<std::size_t>(v.id)] = index;
  }
  if (width > 0) {
    op.out = {static_cast<std::int32_t>(program.widths.size()), width};
    program.widths.push_back(width);
    program.maker.push_back(index);
    program.last_use.push_back(index);
  }
  program.ops.push_back(op);
  return op.out;
}

RecordingExecutor::RecordingExecutor(std::vector<tensor::Shape> parameters) : parameters_(std::move(parameters)) {}

const tensor::Shape& RecordingExecutor::shape(Weight w) const {
  QW_CHECK(w.id >= 0 && static_cast<std::size_t>(w.id) < parameters_.size());
  return parameters_[static_cast<std::size_t>(w.id)];
}

Value RecordingExecutor::push(Op op, std::int32_t width) { return append_op(program_, op, width); }

Program RecordingExecutor::finish() {
  QW_CHECK(!program_.ops.empty() && program_.ops.back().kind == OpKind::kHead);
  return std::exchange(program_, {});
}

Value RecordingExecutor::embed(Weight table) {
  QW_CHECK(shape(table).rank() == 2);
  return push({.kind = OpKind::kEmbed, .weight = table}, static_cast<std::int32_t>(shape(table)[1]));
}

Value RecordingExecutor::given(std::int32_t width) {
  QW_CHECK(width > 0);
  for (const Op& op : program_.ops) QW_CHECK(op.kind != OpKind::kGiven);
  return push({.kind = OpKind::kGiven}, width);
}

void RecordingExecutor::keep(Value x) {
  QW_CHECK(program_.kept.id < 0 && x.id >= 0 && static_cast<std::size_t>(x.id) < program_.widths.size());
  program_.kept = x;
}

Value RecordingExecutor::rms_norm(Value x, Weight w, float eps) {
  QW_CHECK(shape(w) == tensor::Shape{x.width});
  return push({.kind = OpKind::kRmsNorm, .in = {x}, .weight = w, .eps = eps, .norm_width = x.width}, x.width);
}

Value RecordingExecutor::head_rms_norm(Value x, Weight w, std::int32_t head_dim, float eps) {
  QW_CHECK((shape(w) == tensor::Shape{head_dim} || shape(w) == tensor::Shape{x.width}) && x.width % head_dim == 0);
  return push({.kind = OpKind::kRmsNorm, .in = {x}, .weight = w, .eps = eps, .norm_width = head_dim,
               .norm_sets = static_cast<std::int32_t>(shape(w)[0] / head_dim)},
              x.width);
}

Value RecordingExecutor::linear(Value x, Weight w, Weight bias) {
  const tensor::Shape& s = shape(w);
  QW_CHECK(s.rank() == 2 && s[1] == x.width);
  QW_CHECK(!bias.present() || shape(bias) == tensor::Shape{s[0]});
  return push({.kind = OpKind::kLinear, .in = {x}, .weight = w, .bias = bias}, static_cast<std::int32_t>(s[0]));
}

void RecordingExecutor::products(Value x, std::span<const Product> of, std::span<Value> y) {
  QW_CHECK(!of.empty() && of.size() <= kMostProducts && of.size() == y.size());
  const std::size_t first = program_.ops.size();
  for (std::size_t i = 0; i < of.size(); ++i) {
    y[i] = linear(x, of[i].w, of[i].bias);
    program_.ops.back().together = 0;
  }
  program_.ops[first].together = static_cast<std::int32_t>(of.size());
}

Value RecordingExecutor::rope(Value x, const RopeSpec& spec) {
  QW_CHECK(spec.head_dim > 0 && x.width % spec.head_dim == 0 && spec.rotary % 2 == 0 && spec.rotary <= spec.head_dim);
  return push({.kind = OpKind::kRope, .in = {x}, .rope = spec}, x.width);
}

Value RecordingExecutor::attention(Value q, Value k, Value v, const AttentionSpec& spec) {
  QW_CHECK(spec.kv_heads > 0 && spec.heads % spec.kv_heads == 0);
  QW_CHECK(q.width == spec.heads * spec.head_dim && k.width == spec.kv_heads * spec.head_dim && v.width == k.width);
  QW_CHECK(spec.chunk == 0);
  return push({.kind = OpKind::kAttention, .in = {q, k, v}, .attention = spec}, q.width);
}

Value RecordingExecutor::chunked_attention(Value q, Value q_before, Value q_far, Value k, Value v, const AttentionSpec& spec) {
  QW_CHECK(spec.kv_heads > 0 && spec.heads % spec.kv_heads == 0 && spec.window == 0);
  QW_CHECK(q.width == spec.heads * spec.head_dim && k.width == spec.kv_heads * spec.head_dim && v.width == k.width);
  QW_CHECK(spec.chunk > 0 && spec.chunk % kChunkUnit == 0 && q_before.width == q.width && q_far.width == q.width);
  return push({.kind = OpKind::kAttention, .in = {q, k, v, q_before, q_far}, .attention = spec}, q.width);
}

Value RecordingExecutor::indexed_attention(Value q, Value k, Value v, Value index_q, Value index_k, const AttentionSpec& spec,
                                           const IndexSpec& index) {
  QW_CHECK(spec.kv_heads > 0 && spec.heads % spec.kv_heads == 0 && spec.window == 0);
  QW_CHECK(q.width == spec.heads * spec.head_dim && k.width == spec.kv_heads * spec.head_dim && v.width == k.width);
  QW_CHECK(index.ratio > 0 && index.blocks > 0 && index_q.width == index.heads * index.dim && index_k.width == index.dim);
  QW_CHECK(shape(index.key_norm) == tensor::Shape{index.dim} && index.rope.head_dim == index.dim && index.rope.rotary <= index.dim);
  return push({.kind = OpKind::kAttention, .in = {q, k, v, index_q, index_k}, .attention = spec, .index = index}, q.width);
}

Value RecordingExecutor::swiglu(Value gate, Value up) {
  QW_CHECK(gate.width == up.width);
  return push({.kind = OpKind::kSwiglu, .in = {gate, up}}, gate.width);
}

Value RecordingExecutor::add(Value a, Value b) {
  QW_CHECK(a.width == b.width);
  return push({.kind = OpKind::kAdd, .in = {a, b}}, a.width);
}

Value RecordingExecutor::experts(Value x, Value logits, const ExpertsSpec& spec) {
  QW_CHECK(spec.experts == logits.width && spec.top_k > 0 && spec.top_k <= spec.experts);
  for (std::int32_t e = 0; e < spec.experts; ++e) {
    QW_CHECK(shape({spec.gate.id + e}) == (tensor::Shape{spec.width, x.width}));
    QW_CHECK(shape({spec.up.id + e}) == (tensor::Shape{spec.width, x.width}));
    QW_CHECK(shape({spec.down.id + e}) == (tensor::Shape{x.width, spec.width}));
  }
  return push({.kind = OpKind::kExperts, .in = {x, logits}, .experts = spec}, x.width);
}

Value RecordingExecutor::columns(Value x, std::int32_t begin, std::int32_t width) {
  return head_columns(x, begin, width, x.width);
}

Value RecordingExecutor::head_columns(Value x, std::int32_t begin, std::int32_t width, std::int32_t head_dim) {
  QW_CHECK(begin >= 0 && width > 0 && begin + width <= head_dim && x.width % head_dim == 0);
  return push({.kind = OpKind::kColumns, .in = {x}, .first_column = begin, .column_group = head_dim},
              x.width / head_dim * width);
}

Value RecordingExecutor::gate_rows(Value x, Value gate) {
  QW_CHECK(x.width % gate.width == 0);
  return push({.kind = OpKind::kGateRows, .in = {x, gate}}, x.width);
}

Value RecordingExecutor::scale(Value x, float factor) {
  return push({.kind = OpKind::kScale, .in = {x}, .factor = factor}, x.width);
}

Value RecordingExecutor::silu(Value x) { return push({.kind = OpKind::kSilu, .in = {x}}, x.width); }

Value RecordingExecutor::match_rows(Value a, Value b, float scale) {
  QW_CHECK(a.width == b.width);
  return push({.kind = OpKind::kMatchRows, .in = {a, b}, .factor = scale}, 1);
}

Value RecordingExecutor::ngrams(const NgramSpec& spec) {
  const auto heads = static_cast<std::size_t>(spec.heads());
  QW_CHECK(spec.size >= 2 && spec.size <= kMaxNgram && spec.heads() > 0 && spec.heads() <= kMaxNgramHeads);
  QW_CHECK(spec.factors.size() == static_cast<std::size_t>(spec.size) && spec.sizes.size() == heads && spec.offsets.size() == heads);
  for (std::int32_t t = 0; t < spec.tables; ++t)
    QW_CHECK(shape({spec.table.id + t}) == (tensor::Shape{spec.rows_each, spec.dim}));
  for (std::size_t h = 0; h < heads; ++h)
    QW_CHECK(spec.sizes[h] > 0 && spec.offsets[h] >= 0 && spec.offsets[h] + spec.sizes[h] <= spec.tables * spec.rows_each);
  return push({.kind = OpKind::kNgrams, .ngrams = spec}, spec.heads() * spec.dim);
}

Value RecordingExecutor::relu(Value x) { return push({.kind = OpKind::kRelu, .in = {x}}, x.width); }

Value RecordingExecutor::concat(Value a, Value b) {
  return push({.kind = OpKind::kConcat, .in = {a, b}}, a.width + b.width);
}

Value RecordingExecutor::short_conv(Value x, Weight w, const ShortConvSpec& spec) {
  QW_CHECK(shape(w).rank() == 2 && shape(w)[0] == x.width && shape(w)[1] > 0 && spec.dilation > 0);
  return push({.kind = OpKind::kShortConv, .in = {x}, .weight = w, .conv = spec}, x.width);
}

Value RecordingExecutor::delta_rule(Value x, Value forget, Value write, Weight a_log, Weight dt_bias,
                                    const DeltaRuleSpec& spec) {
  QW_CHECK(spec.key_heads > 0 && spec.value_heads % spec.key_heads == 0 && x.width == spec.input_width());
  QW_CHECK(forget.width == spec.value_heads && write.width == spec.value_heads);
  QW_CHECK(shape(a_log) == tensor::Shape{spec.value_heads} && shape(dt_bias) == tensor::Shape{spec.value_heads});
  return push({.kind = OpKind::kDeltaRule, .in = {x, forget, write}, .weight = a_log, .bias = dt_bias, .delta = spec},
              spec.values_width());
}

void RecordingExecutor::head(Value x, Weight w) {
  QW_CHECK(!w.present() || (shape(w).rank() == 2 && shape(w)[1] == x.width));
  push({.kind = OpKind::kHead, .in = {x}, .weight = w}, 0);
}

}  // namespace qw::ops
