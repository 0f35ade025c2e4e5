// How the running executor lets attention see what an index chooses (token_index.h). Rows that see everything go the way of all
// attention; each of the others has what it sees gathered, and attends to that.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "ops/internal/running_state.h"
#include "ops/rope.h"

namespace qw::ops {
namespace {

constexpr std::int64_t kScorePiece = 1024;  // blocks that one piece of work scores

}  // namespace

void RunningExecutor::State::take_index_workspace(const Op& op) {
  if (index_work.spec.ratio > 0) {
    QW_CHECK(op.index.dim == index_work.spec.dim && op.index.ratio == index_work.spec.ratio && op.index.blocks == index_work.spec.blocks &&
             op.attention.head_dim == index_work.head_dim);
    return;
  }
  IndexWork& w = index_work;
  w.spec = op.index;
  w.head_dim = op.attention.head_dim;
  w.frequencies = rope_frequencies(w.spec.rope);
  w.completing.reserve(index(options.max_rows));
  w.first.reserve(index(options.max_rows));
  w.choosing.reserve(index(options.max_rows));
  w.cos = float_buffer(options.max_rows * (w.spec.rope.rotary / 2));
  w.sin = float_buffer(options.max_rows * (w.spec.rope.rotary / 2));
  w.means = float_buffer(options.max_rows * w.spec.dim);
  w.scores = float_buffer(kIndexScores);
  w.order = float_buffer(machine.pool.size() * kIndexScores);
  w.chosen.resize(index(options.max_rows * w.spec.blocks));
  const std::int64_t tokens = w.spec.all_seen() + kMaxIndexedBlock;
  w.half = static_cast<std::int64_t>(align64(index(tokens * op.attention.head_dim) * sizeof(float)));  // as wide as elements can be
  w.gathered = tensor::Buffer(index(2 * w.half * machine.pool.size()));
  w.gathered_blocks.resize(index(tokens));
  std::iota(w.gathered_blocks.begin(), w.gathered_blocks.end(), 0);
  w.runs.resize(index(std::int64_t{machine.pool.size()} * (w.spec.blocks + 1)));
}

std::int64_t RunningExecutor::State::IndexWork::bytes() const {
  std::size_t sum = chosen.size() * sizeof(chosen[0]) + runs.size() * sizeof(runs[0]);
  for (const tensor::Buffer* b : {&cos, &sin, &means, &scores, &order, &gathered}) sum += b->size();
  return static_cast<std::int64_t>(sum);
}

// Finds the rows that complete a block and those that do not see everything; a longer context than any before may make room for more
// scores.
void RunningExecutor::State::plan_index() {
  IndexWork& w = index_work;
  if (w.spec.ratio == 0) return;
  w.completing.clear();
  w.first.clear();
  w.choosing.clear();
  std::int64_t most = 0;
  for (std::int32_t r = 0; r < rows; ++r) {
    const std::int64_t tokens = batch.positions[index(r)] + 1;
    if (tokens % w.spec.ratio == 0) {
      w.completing.push_back(r);
      w.first.push_back(static_cast<std::int32_t>(tokens - w.spec.ratio));
    }
    if (tokens <= w.spec.all_seen()) continue;
    w.choosing.push_back(r);
    most = std::max(most, tokens / w.spec.ratio);
  }
  rope_angles(machine, w.spec.rope, w.frequencies, w.first.data(), nullptr, static_cast<std::int64_t>(w.first.size()), floats(w.cos), floats(w.sin));
  if (w.choosing.empty()) return;
  w.most_scores = most;
  w.rows_at_once = std::clamp<std::int64_t>(kIndexScores / most, 1, static_cast<std::int64_t>(w.choosing.size()));
  const auto grow = [](tensor::Buffer& b, std::int64_t n) {
    if (b.size() < index(n) * sizeof(float)) b = float_buffer(n + n / 2);
  };
  grow(w.scores, w.rows_at_once * most);
  grow(w.order, machine.pool.size() * most);
}

IndexedCache RunningExecutor::State::indexed_cache(const Op& op, std::int32_t row) const {
  return {.data = batch.cache->index[index(op.attention.layer)],
          .dim = op.index.dim,
          .ratio = op.index.ratio,
          .block_tokens = batch.cache->block_tokens,
          .blocks = batch.tables[index(batch.sequences[index(row)])]};
}

// Puts the rows' keys, and those of the blocks they complete, into the cache.
void RunningExecutor::State::write_index(const Op& op) {
  const std::int64_t dim = op.index.dim, ratio = op.index.ratio;
  IndexWork& w = index_work;
  const float* token_keys = value(op.in[4]);
  machine.pool.parallel_for(rows, kRowPiece, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      std::memcpy(indexed_cache(op, static_cast<std::int32_t>(r)).token(batch.positions[index(r)]), token_keys + r * dim, index(dim) * sizeof(float));
  });
  const auto n = static_cast<std::int64_t>(w.completing.size());
  const auto of_completing = [&](auto body) {
    machine.pool.parallel_for(n, kRowPiece, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i)
        body(indexed_cache(op, w.completing[index(i)]), std::int64_t{w.first[index(i)]}, floats(w.means) + i * dim);
    });
  };
  of_completing([&](const IndexedCache& cache, std::int64_t first, float* mean) {
    std::fill(mean, mean + dim, 0.0f);
    for (std::int64_t t = 0; t < ratio; ++t)
      for (std::int64_t i = 0; i < dim; ++i) mean[i] += cache.token(first + t)[i];
    for (std::int64_t i = 0; i < dim; ++i) mean[i] /= static_cast<float>(ratio);
  });
  index_keys(machine, op.index, vector(op.index.key_norm), floats(w.cos), floats(w.sin), n, floats(w.means));
  of_completing([&](const IndexedCache& cache, std::int64_t first, const float* key) {
    std::memcpy(cache.block(first / ratio), key, index(dim) * sizeof(float));
  });
}

// Chooses for the rows that do not see everything, a few of them at a time.
void RunningExecutor::State::choose_blocks(const Op& op) {
  IndexWork& w = index_work;
  const std::int64_t width = std::int64_t{op.index.heads} * op.index.dim, pieces = ceil_div(w.most_scores, kScorePiece);
  const auto count = static_cast<std::int64_t>(w.choosing.size());
  for (std::int64_t from = 0; from < count; from += w.rows_at_once) {
    const std::int64_t n = std::min(w.rows_at_once, count - from);
    const auto blocks_of = [&](std::int64_t i) { return (batch.positions[index(w.choosing[index(from + i)])] + 1) / op.index.ratio; };
    for_pieces(machine.pool, n * pieces, [&](int, std::int64_t piece) {
      const std::int64_t i = piece / pieces, begin = piece % pieces * kScorePiece, end = std::min<std::int64_t>(begin + kScorePiece, blocks_of(i));
      const std::int32_t row = w.choosing[index(from + i)];
      const IndexedCache cache = indexed_cache(op, row);
      const float* q = value(op.in[3]) + row * width;
      for (std::int64_t b = begin; b < end; ++b) floats(w.scores)[i * w.most_scores + b] = index_score(op.index, q, cache.block(b));
    });
    for_pieces(machine.pool, n, [&](int worker, std::int64_t i) {
      auto* const order = reinterpret_cast<std::int32_t*>(w.order.data()) + worker * w.most_scores;
      best_blocks(floats(w.scores) + i * w.most_scores, blocks_of(i), op.index.blocks, order, w.chosen.data() + (from + i) * op.index.blocks);
    });
  }
}

// Row choosing[i] and kv head: what the row sees is gathered, and is then all there is.
void RunningExecutor::State::attend_chosen(const Op& op, std::int64_t i, std::int64_t kv_head, int worker) {
  IndexWork& w = index_work;
  const AttentionSpec& s = op.attention;
  kernels::AttentionDecodeArgs a = attention_args(op, {w.choosing[index(i)], 1}, kv_head, 1);
  kernels::CacheRun* const seen = w.runs.data() + std::int64_t{worker} * (op.index.blocks + 1);
  const std::int64_t n = visible_runs(op.index, w.chosen.data() + i * op.index.blocks, a.n_keys, seen);
  std::byte* const k = w.gathered.data() + 2 * w.half * worker;
  std::byte* const v = k + w.half;
  kernels::CacheGatherArgs g{a.type, kernels::CachePart::kKeys, a.kv_heads, a.head_dim, a.block_tokens, a.blocks, a.k_pool, kv_head, seen, n, k};
  machine.kernels.cache_gather(g);
  g.part = kernels::CachePart::kValues;
  g.pool = a.v_pool;
  g.to = v;
  machine.kernels.cache_gather(g);
  const std::int64_t group = s.heads / s.kv_heads;
  a.n_keys = std::int64_t{op.index.blocks} * op.index.ratio + a.n_keys % op.index.ratio;
  a.q += kv_head * group * s.head_dim;
  a.o += kv_head * group * s.head_dim;
  a.heads = group;
  a.kv_heads = 1;
  a.head_begin = 0;
  a.head_end = 1;
  a.blocks = w.gathered_blocks.data();
  a.k_pool = k;
  a.v_pool = v;
  machine.kernels.attention_decode(a);
}

void RunningExecutor::State::attend_indexed(const Op& op) {
  IndexWork& w = index_work;
  write_index(op);
  if (w.choosing.empty()) return attend_all(op);
  choose_blocks(op);
  const auto n_runs = static_cast<std::int64_t>(every.runs.size()), choosing = static_cast<std::int64_t>(w.choosing.size());
  for_pieces(machine.pool, (n_runs + choosing) * op.attention.kv_heads, [&](int worker, std::int64_t piece) {
    const std::int64_t i = piece % (n_runs + choosing), head = piece / (n_runs + choosing);
    if (i >= n_runs) return attend_chosen(op, i - n_runs, head, worker);
    Run run = every.runs[index(i)];
    const std::int64_t all = op.index.all_seen() - batch.positions[index(run.first)];  // of its rows, how many see everything
    run.rows = static_cast<std::int32_t>(std::min<std::int64_t>(run.rows, all));
    if (run.rows > 0) attend(op, run, head, 1);
  });
}

}  // namespace qw::ops
