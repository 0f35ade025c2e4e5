#include "ops/internal/adapters.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "ops/internal/float_buffer.h"
#include "ops/internal/index.h"

namespace qw::ops {
namespace {

constexpr std::int32_t kChunk = 16;  // rows: the matrices of a small rank are read again for each chunk, from the cache
constexpr std::int64_t kOutPiece = 512;  // outputs of one piece: 32 KiB beside a chunk

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

PackedWeight packed(const kernels::Kernels& kernels, const tensor::Tensor& t) {
  PackedWeight w;
  w.type = kernels::WeightType::kF32;
  w.out = t.shape()[0];
  w.in = t.shape()[1];
  w.data = WeightBytes(kernels.packed_bytes(w.type, w.out, w.in));
  kernels.pack(w.type, t.f32(), w.out, w.in, w.data.data());
  return w;
}

std::size_t prepared_bytes(const Machine& m, std::int64_t rows, std::int64_t in) {
  return align64(m.kernels.prepared_bytes(kernels::WeightType::kF32, rows, in));
}

void grow(tensor::Buffer& buffer, std::size_t bytes) {
  if (buffer.size() < bytes) buffer = tensor::Buffer(bytes);
}

}  // namespace

// ---- one adapter ----------------------------------------------------------------------------------------------------

Status PackedAdapter::add(const kernels::Kernels& kernels, const Program& program,
                          std::span<const PackedWeight> weights, const LowRankChange& change) {
  const auto bad = [&](const std::string& why) {
    return fail(ErrorKind::kUsage, "adapter of weight " + std::to_string(change.weight.id) + ": " + why);
  };
  if (change.weight.id < 0 || index(change.weight.id) >= weights.size() ||
      !used_by(program, change.weight, change.table))
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
  if (!change.gain.empty() && (c.table || static_cast<std::int64_t>(change.gain.size()) != w.out))
    return bad("gains do not fit it");
  Entry& entry = entries_[index(change.weight.id)];
  std::int32_t& place = c.table ? entry.look_up : entry.product;
  if (place >= 0) return bad("it is changed twice");
  c.scale = change.scale;
  c.gain = change.gain;
  if (c.table) {
    c.rows_a = copied(change.a);
    c.rows_b = copied(change.b);
  } else {
    c.a = packed(kernels, change.a);
    c.b = packed(kernels, change.b);
  }
  place = static_cast<std::int32_t>(changes_.size());
  changes_.push_back(std::move(c));
  return {};
}

Result<std::shared_ptr<const PackedAdapter>> PackedAdapter::create(const kernels::Kernels& kernels,
                                                                   const Program& program,
                                                                   std::span<const PackedWeight> weights,
                                                                   const LowRankAdapter& adapter) {
  try {
    const auto out = std::make_shared<PackedAdapter>();
    out->entries_.resize(weights.size());
    for (const LowRankChange& change : adapter.changes) QW_TRY(out->add(kernels, program, weights, change));
    return out;
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kResource, "no memory for the adapter");
  }
}

std::int64_t PackedAdapter::bytes() const {
  std::size_t bytes = 0;
  for (const Change& c : changes_)
    bytes += c.a.data.size() + c.b.data.size() + c.rows_a.size() + c.rows_b.size() + c.gain.size() * sizeof(float);
  return static_cast<std::int64_t>(bytes);
}

// ---- all of them ----------------------------------------------------------------------------------------------------

// A chunk of n rows is prepared in no more bytes than n chunks of one row.
Status Adapters::make_room(const Machine& m, const PackedAdapter& adapter) {
  std::int64_t in = 0, rank = 0;
  for (const PackedAdapter::Change& c : adapter.changes_) {
    if (c.table) continue;
    in = std::max(in, c.in);
    rank = std::max(rank, c.rank);
  }
  if (rank == 0) return {};
  try {
    grow(x_, index(max_rows_ * in) * sizeof(float));
    grow(u_, index(max_rows_ * rank) * sizeof(float));
    grow(prepared_, index(max_rows_) * prepared_bytes(m, 1, in));
    grow(prepared_u_, index(max_rows_) * prepared_bytes(m, 1, rank));
    const std::int64_t piece = round_up(kOutPiece, m.kernels.out_granule);
    grow(d_, index(m.pool.size() * kChunk * piece) * sizeof(float));
    parts_.reserve(index(max_rows_));
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kResource, "no memory to compute the adapter");
  }
  return {};
}

Status Adapters::set(const Machine& m, std::int32_t slot, std::shared_ptr<const PackedAdapter> adapter) {
  QW_CHECK(slot >= 0);
  if (adapter != nullptr) QW_TRY(make_room(m, *adapter));
  if (slot >= slots()) slots_.resize(index(slot) + 1);
  slots_[index(slot)] = std::move(adapter);
  while (!slots_.empty() && slots_.back() == nullptr) slots_.pop_back();
  return {};
}

std::int64_t Adapters::bytes() const {
  std::size_t bytes = x_.size() + u_.size() + d_.size() + prepared_.size() + prepared_u_.size();
  for (const auto& adapter : slots_)
    if (adapter != nullptr) bytes += index(adapter->bytes());
  return static_cast<std::int64_t>(bytes);
}

void Adapters::group(std::span<const std::int32_t> chosen, Grouping& out) const {
  out.order.clear();
  out.chunks.clear();
  for (std::size_t r = 0; r < chosen.size(); ++r)
    if (chosen[r] >= 0) out.order.push_back(static_cast<std::int32_t>(r));
  // Rows of a sequence stand together, so this sorts a few runs; ties by row make it stable without a buffer.
  std::sort(out.order.begin(), out.order.end(), [&](std::int32_t a, std::int32_t b) {
    const std::int32_t of_a = chosen[index(a)], of_b = chosen[index(b)];
    return of_a != of_b ? of_a < of_b : a < b;
  });
  for (std::size_t i = 0; i < out.order.size(); ++i) {
    const std::int32_t slot = chosen[index(out.order[i])];
    if (out.chunks.empty() || out.chunks.back().slot != slot || out.chunks.back().rows == kChunk)
      out.chunks.push_back({slot, static_cast<std::int32_t>(i), 0});
    ++out.chunks.back().rows;
  }
}

// u = A x of a chunk, prepared for the product with B.
void Adapters::through_rank(const Machine& m, const Part& p, const float* x) {
  const PackedAdapter::Change& c = *p.change;
  float* const rows = floats(x_) + p.x;
  float* const u = floats(u_) + p.u;
  for (std::int64_t i = 0; i < p.count; ++i)
    std::memcpy(rows + i * c.in, x + p.rows[i] * c.in, index(c.in) * sizeof(float));
  std::byte* const prepared = prepared_.data() + p.prepared;
  m.kernels.prepare(c.a.type, rows, c.in, p.count, c.in, prepared, 0, p.count);
  multiply_outputs(m, {&c.a, prepared, nullptr, u}, p.count, c.rank, 0, c.rank);
  m.kernels.prepare(c.b.type, u, c.rank, p.count, c.rank, prepared_u_.data() + p.prepared_u, 0, p.count);
}

// Outputs [begin, end) of B u, scaled, added to y. d: scratch of [kChunk, end - begin].
void Adapters::out_of_rank(const Machine& m, const Part& p, std::int64_t begin, std::int64_t end, const float* bias,
                           float* y, float* d) const {
  const PackedAdapter::Change& c = *p.change;
  const std::int64_t width = end - begin;
  multiply_outputs(m, {&c.b, prepared_u_.data() + p.prepared_u, nullptr, d - begin}, p.count, width, begin, end);
  for (std::int64_t i = 0; i < p.count; ++i) {
    float* const to = y + p.rows[i] * c.out + begin;
    const float* const add = d + i * width;
    if (c.gain.empty()) {
      for (std::int64_t o = 0; o < width; ++o) to[o] += c.scale * add[o];
      continue;
    }
    for (std::int64_t o = 0; o < width; ++o) {  // the bias stands outside of what the gain multiplies
      const float own = bias != nullptr ? bias[begin + o] : 0;
      to[o] = c.gain[index(begin + o)] * ((to[o] - own) + c.scale * add[o]) + own;
    }
  }
}

void Adapters::add_product(const Machine& m, Weight weight, const Grouping& rows, const float* x, const float* bias,
                           float* y) {
  parts_.clear();
  std::size_t at_x = 0, at_prepared = 0, at_u = 0, at_prepared_u = 0;
  for (const Grouping::Chunk& chunk : rows.chunks) {
    const PackedAdapter::Change* change = slots_[index(chunk.slot)]->product(weight);
    if (change == nullptr) continue;
    parts_.push_back({change, rows.order.data() + chunk.first, chunk.rows, at_x, at_prepared, at_u, at_prepared_u});
    at_x += index(chunk.rows * change->in);
    at_u += index(chunk.rows * change->rank);
    at_prepared += prepared_bytes(m, chunk.rows, change->in);
    at_prepared_u += prepared_bytes(m, chunk.rows, change->rank);
  }
  if (parts_.empty()) return;
  QW_CHECK(at_prepared <= prepared_.size() && at_prepared_u <= prepared_u_.size());
  const auto chunks = static_cast<std::int64_t>(parts_.size());
  for_pieces(m.pool, chunks, [&](int, std::int64_t i) { through_rank(m, parts_[index(i)], x); });
  const std::int64_t out = parts_.front().change->out, piece = round_up(kOutPiece, m.kernels.out_granule);
  const std::int64_t pieces = ceil_div(out, piece);
  for_pieces(m.pool, chunks * pieces, [&](int worker, std::int64_t i) {
    const std::int64_t begin = i % pieces * piece;
    out_of_rank(m, parts_[index(i / pieces)], begin, std::min(out, begin + piece), bias, y,
                floats(d_) + worker * kChunk * piece);
  });
}

void Adapters::add_look_up(const Machine& m, Weight table, std::span<const std::int32_t> chosen,
                           std::span<const std::int32_t> tokens, float* y) const {
  for_rows(m.pool, static_cast<std::int64_t>(chosen.size()), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      if (chosen[index(r)] < 0) continue;
      const PackedAdapter::Change* change = slots_[index(chosen[index(r)])]->look_up(table);
      if (change == nullptr) continue;
      const PackedAdapter::Change& c = *change;
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
