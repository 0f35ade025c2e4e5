#include "ops/slicing.h"

#include <algorithm>
#include <map>
#include <string>

#include "ops/internal/append_op.h"
#include "ops/internal/index.h"

namespace qw::ops {
namespace {

// Finds the weights to cut: from what enters attention and SwiGLU back to the products that make it, and from what
// leaves them on to the products that read it.
class Cutter {
 public:
  Cutter(const Program& program, std::size_t parameters, int slices)
      : program_(program), sliced_(program.widths.size(), false), used_(parameters, false) {
    out_.slices = slices;
    out_.cuts.assign(parameters, Cut::kWhole);
    out_.partial.assign(parameters, false);
  }

  Result<Slicing> run() {
    for (const Op& op : program_.ops) {
      if (op.kind == OpKind::kAttention) QW_TRY(cut_heads(op));
      if (op.kind != OpKind::kSwiglu) continue;
      QW_TRY(divides(op.out.width, "hidden columns of a feed-forward layer"));
      for (const Value v : {op.in[0], op.in[1]}) QW_TRY(cut_back(v));
    }
    for (const Op& op : program_.ops) QW_TRY(go_on(op));
    for (const Op& op : program_.ops)
      for (const Weight w : {op.weight, op.bias}) QW_TRY(cut_once(op, w));
    return std::move(out_);
  }

 private:
  Status divides(std::int64_t count, const char* what) const {
    if (count % out_.slices == 0) return {};
    return fail(ErrorKind::kUsage,
                std::to_string(out_.slices) + " does not divide the " + std::to_string(count) + " " + what);
  }
  static Status uncut(const Op& op) {
    return fail(ErrorKind::kUsage, std::string("a layer with \"") + op_name(op.kind) + "\" cannot be cut");
  }

  Status cut_heads(const Op& op) {
    if (op.index.ratio > 0) return fail(ErrorKind::kUsage, "attention with an index cannot be cut");
    QW_TRY(divides(op.attention.heads, "query heads"));
    QW_TRY(divides(op.attention.kv_heads, "key and value heads"));
    for (int j = 0; j < op.inputs(); ++j) QW_TRY(cut_back(op.in[j]));
    return {};
  }

  // Whether the op treats each head, or each number, of its inputs by itself, so that it may be given some of them.
  bool by_heads(const Op& op) const {
    const std::int32_t width = op.in[0].width / out_.slices;
    switch (op.kind) {
      case OpKind::kRope:
        return width % op.rope.head_dim == 0;
      case OpKind::kRmsNorm:
        return width % op.norm_width == 0 && op.norm_sets == 1;
      case OpKind::kColumns:
        return width % op.column_group == 0;
      case OpKind::kGateRows:
        return op.in[1].width % out_.slices == 0;
      case OpKind::kSwiglu:
      case OpKind::kAdd:
      case OpKind::kScale:
      case OpKind::kSilu:
      case OpKind::kRelu:
      case OpKind::kAttention:
        return true;
      default:
        return false;
    }
  }

  Status cut_back(Value v) {
    if (sliced_[index(v.id)]) return {};
    const Op& op = program_.ops[index(program_.maker[index(v.id)])];
    sliced_[index(v.id)] = true;
    if (op.kind == OpKind::kLinear) {
      out_.cuts[index(op.weight.id)] = Cut::kRows;
      if (op.bias.present()) out_.cuts[index(op.bias.id)] = Cut::kRows;
      return {};
    }
    if (!by_heads(op)) return uncut(op);
    for (int j = 0; j < op.inputs(); ++j) QW_TRY(cut_back(op.in[j]));
    return {};
  }

  Status go_on(const Op& op) {
    const auto is_cut = [this](Value v) { return sliced_[index(v.id)]; };
    const bool any = std::any_of(op.in, op.in + op.inputs(), is_cut);
    if (op.kind == OpKind::kLinear) {
      Cut& cut = out_.cuts[index(op.weight.id)];
      if (!any) return {};
      if (cut == Cut::kRows || op.bias.present() || op.together != 1) return uncut(op);
      cut = Cut::kColumns;
      return {};
    }
    if (!any) return {};
    if (!by_heads(op) || !std::all_of(op.in, op.in + op.inputs(), is_cut)) return uncut(op);
    if (op.kind == OpKind::kRmsNorm) out_.partial[index(op.weight.id)] = true;
    sliced_[index(op.out.id)] = true;
    return {};
  }

  // A weight that several ops read would have to be cut alike in all of them; models have none.
  Status cut_once(const Op& op, Weight w) {
    if (!w.present()) return {};
    const bool special = out_.cuts[index(w.id)] != Cut::kWhole || out_.partial[index(w.id)];
    if (special && used_[index(w.id)]) return uncut(op);
    used_[index(w.id)] = true;
    return {};
  }

  const Program& program_;
  std::vector<bool> sliced_, used_;  // by value; by parameter
  Slicing out_;
};

// Where slices of a matrix begin, in numbers, and how far their rows are apart.
struct Place {
  std::int64_t rows, width, begin, stride;  // of a slice: rows of so many numbers
};
Place place_of(const tensor::Shape& shape, Cut cut, int slices, int slice) {
  const std::int64_t columns = shape.back(), n = shape.elements();
  if (cut != Cut::kColumns) {
    const std::int64_t own = cut == Cut::kRows ? n / slices : n;
    return {1, own, cut == Cut::kRows ? own * slice : 0, own};
  }
  return {shape.rows(), columns / slices, columns / slices * slice, columns};
}

class SlicedProgram {
 public:
  SlicedProgram(const Program& whole, const Slicing& slicing)
      : whole_(whole), slicing_(slicing), now_(whole.widths.size()) {}

  Program run() {
    for (const Op& op : whole_.ops) add(op);
    if (whole_.kept.id >= 0) out_.kept = now_[index(whole_.kept.id)];
    return std::move(out_);
  }

 private:
  Value entered(Value x) {
    const auto [there, fresh] = entered_.try_emplace(x.id);
    if (fresh) there->second = append_op(out_, {.kind = OpKind::kEnterGroup, .in = {now_[index(x.id)]}}, x.width);
    return there->second;
  }

  void add(const Op& op) {
    const Cut cut = op.kind == OpKind::kLinear ? slicing_.cut(index(op.weight.id)) : Cut::kWhole;
    Op of = op;
    for (int j = 0; j < op.inputs(); ++j) of.in[j] = now_[index(op.in[j].id)];
    if (cut == Cut::kRows) of.in[0] = entered(op.in[0]);
    const bool in_slices = op.inputs() > 0 && of.in[0].width != op.in[0].width;
    const bool narrow = op.kind == OpKind::kLinear ? cut == Cut::kRows : in_slices;
    if (op.kind == OpKind::kAttention && in_slices) {
      of.attention.heads /= slicing_.slices;
      of.attention.kv_heads /= slicing_.slices;
    }
    Value y = append_op(out_, of, narrow ? op.out.width / slicing_.slices : op.out.width);
    if (cut == Cut::kColumns) y = append_op(out_, {.kind = OpKind::kSumGroup, .in = {y}}, y.width);
    if (op.out.id >= 0) now_[index(op.out.id)] = y;
  }

  const Program& whole_;
  const Slicing& slicing_;
  std::vector<Value> now_;  // by value of the whole program
  std::map<std::int32_t, Value> entered_;
  Program out_;
};

}  // namespace

Result<Slicing> slicing_of(const Program& whole, std::size_t parameters, int slices) {
  return Cutter(whole, parameters, slices).run();
}

Program sliced(const Program& whole, const Slicing& slicing) {
  return slicing.slices == 1 ? whole : SlicedProgram(whole, slicing).run();
}

tensor::Shape slice_shape(const tensor::Shape& whole, Cut cut, int slices) {
  if (cut == Cut::kWhole) return whole;
  if (whole.rank() == 1) return tensor::Shape{whole[0] / slices};
  return cut == Cut::kRows ? tensor::Shape{whole[0] / slices, whole[1]} : tensor::Shape{whole[0], whole[1] / slices};
}

void take_slice(const float* whole, const tensor::Shape& shape, Cut cut, int slices, int slice, float* out) {
  const Place p = place_of(shape, cut, slices, slice);
  for (std::int64_t r = 0; r < p.rows; ++r) std::copy_n(whole + p.begin + r * p.stride, p.width, out + r * p.width);
}

void put_slice(const float* from, const tensor::Shape& shape, Cut cut, int slices, int slice, float* whole) {
  const Place p = place_of(shape, cut, slices, slice);
  for (std::int64_t r = 0; r < p.rows; ++r) std::copy_n(from + r * p.width, p.width, whole + p.begin + r * p.stride);
}

}  // namespace qw::ops
