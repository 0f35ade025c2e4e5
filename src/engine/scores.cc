#include "engine/scores.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace qw::engine {

Result<std::vector<float>> embedding_of(std::span<const float> row, std::int64_t dimensions, bool normalise) {
  if (dimensions < 0 || dimensions > static_cast<std::int64_t>(row.size()))
    return fail(ErrorKind::kUsage, "dimensions must be 1 to " + std::to_string(row.size()));
  if (dimensions > 0) row = row.first(static_cast<std::size_t>(dimensions));
  std::vector<float> out(row.begin(), row.end());
  if (!normalise) return out;
  double squares = 0;
  for (const float x : out) squares += double{x} * double{x};
  // The reference divides by at least this, so that zeros stay zeros.
  const double length = std::max(std::sqrt(squares), 1e-12);
  for (float& x : out) x = static_cast<float>(double{x} / length);
  return out;
}

std::vector<float> softmax(std::span<const float> scores) {
  std::vector<double> exponentials;
  const double max = scores.empty() ? 0 : double{*std::max_element(scores.begin(), scores.end())};
  double sum = 0;
  for (const float x : scores) sum += exponentials.emplace_back(std::exp(double{x} - max));
  std::vector<float> out;
  for (const double e : exponentials) out.push_back(static_cast<float>(e / sum));
  return out;
}

float share_of(std::span<const float> row, std::int64_t yes, std::int64_t no) {
  return sigmoid(row[static_cast<std::size_t>(yes)] - row[static_cast<std::size_t>(no)]);
}

float sigmoid(float x) { return static_cast<float>(1 / (1 + std::exp(-double{x}))); }

}  // namespace qw::engine
