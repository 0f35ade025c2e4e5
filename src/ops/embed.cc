#include "ops/embed.h"

#include <algorithm>

namespace qw::ops {
namespace {
// Columns of one piece of the gradient: one thread adds all rows of its columns, in order, so equal tokens never race.
// 64 floats are four cache lines, whole lines for one thread.
constexpr std::int64_t kColumnPiece = 64;
}  // namespace

void embed_forward(const Machine& m, const Matrix& table, const std::int32_t* tokens, std::int64_t rows, std::int64_t d,
                   float* y) {
  for_rows(m.pool, rows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) matrix_row(table, tokens[r], d, y + r * d);
  });
}

void embed_backward(const Machine& m, const std::int32_t* tokens, const float* dy, std::int64_t rows, std::int64_t d,
                    float* dtable) {
  m.pool.parallel_for(d, kColumnPiece, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = 0; r < rows; ++r) {
      float* to = dtable + tokens[r] * d;
      const float* from = dy + r * d;
      for (std::int64_t i = begin; i < end; ++i) to[i] += from[i];
    }
  });
}

}  // namespace qw::ops
