// Embedding look-up and its gradient.
#pragma once

#include <cstdint>

#include "ops/gemm.h"

namespace qw::ops {

// y[r] = table[tokens[r]]; table is [V, D].
void embed_forward(const Machine& m, const Matrix& table, const std::int32_t* tokens, std::int64_t rows, std::int64_t d,
                   float* y);
// dtable[tokens[r]] += dy[r], rows in order.
void embed_backward(const Machine& m, const std::int32_t* tokens, const float* dy, std::int64_t rows, std::int64_t d,
                    float* dtable);

}  // namespace qw::ops
