#include "ops/embed.h"
#include "ops/internal/training_state.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"

namespace qw::ops {

void TrainingGraph::State::run_forward(std::size_t i) {
  const Op& op = program.ops[i];
  const TrainingPlan::OpPlan& p = op_plan(i);
  switch (op.kind) {
    case OpKind::kEmbed:
      embed_forward(machine, matrix(op.weight), batch.tokens.data(), rows, op.out.width, value(op.out));
      break;
    case OpKind::kRmsNorm:
      rms_norm_forward(machine, value(op.in[0]), weight(op.weight), op.eps, rows * (op.out.width / op.norm_width),
                       op.norm_width, value(op.out), buffer(p.inverse), op.norm_sets);
      break;
    case OpKind::kLinear: {
      LinearArgs a = linear_args(i);
      const bool remembered = remembers_a(machine, rows, a.out);
      a.same_x = remembered && packed_value == op.in[0].id;
      linear_forward(machine, workspace, a);
      packed_value = remembered ? op.in[0].id : -1;
      break;
    }
    case OpKind::kRope: {
      const State::Angles& a = angles[index(p.angles)];
      if (value(op.in[0]) != value(op.out)) copy(machine, value(op.in[0]), count(op.out), value(op.out));
      rope_forward(machine, op.rope, floats(a.cos), floats(a.sin), rows, op.out.width, value(op.out));
      break;
    }
    case OpKind::kAttention:
      if (op.index.ratio > 0)
        indexed_attention->forward(machine, indexed_args(i));
      else
        attention_forward(machine, attention_args(i), options.max_tokens);
      break;
    case OpKind::kSwiglu:
      swiglu_forward(machine, value(op.in[0]), value(op.in[1]), count(op.out), value(op.out));
      break;
    case OpKind::kAdd:
      add_forward(machine, value(op.in[0]), value(op.in[1]), count(op.out), value(op.out));
      break;
    case OpKind::kExperts:
      route(machine, op.experts, value(op.in[1]), rows, buffer(p.probabilities), routings[i]);
      packed_value = -1;
      experts_forward(machine, workspace, experts_args(i));
      break;
    case OpKind::kColumns:
      columns_forward(machine, value(op.in[0]), rows * op.groups(), op.column_group, op.first_column,
                      op.out.width / op.groups(), value(op.out));
      break;
    case OpKind::kGateRows:
      gate_rows_forward(machine, value(op.in[0]), value(op.in[1]), count(op.in[1]), op.out.width / op.in[1].width,
                        value(op.out));
      break;
    case OpKind::kShortConv: {
      const ShortConvArgs whole = conv_args(i);
      std::vector<float> by_tap(static_cast<std::size_t>(whole.taps * whole.width));
      short_conv_taps(whole.w, whole.taps, whole.width, by_tap.data());
      for (std::size_t d = 0; d + 1 < batch.cu_seqlens.size(); ++d) {
        ShortConvArgs a = whole;
        a.rows = batch.cu_seqlens[d + 1] - batch.cu_seqlens[d];
        a.x += batch.cu_seqlens[d] * a.width;
        a.y += batch.cu_seqlens[d] * a.width;
        short_conv_forward(machine, a, by_tap.data(), nullptr);
      }
      break;
    }
    case OpKind::kDeltaRule:
      delta_rule_forward(machine, delta_args(i));
      break;
    case OpKind::kScale:
      scale_forward(machine, value(op.in[0]), op.factor, count(op.out), value(op.out));
      break;
    case OpKind::kSilu:
      silu_forward(machine, value(op.in[0]), count(op.out), value(op.out));
      break;
    case OpKind::kMatchRows:
      match_rows_forward(machine, value(op.in[0]), value(op.in[1]), op.factor, rows, op.in[0].width, value(op.out));
      break;
    case OpKind::kNgrams: {
      std::vector<const float*> tables;
      std::vector<float*> none;
      ngrams_forward(machine, ngram_args(i, tables, none));
      break;
    }
    case OpKind::kRelu:
      relu_forward(machine, value(op.in[0]), count(op.out), value(op.out));
      break;
    case OpKind::kConcat:
      concat_forward(machine, value(op.in[0]), op.in[0].width, value(op.in[1]), op.in[1].width, rows, value(op.out));
      break;
    case OpKind::kEnterGroup:
    case OpKind::kSumGroup:
      if (value(op.in[0]) != value(op.out)) copy(machine, value(op.in[0]), count(op.out), value(op.out));
      if (op.kind == OpKind::kSumGroup) options.sum_group({value(op.out), index(count(op.out))});
      break;
    case OpKind::kGiven:
      break;  // such programs are not trained (make_training_plan)
    case OpKind::kHead:
      break;  // runs with its gradient, or when logits are asked for
  }
}

}  // namespace qw::ops
