// The loss of embeddings by which queries are to find their documents, InfoNCE as Qwen3-Embedding has it.
//
// s(a, b) is the cosine of two rows, t the temperature. Of example i with query q, its document d and n others h that
// do not answer it:
//
//   -log (e^(s(q, d) / t) / Z),   Z = e^(s(q, d) / t) + sum_h e^(s(q, h) / t) + sum_x e^(s(q, x) / t)
//                                     + sum_q' e^(s(q, q') / t) + sum_x e^(s(d, x) / t)
//
// with q' the queries and x all documents of the step's other examples. Left out of Z is what may answer the query too:
// a document equal to d, and what has a cosine above s(q, d) + margin.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "train/config.h"

namespace qw::train {

// Rows of texts, one after the other: of each example the query, its document, the others.
struct EmbeddedTexts {
  std::size_t width = 0;
  std::vector<float> rows;          // [texts, width], of any length
  std::vector<std::size_t> starts;  // of examples, and the end
  std::vector<std::uint64_t> same;  // [texts]; equal for equal texts

  std::size_t texts() const { return same.size(); }
  std::size_t examples() const { return starts.size() - 1; }
};

struct RetrievalLoss {
  double loss = 0;            // mean over examples
  double found = 0;           // share of queries that are closest to their own document among all
  double reciprocal = 0;      // mean of 1 / the place of their own
  std::vector<float> d_rows;  // the gradient, if asked for
};
RetrievalLoss retrieval_loss(const EmbeddingConfig& config, const EmbeddedTexts& texts, bool gradient,
                             base::ThreadPool& pool);

// What a recipe says, for checkpoints.
json::Object to_json(const EmbeddingConfig& config);

}  // namespace qw::train
