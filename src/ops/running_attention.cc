// How the running executor cuts attention over the cache into pieces.
#include <algorithm>

#include "ops/internal/running_state.h"

namespace qw::ops {

// Block numbers of all sequences as kernels count them, which know of one layer's blocks only.
void RunningExecutor::State::place_tables() {
  std::size_t blocks = 0;
  for (const auto& table : batch.tables) blocks += table.size();
  // Steps of growing sequences must not allocate: what is made has room for many more.
  if (placed.capacity() < blocks) placed.reserve(std::max<std::size_t>(4 * blocks, 4096));
  if (placed_at.capacity() < batch.tables.size()) placed_at.reserve(std::max<std::size_t>(4 * batch.tables.size(), 64));
  placed.clear();
  placed_at.clear();
  for (const auto& table : batch.tables) {
    placed_at.push_back(placed.size());
    for (const std::int32_t block : table) placed.push_back(block * batch.cache->block_step);
  }
}

// Keys and values of rows [begin, end).
void RunningExecutor::State::write_cache(const Op& op, std::int64_t begin, std::int64_t end) {
  const AttentionSpec& s = op.attention;
  const CacheView& cache = *batch.cache;
  const std::int64_t width = std::int64_t{s.kv_heads} * s.head_dim;
  for (std::int64_t r = begin; r < end; ++r) {
    const std::int32_t p = batch.positions[index(r)];
    const std::int32_t block = blocks_of(r)[p / cache.block_tokens];
    const auto write = [&](kernels::CachePart part, const float* kv, std::byte* pool) {
      machine.kernels.cache_write(cache.type, part, kv + r * width, s.kv_heads, s.head_dim, cache.block_tokens, block,
                                  p % cache.block_tokens, pool);
    };
    write(kernels::CachePart::kKeys, value(op.in[1]), cache.keys[index(s.layer)]);
    write(kernels::CachePart::kValues, value(op.in[2]), cache.values[index(s.layer)]);
  }
}

kernels::AttentionDecodeArgs RunningExecutor::State::attention_args(const Op& op, const Run& run, std::int64_t kv_head) const {
  const AttentionSpec& s = op.attention;
  const CacheView& cache = *batch.cache;
  const std::int64_t width = std::int64_t{s.heads} * s.head_dim;
  return {.type = cache.type,
          .heads = s.heads,
          .kv_heads = s.kv_heads,
          .head_dim = s.head_dim,
          .scale = s.scale,
          .window = s.window,
          .q = value(op.in[0]) + run.first * width,
          .o = value(op.out) + run.first * width,
          .n_keys = batch.positions[index(run.first)] + 1,
          .block_tokens = cache.block_tokens,
          .blocks = blocks_of(run.first),
          .k_pool = cache.keys[index(s.layer)],
          .v_pool = cache.values[index(s.layer)],
          .head_begin = kv_head,
          .head_end = kv_head + 1};
}

void RunningExecutor::State::attend(const Op& op, const Run& run, std::int64_t kv_head) {
  const kernels::AttentionDecodeArgs first = attention_args(op, run, kv_head);
  const std::int64_t width = std::int64_t{op.attention.heads} * op.attention.head_dim;
  if (run.rows == 1) {
    machine.kernels.attention_decode(first);
  } else {
    machine.kernels.attention_prefill({.first = first, .rows = run.rows, .ldq = width, .ldo = width});
  }
}

static_assert(kChunkUnit % kernels::kAttentionSegment == 0);

// A row's attention to one segment, which lies in one chunk: its query is the one that looks there.
kernels::AttentionDecodeArgs RunningExecutor::State::segment_args(const Op& op, std::int32_t row, std::int64_t kv_head,
                                                                  std::int64_t segment) const {
  kernels::AttentionDecodeArgs args = attention_args(op, {row, 1}, kv_head);
  if (const std::int64_t chunk = op.attention.chunk; chunk > 0) {
    const std::int64_t back = batch.positions[index(row)] / chunk - segment * kernels::kAttentionSegment / chunk;
    if (back > 0) args.q += value(op.in[back == 1 ? 3 : 4]) - value(op.in[0]);
  }
  return args;
}

// Rows that are taken together where they see several chunks: a segment's keys then come from a near cache for all but the
// first. What they leave grows with them: 17 MB of a worker for a group of seven heads of 128 behind a million tokens.
constexpr std::int64_t kChunkedRows = 4;

// Consecutive rows of a sequence, of which the first sees one chunk or all see several.
void RunningExecutor::State::attend_chunks(const Op& op, const Run& run, std::int64_t kv_head, int worker) {
  const std::int32_t position = batch.positions[index(run.first)];
  const auto within = static_cast<std::int32_t>(std::clamp<std::int64_t>(op.attention.chunk - position, 0, run.rows));
  if (within > 0) attend(op, {run.first, within}, kv_head);
  for (std::int32_t at = within; at < run.rows; at += kChunkedRows) {
    const std::int32_t first = run.first + at, n = std::min<std::int32_t>(kChunkedRows, run.rows - at);
    const kernels::AttentionDecodeArgs last = attention_args(op, {first + n - 1, 1}, kv_head);
    const std::int64_t segments = kernels::attention_segments(last.n_keys, 0).end;
    const std::int64_t size = machine.kernels.attention_partial_floats(last);
    float* sums = floats(segment_sums) + worker * worker_sums;
    const auto partials = [&](std::int32_t r) { return sums + (r - first) * segments * size; };
    for (std::int64_t s = 0; s < segments; ++s)
      for (std::int32_t r = first; r < first + n; ++r)
        if (s * kernels::kAttentionSegment <= batch.positions[index(r)])
          machine.kernels.attention_segment(segment_args(op, r, kv_head, s), s, partials(r) + s * size);
    for (std::int32_t r = first; r < first + n; ++r)
      machine.kernels.attention_join(attention_args(op, {r, 1}, kv_head), partials(r));
  }
}

// Makes room for what a step's rows that see several chunks leave.
void RunningExecutor::State::plan_chunks(const Op& op) {
  const kernels::AttentionDecodeArgs args = attention_args(op, {0, 1}, 0);
  const std::int64_t segments = kernels::attention_segments(std::int64_t{furthest} + 1, 0).end;
  worker_sums = kChunkedRows * segments * machine.kernels.attention_partial_floats(args);
  const std::int64_t need = machine.pool.size() * worker_sums;
  if (segment_sums.size() < index(need) * sizeof(float)) segment_sums = float_buffer(need + need / 4);
}

// One row with a long context, shared out by segments: the same bytes as attend gives.
void RunningExecutor::State::attend_in_segments(const Op& op, const Run& run) {
  const kernels::AttentionDecodeArgs args = attention_args(op, run, 0);
  const kernels::AttentionSegments segments = kernels::attention_segments(args.n_keys, args.window);
  const std::int64_t n = segments.end - segments.begin, kv_heads = op.attention.kv_heads;
  const std::int64_t size = machine.kernels.attention_partial_floats(args);
  const auto partials = [&](std::int64_t head) { return floats(segment_sums) + head * n * size; };
  for_pieces(machine.pool, kv_heads * n, [&](int, std::int64_t piece) {
    const std::int64_t head = piece / n, s = piece % n;
    machine.kernels.attention_segment(segment_args(op, run.first, head, segments.begin + s), segments.begin + s, partials(head) + s * size);
  });
  for (std::int64_t head = 0; head < kv_heads; ++head)
    machine.kernels.attention_join(attention_args(op, run, head), partials(head));
}

// A lone row gives one piece for each kv head. Where those do not share out evenly, its segments do; makes room for what
// these leave, which a longer context than any before makes larger.
void RunningExecutor::State::plan_segments() {
  in_segments = false;
  for (const Op& op : program.ops)
    if (op.kind == OpKind::kAttention && op.attention.chunk > 0 && furthest >= op.attention.chunk) {
      plan_chunks(op);
      break;  // all layers are alike
    }
  if (layers == 0 || runs.size() != 1 || runs[0].rows != 1 || machine.pool.size() == 1) return;
  for (const Op& op : program.ops) {
    if (op.kind != OpKind::kAttention) continue;
    const std::int64_t pieces = op.attention.kv_heads;
    if (pieces % machine.pool.size() == 0 || pieces >= 4 * machine.pool.size()) return;
    const kernels::AttentionDecodeArgs args = attention_args(op, runs[0], 0);
    const kernels::AttentionSegments segments = kernels::attention_segments(args.n_keys, 0);
    if (segments.end < 2) return;
    const std::int64_t need = pieces * segments.end * machine.kernels.attention_partial_floats(args);
    if (segment_sums.size() < index(need) * sizeof(float)) segment_sums = float_buffer(2 * need);
    in_segments = true;
  }
}

void RunningExecutor::State::attend_all(const Op& op) {
  if (in_segments) return attend_in_segments(op, runs[0]);
  // All runs of a prompt read a kv head's keys and values: taken one head after the other, these stay in a near cache.
  const auto n = static_cast<std::int64_t>(runs.size());
  for_pieces(machine.pool, n * op.attention.kv_heads, [&](int worker, std::int64_t piece) {
    const Run& run = runs[index(piece % n)];
    if (op.attention.chunk > 0) attend_chunks(op, run, piece / n, worker);
    else attend(op, run, piece / n);
  });
}

}  // namespace qw::ops
