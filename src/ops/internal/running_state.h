// What a running executor holds between two calls, and the larger parts of its work. Of running_*.cc alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ops/experts.h"
#include "ops/internal/adapters.h"
#include "ops/internal/arena.h"
#include "ops/internal/float_buffer.h"
#include "ops/internal/index.h"
#include "ops/internal/packed_weights.h"
#include "ops/program.h"
#include "ops/running_executor.h"
#include "ops/token_index.h"

namespace qw::ops {

// Whether an op takes its rows one by one and may be put off (running_rows.cc).
bool row_by_row(OpKind kind);

// Consecutive rows of one sequence at consecutive positions.
struct Run {
  std::int32_t first, rows;
};

// Rows whose queries look at the cache.
struct Attending {
  std::vector<Run> runs;
  std::int64_t lone_rows = 0;  // runs of one row, and what they see in all, in times of the longest's
  double lone_total = 0;
};

struct RunningExecutor::State {
  Machine machine;
  Program program;
  RunningOptions options;
  std::shared_ptr<const std::vector<PackedWeight>> weights;
  Adapters adapters;
  ProductObserver* observer = nullptr;
  Adapters::Grouping adapter_rows, adapter_head_rows;  // of the step; the latter among the rows whose logits are wanted
  std::vector<std::int32_t> head_adapters;
  Arena plan;
  std::vector<int> buffers;  // arena buffer by value
  tensor::Buffer arena, head_rows, logits;
  // Prepared rows of products: several products of one value share them where their weights want the same.
  std::vector<tensor::Buffer> prepared;
  struct Preparing {
    std::int32_t into;  // of `prepared`
    bool now;           // else they are there already
  };
  std::vector<Preparing> preparing;  // by op, of products
  std::vector<std::int32_t> region;  // by op (running_rows.cc): ops of one region are done together
  // What segments leave until they are joined: of a lone row's attention by part of the kv heads and segment, or of each worker's rows
  // that see several chunks, by row and segment.
  tensor::Buffer segment_sums;
  std::int64_t worker_sums = 0;  // floats of each worker, of the second kind
  bool in_segments = false;     // the step's attention is shared out by segments
  struct Angles {
    RopeSpec spec;
    std::vector<float> frequencies;
    tensor::Buffer cos, sin;
  };
  std::vector<Angles> angles;
  std::vector<std::int32_t> prompt_rows;  // tokens of the prompt of each row's sequence, where that matters; else empty
  std::int32_t layers = 0;  // of the cache that the program uses
  // Experts: probabilities [N, E]; gate and up [A, F], outputs [A, D] of A = N k assignments; scratch of each thread.
  Routing routing;
  tensor::Buffer probabilities, gate, up, outputs, expert_scratch;
  std::size_t scratch_bytes = 0;  // of one thread
  struct ExpertPiece {            // of an expert's rows, some of the outputs
    std::int32_t expert, first, rows, cut, cuts;
  };
  std::vector<ExpertPiece> expert_pieces;
  // Layers with states: what a sequence's slot holds, and scratch of the delta rule (delta_rule.h).
  std::int64_t state_floats = 0;
  tensor::Buffer keys, gates;
  std::vector<std::pair<std::int32_t, tensor::Buffer>> conv_taps;  // weights of short convolutions [taps, C], by weight id
  struct Stretch {  // the rows of one sequence in this step
    std::int32_t first, rows, slot;
    bool fresh;  // from position 0
  };
  std::vector<Stretch> stretches;  // capacity max_rows
  // Programs with an index (running_index.cc). Its numbers are those of all attention of the program but for weights.
  struct IndexWork {
    IndexSpec spec;
    std::vector<float> frequencies;
    std::vector<std::int32_t> completing, first;  // rows of the step that complete a block, and where these blocks begin
    tensor::Buffer cos, sin, means;               // of these
    std::vector<std::int32_t> choosing;           // rows that do not see everything
    std::int64_t most_scores = 0, rows_at_once = 0;
    tensor::Buffer scores, order;                 // [rows_at_once, most_scores]; [workers, most_scores]
    std::vector<std::int32_t> chosen;             // [choosing, blocks]
    std::int64_t head_dim = 0, half = 0;                        // bytes of a worker's gathered keys, or values
    tensor::Buffer gathered;                      // [workers, 2, half]
    std::vector<std::int32_t> gathered_blocks;    // 0, 1, 2, ..
    std::vector<kernels::CacheRun> runs;          // [workers, blocks + 1]
    std::int64_t bytes() const;
  };
  IndexWork index_work;
  // The step in progress.
  StepBatch batch;
  std::vector<std::int32_t> placed;  // the sequences' tables one after the other, as kernels count blocks
  std::vector<std::size_t> placed_at;
  std::int64_t rows = 0;
  std::int32_t furthest = 0;         // position of the step
  Attending every, going;            // all rows of the step; those that go on behind the last attention
  std::size_t cursor = 0;            // next op of the program
  std::size_t performed = 0;         // of those before it, which are done: the others wait for finish_rows
  base::ThreadPool lone_thread{1};
  bool done = false;
  // Rows that end early (running_last_rows.cc).
  std::size_t tail = 0;                 // op from which on a row is alone, to the end
  std::vector<std::int32_t> crossing;   // values from before it that are read from there on, each place once
  std::vector<std::int32_t> going_on;   // rows that do, ascending; only where some do not
  std::vector<std::int32_t> going_adapters;
  bool narrows = false, narrowed = false;  // some rows of the step end early; and have: `rows` counts the others now

  State(Program p, std::shared_ptr<const std::vector<PackedWeight>> w, const RunningOptions& o, const Machine& m)
      : machine(m), program(std::move(p)), options(o), weights(std::move(w)),
        adapters(std::max(o.max_rows, o.max_logit_rows)) {
    head_adapters.reserve(index(options.max_logit_rows));
    for (auto [grouping, n] : {std::pair(&adapter_rows, o.max_rows), std::pair(&adapter_head_rows, o.max_logit_rows)}) {
      grouping->order.reserve(index(n));
      grouping->chunks.reserve(index(n));
    }
    plan_regions();
    place_values();
    take_workspaces();
    plan_tail();
    plan_preparing();
    every.runs.reserve(index(options.max_rows));
  }

  const Op& head_op() const { return program.ops.back(); }
  std::int64_t row_width() const { return head_op().weight.present() ? weight(head_op().weight).out : head_op().in[0].width; }
  const PackedWeight& weight(Weight w) const { return (*weights)[index(w.id)]; }
  const float* vector(Weight w) const { return w.present() ? weight(w).vector() : nullptr; }
  float* value(Value v) const { return reinterpret_cast<float*>(arena.data() + plan.offset(buffers[index(v.id)])); }

  void place_values();
  void take_workspaces();
  Status check(const StepBatch& b) const;
  Status check_logit_rows(std::span<const std::int32_t> wanted, std::int64_t n) const;
  void group_head_rows();
  void give_logits(Value x, Weight w);
  Status check_rows(const StepBatch& b) const;
  Status find_stretches(const StepBatch& b);
  Status claim_slot(const StepBatch& b, std::size_t first_row);
  void run_delta_rule(const Op& op);
  // No row of the step sees another chunk than its own: nobody reads what is turned for those.
  bool unseen(const RopeSpec& spec) const { return spec.view != ChunkView::kOwn && furthest < spec.chunk; }
  void turn_all();
  void plan_tail();
  void find_going_on();
  void narrow();
  bool is_there(std::int32_t row) const { return !narrowed || std::binary_search(going_on.begin(), going_on.end(), row); }
  std::int64_t place_of(std::int32_t row) const;  // where row `row` of the step is by now
  void find_runs();
  const Op& next(OpKind kind);
  const Op& now(OpKind kind);
  void plan_regions();
  void plan_preparing();
  void finish_rows(std::size_t upto, std::span<const Op> products = {}, const Op* cached = nullptr);
  void perform_rows(const Op& op, std::int64_t begin, std::int64_t end);
  bool are_gated(std::size_t first, std::size_t n) const;
  void multiply(std::size_t first, std::size_t n);
  void place_tables();
  const std::int32_t* blocks_of(std::int64_t row) const { return placed.data() + placed_at[index(batch.sequences[index(row)])]; }
  void write_cache(const Op& op, std::int64_t begin, std::int64_t end);
  void plan_experts(const Op& op);
  void run_experts(const Op& op);
  void show_experts_in(const Op& op);
  void show_experts_out(const Op& op);
  void plan_pieces(std::int32_t experts);
  void expert_in(const Op& op, const ExpertPiece& piece, std::byte* scratch);
  void expert_out(const Op& op, const ExpertPiece& piece, std::byte* scratch);
  kernels::AttentionDecodeArgs attention_args(const Op& op, const Run& run, std::int64_t kv_head, std::int64_t n) const;
  void attend(const Op& op, const Run& run, std::int64_t kv_head, std::int64_t n);  // kv heads [kv_head, kv_head + n)
  void attend_in_segments(const Op& op, const Run& run);
  kernels::AttentionDecodeArgs segment_args(const Op& op, std::int32_t row, std::int64_t kv_head, std::int64_t segment, std::int64_t n) const;
  void attend_chunks(const Op& op, const Run& run, std::int64_t kv_head, int worker);
  void plan_chunks(const Op& op);
  void plan_lone(Attending& a) const;
  void plan_segments();
  void attend_all(const Op& op);
  void take_index_workspace(const Op& op);
  void plan_index();
  IndexedCache indexed_cache(const Op& op, std::int32_t row) const;
  void write_index(const Op& op);
  void choose_blocks(const Op& op);
  void attend_chosen(const Op& op, std::int64_t i, std::int64_t kv_head, int worker);
  void attend_indexed(const Op& op);
};

}  // namespace qw::ops
