// What the rows of heads other than the language model's mean to callers: pure functions of a row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace qw::engine {

// The first `dimensions` numbers (0: all; Matryoshka embeddings may be cut), then brought to length 1 if asked. kUsage
// for more than the row has. A row of zeros stays one.
Result<std::vector<float>> embedding_of(std::span<const float> row, std::int64_t dimensions, bool normalise);
// exp(x_i) / sum exp(x_j).
std::vector<float> softmax(std::span<const float> scores);
// The softmax over two of the row's numbers, for the first: how likely "yes" is against "no".
float share_of(std::span<const float> row, std::int64_t yes, std::int64_t no);
float sigmoid(float x);

}  // namespace qw::engine
