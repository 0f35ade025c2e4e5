// The adapters of a RunningExecutor: packed, with room for a step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "ops/internal/packed_weights.h"
#include "ops/low_rank.h"
#include "ops/machine.h"
#include "ops/program.h"

namespace qw::ops {

class Adapters {
 public:
  // kUsage: a change of a weight that no linear, head or look-up uses, of the wrong shape, or two of the same.
  static Result<Adapters> create(const Machine& m, const Program& program, std::span<const PackedWeight> weights,
                                 std::span<const LowRankAdapter> adapters, std::int64_t max_rows);

  std::int32_t count() const { return static_cast<std::int32_t>(table_.size()); }
  std::int64_t bytes() const;  // weights and workspaces

  // Adds what the rows' adapters add to y [rows, out] = W x (+ bias), x [rows, in]. `chosen[r]` is row r's adapter or -1;
  // `rows` is how many there are. What a row gets depends on its own x and adapter only.
  void add_product(const Machine& m, Weight weight, std::span<const std::int32_t> chosen, const float* x,
                   const float* bias, float* y);
  // The same for looked-up rows y [rows, D].
  void add_look_up(const Machine& m, Weight table, std::span<const std::int32_t> chosen,
                   std::span<const std::int32_t> tokens, float* y) const;

 private:
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
  Status add(const Machine& m, const Program& program, std::span<const PackedWeight> weights, const LowRankChange& change,
             std::vector<Entry>& entries);
  void apply(const Machine& m, const Change& c, const float* x, const float* bias, float* y);

  std::vector<std::vector<Entry>> table_;  // [adapter][weight]
  std::vector<Change> changes_;
  // Workspaces of a product: the rows of one adapter together, prepared, through the rank, and out.
  std::vector<std::int32_t> rows_;
  tensor::Buffer x_, prepared_, u_, prepared_u_, d_;
};

}  // namespace qw::ops
