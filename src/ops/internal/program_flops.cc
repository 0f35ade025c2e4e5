#include "ops/internal/program_flops.h"

#include <algorithm>

namespace qw::ops {
namespace {

constexpr double kMultiplyAdd = 2;

bool frozen(const TrainingOptions& options, Weight w) {
  const auto id = static_cast<std::size_t>(w.id);
  return id < options.frozen.size() && options.frozen[id];
}

// Pairs of a row and a token it sees, in a document of n rows.
double pairs_of(double n, std::int64_t window) {
  const auto w = static_cast<double>(window);
  return window == 0 || n <= w ? n * (n + 1) / 2 : w * (w + 1) / 2 + (n - w) * w;
}

}  // namespace

void ProgramFlops::Cost::add_pairs(std::int64_t window, double a_pair) {
  for (Window& one : pairs)
    if (one.tokens == window) {
      one.a_pair += a_pair;
      return;
    }
  pairs.push_back({window, a_pair});
}

ProgramFlops::ProgramFlops(const Program& program, const TrainingPlan& plan, const std::vector<tensor::Shape>& shapes,
                           const TrainingOptions& options) {
  const auto product = [&](const TrainingPlan::OpPlan& p, double in, double out) {
    const double once = kMultiplyAdd * in * out;
    forward_.a_row += once;
    if (p.wanted[0]) backward_.a_row += once;
    if (p.train_weight) backward_.a_row += once;
    if (p.adapter < 0) return;
    const double beside = kMultiplyAdd * options.adapters[static_cast<std::size_t>(p.adapter)].rank * (in + out);
    forward_.a_row += beside;
    backward_.a_row += beside * (p.wanted[0] ? 2 : 1);
  };
  for (std::size_t i = 0; i < program.ops.size(); ++i) {
    const Op& op = program.ops[i];
    const TrainingPlan::OpPlan& p = plan.ops[i];
    const double back = p.backward ? 2 : 0;  // gradients of both factors
    switch (op.kind) {
      case OpKind::kLinear:
        product(p, op.in[0].width, op.out.width);
        break;
      case OpKind::kHead:
        if (op.weight.present()) {
          const tensor::Shape& shape = shapes[static_cast<std::size_t>(op.weight.id)];
          product(p, static_cast<double>(shape[1]), static_cast<double>(shape[0]));
        }
        break;
      case OpKind::kAttention: {
        // Two products of a row with what it sees: scores, and the sum of values.
        const double a_pair = 2 * kMultiplyAdd * op.attention.heads * op.attention.head_dim;
        std::int64_t window = op.attention.window;
        if (op.index.ratio > 0) {
          window = op.index.all_seen();
          forward_.add_pairs(0, kMultiplyAdd * op.index.heads * op.index.dim / op.index.ratio);
        }
        forward_.add_pairs(window, a_pair);
        backward_.add_pairs(window, back * a_pair);
        break;
      }
      case OpKind::kExperts: {
        const double once = 3 * kMultiplyAdd * op.experts.top_k * op.experts.width * op.out.width;
        forward_.a_row += once;
        if (p.backward) backward_.a_row += once * (frozen(options, op.experts.gate) ? 1 : 2);
        break;
      }
      case OpKind::kShortConv: {
        const double taps =
            static_cast<double>(shapes[static_cast<std::size_t>(op.weight.id)].elements()) / op.out.width;
        forward_.a_row += kMultiplyAdd * taps * op.out.width;
        backward_.a_row += back * kMultiplyAdd * taps * op.out.width;
        break;
      }
      case OpKind::kDeltaRule: {
        // What the state holds of a key, what is written, what is read: three products of a row with the state.
        const double once = 3 * kMultiplyAdd * op.delta.value_heads * op.delta.key_dim * op.delta.value_dim;
        forward_.a_row += once;
        backward_.a_row += back * once;
        break;
      }
      default:
        break;  // of single values, or a look-up
    }
  }
}

double ProgramFlops::cost(const Cost& of, std::span<const std::int32_t> cu_seqlens) {
  double sum = 0;
  for (std::size_t d = 0; d + 1 < cu_seqlens.size(); ++d) {
    const auto n = static_cast<double>(cu_seqlens[d + 1] - cu_seqlens[d]);
    sum += of.a_row * n;
    for (const Window& one : of.pairs) sum += one.a_pair * pairs_of(n, one.tokens);
  }
  return sum;
}

}  // namespace qw::ops
