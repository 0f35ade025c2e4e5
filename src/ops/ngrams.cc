#include "ops/ngrams.h"

#include <algorithm>
#include <cstring>

#include "ops/internal/index.h"

namespace qw::ops {

void ngram_rows(const NgramSpec& spec, std::span<const std::int32_t> before, std::span<std::int64_t> rows) {
  std::uint64_t mixed = 0;
  bool ended = false;
  for (std::int32_t j = 0; j < spec.size; ++j) {
    ended = ended || before[index(j)] < 0 || (j > 0 && before[index(j)] == spec.end_of_text);
    const auto token = static_cast<std::uint64_t>(ended ? spec.end_of_text : before[index(j)]);
    mixed ^= token * spec.factors[index(j)];
    if (j == 0) continue;
    for (std::int32_t i = 0; i < spec.heads_each; ++i) {
      const auto h = index((j - 1) * spec.heads_each + i);
      rows[h] = static_cast<std::int64_t>(mixed % static_cast<std::uint64_t>(spec.sizes[h])) + spec.offsets[h];
    }
  }
}

void ngrams_advance(const NgramSpec& spec, std::span<const std::int32_t> tokens, bool fresh, float* history) {
  const std::int64_t kept = spec.size - 1, n = std::min<std::int64_t>(kept, static_cast<std::int64_t>(tokens.size()));
  if (fresh) std::fill(history, history + kept, -1.0f);
  std::memmove(history, history + n, index(kept - n) * sizeof(float));
  for (std::int64_t i = 0; i < n; ++i)
    history[kept - n + i] = static_cast<float>(tokens[tokens.size() - index(n - i)]);
}

void ngrams_forward(const Machine& m, const NgramTraining& t) {
  const NgramSpec& s = *t.spec;
  const std::int64_t width = std::int64_t{s.heads()} * s.dim;
  for (std::size_t d = 0; d + 1 < t.cu_seqlens.size(); ++d) {
    const std::int64_t first = t.cu_seqlens[d], n = t.cu_seqlens[d + 1] - first;
    for_rows(m.pool, n, [&](std::int64_t begin, std::int64_t end) {
      for_ngrams(s, t.tokens.subspan(index(first), index(n)), nullptr, begin, end, [&](std::int64_t r, std::int32_t h, std::int64_t row) {
        std::memcpy(t.y + (first + r) * width + std::int64_t{h} * s.dim, t.tables[index(row / s.rows_each)] + row % s.rows_each * s.dim,
                    index(s.dim) * sizeof(float));
      });
    });
  }
}

// Heads have rows of their own, so each is one thread's.
void ngrams_backward(const Machine& m, const NgramTraining& t) {
  const NgramSpec& s = *t.spec;
  const std::int64_t width = std::int64_t{s.heads()} * s.dim;
  for_pieces(m.pool, s.heads(), [&](int, std::int64_t head) {
    for (std::size_t d = 0; d + 1 < t.cu_seqlens.size(); ++d) {
      const std::int64_t first = t.cu_seqlens[d], n = t.cu_seqlens[d + 1] - first;
      for_ngrams(s, t.tokens.subspan(index(first), index(n)), nullptr, 0, n, [&](std::int64_t r, std::int32_t h, std::int64_t row) {
        float* table = t.dtables[index(row / s.rows_each)];
        if (h != head || table == nullptr) return;
        float* to = table + row % s.rows_each * s.dim;
        const float* from = t.dy + (first + r) * width + std::int64_t{h} * s.dim;
        for (std::int32_t i = 0; i < s.dim; ++i) to[i] += from[i];
      });
    }
  });
}

}  // namespace qw::ops
