#include "train/retrieval.h"

#include <algorithm>
#include <cmath>

namespace qw::train {
namespace {

constexpr std::int64_t kRows = 4;  // of a matrix that a thread takes at once

// Rows of length 1, and the lengths they had.
struct Directions {
  std::vector<double> rows, lengths;
};

Directions directions_of(const EmbeddedTexts& texts) {
  Directions out;
  out.rows.resize(texts.rows.size());
  for (std::size_t i = 0; i < texts.texts(); ++i) {
    double squares = 0;
    for (std::size_t k = 0; k < texts.width; ++k) {
      const auto x = static_cast<double>(texts.rows[i * texts.width + k]);
      squares += x * x;
    }
    const double length = std::max(std::sqrt(squares), 1e-12);  // a row of zeros stays one
    out.lengths.push_back(length);
    for (std::size_t k = 0; k < texts.width; ++k)
      out.rows[i * texts.width + k] = static_cast<double>(texts.rows[i * texts.width + k]) / length;
  }
  return out;
}

// All cosines, [texts, texts].
std::vector<double> cosines_of(const EmbeddedTexts& texts, const Directions& directions, base::ThreadPool& pool) {
  const std::size_t n = texts.texts(), width = texts.width;
  std::vector<double> out(n * n);
  pool.parallel_for(static_cast<std::int64_t>(n), kRows, [&](std::int64_t begin, std::int64_t end) {
    for (auto a = static_cast<std::size_t>(begin); a < static_cast<std::size_t>(end); ++a)
      for (std::size_t b = 0; b < n; ++b) {
        double sum = 0;
        for (std::size_t k = 0; k < width; ++k) sum += directions.rows[a * width + k] * directions.rows[b * width + k];
        out[a * n + b] = sum;
      }
  });
  return out;
}

struct Pair {
  std::size_t a, b;
};

// What stands in Z of an example, its own document first.
std::vector<Pair> pairs_of(const EmbeddingConfig& config, const EmbeddedTexts& texts, std::span<const double> cosines,
                           std::size_t example) {
  const std::size_t n = texts.texts(), q = texts.starts[example], d = q + 1, end = texts.starts[example + 1];
  const double most = cosines[q * n + d] + config.margin;
  std::vector<Pair> out{{q, d}};
  const auto add = [&](std::size_t a, std::size_t b) {
    if (texts.same[b] != texts.same[d] && cosines[a * n + b] <= most) out.push_back({a, b});
  };
  for (std::size_t h = d + 1; h < end; ++h) add(q, h);
  for (std::size_t other = 0; other < texts.examples(); ++other) {
    if (other == example) continue;
    const std::size_t first = texts.starts[other];
    if (config.queries) add(q, first);
    for (std::size_t x = first + 1; x < texts.starts[other + 1]; ++x) {
      add(q, x);
      if (config.documents) add(d, x);
    }
  }
  return out;
}

// The place of an example's document among all documents; equal ones do not count, and ties come before it.
double place_of(const EmbeddedTexts& texts, std::span<const double> cosines, std::size_t example) {
  const std::size_t n = texts.texts(), q = texts.starts[example], d = q + 1;
  double place = 1;
  for (std::size_t other = 0; other < texts.examples(); ++other)
    for (std::size_t x = texts.starts[other] + 1; x < texts.starts[other + 1]; ++x)
      if (texts.same[x] != texts.same[d] && cosines[q * n + x] >= cosines[q * n + d]) ++place;
  return place;
}

// By rows, from what the loss gives for each cosine, [texts, texts].
std::vector<float> gradient_of(const EmbeddedTexts& texts, const Directions& directions,
                               std::span<const double> d_cosines, base::ThreadPool& pool) {
  const std::size_t n = texts.texts(), width = texts.width;
  std::vector<float> out(n * width);
  pool.parallel_for(static_cast<std::int64_t>(n), kRows, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> d(width);
    for (auto a = static_cast<std::size_t>(begin); a < static_cast<std::size_t>(end); ++a) {
      std::fill(d.begin(), d.end(), 0.0);
      for (std::size_t b = 0; b < n; ++b) {
        const double by = d_cosines[a * n + b] + d_cosines[b * n + a];
        if (by == 0) continue;
        for (std::size_t k = 0; k < width; ++k) d[k] += by * directions.rows[b * width + k];
      }
      // Along the row itself nothing changes.
      double along = 0;
      for (std::size_t k = 0; k < width; ++k) along += d[k] * directions.rows[a * width + k];
      for (std::size_t k = 0; k < width; ++k)
        out[a * width + k] =
            static_cast<float>((d[k] - along * directions.rows[a * width + k]) / directions.lengths[a]);
    }
  });
  return out;
}

}  // namespace

RetrievalLoss retrieval_loss(const EmbeddingConfig& config, const EmbeddedTexts& texts, bool gradient,
                             base::ThreadPool& pool) {
  const std::size_t n = texts.texts();
  const auto count = static_cast<double>(texts.examples());
  const Directions directions = directions_of(texts);
  const std::vector<double> cosines = cosines_of(texts, directions, pool);
  std::vector<double> d_cosines(gradient ? n * n : 0);
  RetrievalLoss out;
  for (std::size_t i = 0; i < texts.examples(); ++i) {
    const std::vector<Pair> pairs = pairs_of(config, texts, cosines, i);
    std::vector<double> terms;
    double most = 0, sum = 0;
    for (const Pair& p : pairs) terms.push_back(cosines[p.a * n + p.b] / config.temperature);
    most = *std::max_element(terms.begin(), terms.end());
    const double own = terms[0];
    for (double& term : terms) sum += term = std::exp(term - most);
    out.loss += (std::log(sum) + most - own) / count;
    const double place = place_of(texts, cosines, i);
    out.found += place == 1 ? 1 / count : 0;
    out.reciprocal += 1 / place / count;
    if (!gradient) continue;
    for (std::size_t p = 0; p < pairs.size(); ++p)
      d_cosines[pairs[p].a * n + pairs[p].b] += (terms[p] / sum - (p == 0 ? 1 : 0)) / (config.temperature * count);
  }
  if (gradient) out.d_rows = gradient_of(texts, directions, d_cosines, pool);
  return out;
}

json::Object to_json(const EmbeddingConfig& c) {
  json::Object o;
  o.set("temperature", c.temperature);
  o.set("margin", c.margin);
  o.set("queries", c.queries);
  o.set("documents", c.documents);
  return o;
}

}  // namespace qw::train
