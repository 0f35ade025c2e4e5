// How the running executor cuts attention over the cache into pieces.
#include <algorithm>
#include <cstdint>

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

kernels::AttentionDecodeArgs RunningExecutor::State::attention_args(const Op& op, const Run& run, std::int64_t kv_head,
                                                                    std::int64_t n) const {
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
          .head_end = kv_head + n};
}

namespace {

// How kv heads share out lone rows' attention. Heads that go together are read from memory forward: by one thread, 16 KB here
// and there come with 12.2 GB/s, half of all heads with 14.8 and all with 17.0; but threads want even shares. Of `count`
// pieces (rows, or segments of one) of all heads, `total` long and the longest 1: how many parts of each take least.
std::int64_t head_parts(std::int64_t kv_heads, std::int64_t count, double total, int threads) {
  if (threads == 1) return 1;
  std::int64_t best = 1;
  double least = 0;
  for (std::int64_t parts = 1; parts <= kv_heads; ++parts) {
    if (kv_heads % parts != 0) continue;
    const double each = 1.0 / static_cast<double>(parts), rounds = static_cast<double>(ceil_div(count * parts, threads));
    // The last thread to end takes at most its share and one piece more, and at most the longest piece every time.
    const double ends = std::min(total / threads + each * (1 - 1.0 / threads), rounds * each);
    const double takes = ends * (1 + 0.3 * (1 - each));
    if (parts == 1 || takes < least) best = parts, least = takes;
  }
  return best;
}

}  // namespace

void RunningExecutor::State::attend(const Op& op, const Run& run, std::int64_t kv_head, std::int64_t n) {
  const kernels::AttentionDecodeArgs first = attention_args(op, run, kv_head, n);
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
                                                                  std::int64_t segment, std::int64_t n) const {
  kernels::AttentionDecodeArgs args = attention_args(op, {row, 1}, kv_head, n);
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
  if (within > 0) attend(op, {run.first, within}, kv_head, 1);
  for (std::int32_t at = within; at < run.rows; at += kChunkedRows) {
    const std::int32_t first = run.first + at, n = std::min<std::int32_t>(kChunkedRows, run.rows - at);
    const kernels::AttentionDecodeArgs last = attention_args(op, {first + n - 1, 1}, kv_head, 1);
    const std::int64_t segments = kernels::attention_segments(last.n_keys, 0).end;
    const std::int64_t size = machine.kernels.attention_partial_floats(last);
    float* sums = floats(segment_sums) + worker * worker_sums;
    const auto partials = [&](std::int32_t r) { return sums + (r - first) * segments * size; };
    for (std::int64_t s = 0; s < segments; ++s)
      for (std::int32_t r = first; r < first + n; ++r)
        if (s * kernels::kAttentionSegment <= batch.positions[index(r)])
          machine.kernels.attention_segment(segment_args(op, r, kv_head, s, 1), s, partials(r) + s * size);
    for (std::int32_t r = first; r < first + n; ++r)
      machine.kernels.attention_join(attention_args(op, {r, 1}, kv_head, 1), partials(r));
  }
}

// Makes room for what a step's rows that see several chunks leave.
void RunningExecutor::State::plan_chunks(const Op& op) {
  const kernels::AttentionDecodeArgs args = attention_args(op, {0, 1}, 0, 1);
  const std::int64_t segments = kernels::attention_segments(std::int64_t{furthest} + 1, 0).end;
  worker_sums = kChunkedRows * segments * machine.kernels.attention_partial_floats(args);
  const std::int64_t need = machine.pool.size() * worker_sums;
  if (segment_sums.size() < index(need) * sizeof(float)) segment_sums = float_buffer(need + need / 4);
}

// One row with a long context, shared out by segments: the same bytes as attend gives.
void RunningExecutor::State::attend_in_segments(const Op& op, const Run& run) {
  const std::int64_t kv_heads = op.attention.kv_heads, n_keys = batch.positions[index(run.first)] + 1;
  const kernels::AttentionSegments segments = kernels::attention_segments(n_keys, op.attention.window);
  const std::int64_t n = segments.end - segments.begin;
  const double length = static_cast<double>(n_keys) / kernels::kAttentionSegment - static_cast<double>(segments.begin);
  const std::int64_t count = std::max<std::int64_t>(1, static_cast<std::int64_t>(length + 0.75));  // a short last one hardly counts
  const std::int64_t parts = head_parts(kv_heads, count, length, machine.pool.size()), heads = kv_heads / parts;
  const std::int64_t size = machine.kernels.attention_partial_floats(attention_args(op, run, 0, heads));
  const auto partials = [&](std::int64_t part) { return floats(segment_sums) + part * n * size; };
  for_pieces(machine.pool, parts * n, [&](int, std::int64_t piece) {
    const std::int64_t part = piece / n, s = segments.begin + piece % n;
    machine.kernels.attention_segment(segment_args(op, run.first, part * heads, s, heads), s, partials(part) + piece % n * size);
  });
  for (std::int64_t part = 0; part < parts; ++part)
    machine.kernels.attention_join(attention_args(op, run, part * heads, heads), partials(part));
}

void RunningExecutor::State::plan_lone(Attending& a) const {
  a.lone_rows = 0, a.lone_total = 0;
  std::int64_t longest = 0, all = 0;
  for (const Run& run : a.runs) {
    if (run.rows != 1) continue;
    const std::int64_t seen = batch.positions[index(run.first)] + 1;
    ++a.lone_rows, all += seen, longest = std::max(longest, seen);
  }
  if (longest > 0) a.lone_total = static_cast<double>(all) / static_cast<double>(longest);
}

// A lone row is shared out by segments where it sees several; makes room for what these leave, which a longer context than
// any before makes larger. Rows of many sequences go as wholes, or as few parts.
void RunningExecutor::State::plan_segments() {
  in_segments = false;
  for (const Op& op : program.ops)
    if (op.kind == OpKind::kAttention && op.attention.chunk > 0 && furthest >= op.attention.chunk) {
      plan_chunks(op);
      break;  // all layers are alike
    }
  plan_lone(every);
  plan_lone(going);
  if (layers == 0 || every.runs.size() != 1 || every.runs[0].rows != 1 || machine.pool.size() == 1) return;
  for (const Op& op : program.ops) {
    if (op.kind != OpKind::kAttention) continue;
    const std::int64_t pieces = op.attention.kv_heads;
    const kernels::AttentionDecodeArgs args = attention_args(op, every.runs[0], 0, 1);
    const kernels::AttentionSegments segments = kernels::attention_segments(args.n_keys, 0);
    if (segments.end < 2) return;
    const std::int64_t need = pieces * segments.end * machine.kernels.attention_partial_floats(args);
    if (segment_sums.size() < index(need) * sizeof(float)) segment_sums = float_buffer(2 * need);
    in_segments = true;
  }
}

void RunningExecutor::State::attend_all(const Op& op) {
  const Attending& a = narrows && &op == &program.ops[tail - 1] ? going : every;
  if (a.runs.empty()) return;
  if (in_segments) return attend_in_segments(op, a.runs[0]);
  // All runs of a prompt read a kv head's keys and values: taken one head after the other, these stay in a near cache. Those of
  // lone rows nobody else reads.
  const auto n = static_cast<std::int64_t>(a.runs.size());
  const std::int64_t heads = op.attention.kv_heads / head_parts(op.attention.kv_heads, a.lone_rows, a.lone_total, machine.pool.size());
  for_pieces(machine.pool, n * op.attention.kv_heads, [&](int worker, std::int64_t piece) {
    const Run& run = a.runs[index(piece % n)];
    const std::int64_t head = piece / n;
    if (op.attention.chunk > 0) return attend_chunks(op, run, head, worker);
    if (run.rows > 1) return attend(op, run, head, 1);
    if (head % heads == 0) attend(op, run, head, heads);
  });
}

}  // namespace qw::ops
