#include "ops/internal/adapters.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace qw::ops {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }
float* floats(const tensor::Buffer& b) { return reinterpret_cast<float*>(b.data()); }

bool used_by(const Program& program, Weight weight, bool table) {
  return std::any_of(program.ops.begin(), program.ops.end(), [&](const Op& op) {
    const bool product = op.kind == OpKind::kLinear || op.kind == OpKind::kHead;
    return op.weight.id == weight.id && (table ? op.kind == OpKind::kEmbed : product);
  });
}

tensor::Buffer copied(const tensor::Tensor& t) {
  tensor::Buffer b(index(t.shape().elements()) * sizeof(float));
  std::memcpy(b.data(), t.f32(), b.size());
  return b;
}

PackedWeight packed(const Machine& m, const tensor::Tensor& t) {
  PackedWeight w;
  w.type = kernels::WeightType::kF32;
  w.out = t.shape()[0];
  w.in = t.shape()[1];
  w.data = tensor::Buffer(m.kernels.packed_bytes(w.type, w.out, w.in));
  m.kernels.pack(w.type, t.f32(), w.out, w.in, w.data.data());
  return w;
}

}  // namespace

Status Adapters::add(const Machine& m, const Program& program, std::span<const PackedWeight> weights,
                     const LowRankChange& change, std::vector<Entry>& entries) {
  const auto bad = [&](const std::string& why) {
    return fail(ErrorKind::kUsage, "adapter of weight " + std::to_string(change.weight.id) + ": " + why);
  };
  if (change.weight.id < 0 || index(change.weight.id) >= weights.size() || !used_by(program, change.weight, change.table))
    return bad("no product or look-up uses it that way");
  const PackedWeight& w = weights[index(change.weight.id)];
  Change c;
  c.table = change.table;
  c.rank = change.b.shape().back();
  c.in = w.in;
  c.out = w.out;
  const tensor::Shape a = c.table ? tensor::Shape{w.out, c.rank} : tensor::Shape{c.rank, w.in};
  const tensor::Shape b = c.table ? tensor::Shape{w.in, c.rank} : tensor::Shape{w.out, c.rank};
  if (change.a.shape() != a || change.b.shape() != b || c.rank < 1)
    return bad("A " + change.a.shape().to_string() + " and B " + change.b.shape().to_string() + " do not fit it");
  if (!change.gain.empty() && (c.table || static_cast<std::int64_t>(change.gain.size()) != w.out)) return bad("gains do not fit it");
  std::int32_t& place = c.table ? entries[index(change.weight.id)].look_up : entries[index(change.weight.id)].product;
  if (place >= 0) return bad("it is changed twice");
  c.scale = change.scale;
  c.gain = change.gain;
  if (c.table) {
    c.rows_a = copied(change.a);
    c.rows_b = copied(change.b);
  } else {
    c.a = packed(m, change.a);
    c.b = packed(m, change.b);
  }
  place = static_cast<std::int32_t>(changes_.size());
  changes_.push_back(std::move(c));
  return {};
}

Result<Adapters> Adapters::create(const Machine& m, const Program& program, std::span<const PackedWeight> weights,
                                  std::span<const LowRankAdapter> adapters, std::int64_t max_rows) {
  Adapters out;
  for (const LowRankAdapter& adapter : adapters) {
    std::vector<Entry> entries(weights.size());
    for (const LowRankChange& change : adapter.changes) QW_TRY(out.add(m, program, weights, change, entries));
    out.table_.push_back(std::move(entries));
  }
  std::int64_t in = 0, width = 0, rank = 0;
  std::size_t prepared = 0, prepared_u = 0;
  for (const Change& c : out.changes_) {
    if (c.table) continue;
    in = std::max(in, c.in);
    width = std::max(width, c.out);
    rank = std::max(rank, c.rank);
    prepared = std::max(prepared, m.kernels.prepared_bytes(kernels::WeightType::kF32, max_rows, c.in));
    prepared_u = std::max(prepared_u, m.kernels.prepared_bytes(kernels::WeightType::kF32, max_rows, c.rank));
  }
  if (width == 0) return out;
  out.x_ = tensor::Buffer(index(max_rows * in) * sizeof(float));
  out.u_ = tensor::Buffer(index(max_rows * rank) * sizeof(float));
  out.d_ = tensor::Buffer(index(max_rows * width) * sizeof(float));
  out.prepared_ = tensor::Buffer(prepared);
  out.prepared_u_ = tensor::Buffer(prepared_u);
  out.rows_.reserve(index(max_rows));
  return out;
}

std::int64_t Adapters::bytes() const {
  std::size_t bytes = x_.size() + u_.size() + d_.size() + prepared_.size() + prepared_u_.size();
  for (const Change& c : changes_)
    bytes += c.a.data.size() + c.b.data.size() + c.rows_a.size() + c.rows_b.size() + c.gain.size() * sizeof(float);
  return static_cast<std::int64_t>(bytes);
}

// rows_ names the rows of this change's adapter.
void Adapters::apply(const Machine& m, const Change& c, const float* x, const float* bias, float* y) {
  const auto n = static_cast<std::int64_t>(rows_.size());
  for_rows(m.pool, n, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      std::memcpy(floats(x_) + i * c.in, x + rows_[index(i)] * c.in, index(c.in) * sizeof(float));
  });
  prepare_rows(m, c.a.type, floats(x_), n, c.in, prepared_.data());
  packed_matmul(m, c.a, prepared_.data(), n, nullptr, floats(u_));
  prepare_rows(m, c.b.type, floats(u_), n, c.rank, prepared_u_.data());
  packed_matmul(m, c.b, prepared_u_.data(), n, nullptr, floats(d_));
  for_rows(m.pool, n, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float* to = y + rows_[index(i)] * c.out;
      const float* d = floats(d_) + i * c.out;
      if (c.gain.empty()) {
        for (std::int64_t o = 0; o < c.out; ++o) to[o] += c.scale * d[o];
        continue;
      }
      for (std::int64_t o = 0; o < c.out; ++o) {  // the bias stands outside of what the gain multiplies
        const float own = bias != nullptr ? bias[o] : 0;
        to[o] = c.gain[index(o)] * ((to[o] - own) + c.scale * d[o]) + own;
      }
    }
  });
}

void Adapters::add_product(const Machine& m, Weight weight, std::span<const std::int32_t> chosen, const float* x,
                           const float* bias, float* y) {
  for (std::size_t adapter = 0; adapter < table_.size(); ++adapter) {
    const std::int32_t change = table_[adapter][index(weight.id)].product;
    if (change < 0) continue;
    rows_.clear();
    for (std::size_t r = 0; r < chosen.size(); ++r)
      if (chosen[r] == static_cast<std::int32_t>(adapter)) rows_.push_back(static_cast<std::int32_t>(r));
    if (!rows_.empty()) apply(m, changes_[index(change)], x, bias, y);
  }
}

void Adapters::add_look_up(const Machine& m, Weight table, std::span<const std::int32_t> chosen,
                           std::span<const std::int32_t> tokens, float* y) const {
  for_rows(m.pool, static_cast<std::int64_t>(chosen.size()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      if (chosen[index(r)] < 0) continue;
      const std::int32_t change = table_[index(chosen[index(r)])][index(table.id)].look_up;
      if (change < 0) continue;
      const Change& c = changes_[index(change)];
      const float* a = floats(c.rows_a) + std::int64_t{tokens[index(r)]} * c.rank;
      for (std::int64_t d = 0; d < c.in; ++d) {
        float sum = 0;
        for (std::int64_t k = 0; k < c.rank; ++k) sum += floats(c.rows_b)[d * c.rank + k] * a[k];
        y[r * c.in + d] += c.scale * sum;
      }
    }
  });
}

}  // namespace qw::ops
