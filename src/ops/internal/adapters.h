// The adapters of a RunningExecutor, by slot: each packed once, shared by whoever holds it, with room for a step.
//
// Rows of a step are sorted by adapter once; a product then takes the rows of all adapters together in two passes over
// the threads, whatever the number of adapters.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "ops/internal/packed_weights.h"
#include "ops/low_rank.h"
#include "ops/machine.h"
#include "ops/program.h"

namespace qw::ops {

// Immutable; made by any thread.
class PackedAdapter {
 public:
  // kUsage: a change of a weight that no linear, head or look-up uses, of the wrong shape, or two of the same.
  // kResource: no memory.
  static Result<std::shared_ptr<const PackedAdapter>> create(const kernels::Kernels& kernels, const Program& program,
                                                             std::span<const PackedWeight> weights,
                                                             const LowRankAdapter& adapter);
  std::int64_t bytes() const;

 private:
  friend class Adapters;
  struct Change {
    bool table = false;
    std::int64_t in = 0, out = 0, rank = 0;
    PackedWeight a, b;              // of a product
    tensor::Buffer rows_a, rows_b;  // of a table, f32
    float scale = 1;
    std::vector<float> gain;
  };
  struct Entry {
    std::int32_t product = -1, look_up = -1;  // index in changes_
  };
  Status add(const kernels::Kernels& kernels, const Program& program, std::span<const PackedWeight> weights,
             const LowRankChange& change);
  const Change* product(Weight w) const {
    const std::int32_t i = entries_[static_cast<std::size_t>(w.id)].product;
    return i < 0 ? nullptr : &changes_[static_cast<std::size_t>(i)];
  }
  const Change* look_up(Weight w) const {
    const std::int32_t i = entries_[static_cast<std::size_t>(w.id)].look_up;
    return i < 0 ? nullptr : &changes_[static_cast<std::size_t>(i)];
  }
  std::vector<Entry> entries_;  // by weight
  std::vector<Change> changes_;
};

class Adapters {
 public:
  explicit Adapters(std::int64_t max_rows) : max_rows_(max_rows) {}

  // Puts an adapter into a slot, or takes it out (null). Between steps. kResource: no memory for what its products
  // need.
  Status set(const Machine& m, std::int32_t slot, std::shared_ptr<const PackedAdapter> adapter);
  std::int32_t slots() const { return static_cast<std::int32_t>(slots_.size()); }
  bool has(std::int32_t slot) const {
    return slot >= 0 && slot < slots() && slots_[static_cast<std::size_t>(slot)] != nullptr;
  }
  std::int64_t bytes() const;  // weights and workspaces
  std::int64_t bytes(std::int32_t slot) const {
    return has(slot) ? slots_[static_cast<std::size_t>(slot)]->bytes() : 0;
  }

  // Rows of a step, sorted by the slot of their adapter.
  struct Grouping {
    struct Chunk {                     // rows of one adapter which one thread takes together
      std::int32_t slot, first, rows;  // first: in `order`
    };
    std::vector<std::int32_t> order;
    std::vector<Chunk> chunks;
    bool empty() const { return chunks.empty(); }
  };
  // chosen[r]: the slot of row r, or -1. Allocates nothing once `out` has room for as many rows.
  void group(std::span<const std::int32_t> chosen, Grouping& out) const;

  // Adds what the rows' adapters add to y [rows, out] = W x (+ bias), x [rows, in]. What a row gets depends on its own
  // x and adapter only.
  void add_product(const Machine& m, Weight weight, const Grouping& rows, const float* x, const float* bias, float* y);
  // The same for looked-up rows y [rows, D].
  void add_look_up(const Machine& m, Weight table, std::span<const std::int32_t> chosen,
                   std::span<const std::int32_t> tokens, float* y) const;

 private:
  struct Part {  // a chunk whose adapter changes the weight at hand
    const PackedAdapter::Change* change;
    const std::int32_t* rows;
    std::int64_t count;
    std::size_t x, prepared, u, prepared_u;  // where its rows begin: floats, bytes, floats, bytes
  };
  void through_rank(const Machine& m, const Part& part, const float* x);
  void out_of_rank(const Machine& m, const Part& part, std::int64_t begin, std::int64_t end, const float* bias,
                   float* y, float* d) const;
  Status make_room(const Machine& m, const PackedAdapter& adapter);

  std::int64_t max_rows_;
  std::vector<std::shared_ptr<const PackedAdapter>> slots_;
  // Workspaces of a product: rows as they stand, prepared, through the rank, prepared again; and a piece of the output
  // for each thread.
  std::vector<Part> parts_;
  tensor::Buffer x_, prepared_, u_, prepared_u_, d_;
};

}  // namespace qw::ops
