// Embeddings of hashed n-grams (Svenstrup et al., "Hash embeddings", 2017, in the form of the Qwen3.8-Flash-Next release): a row
// of a token is made of rows of one large table, one for each head, which are told by the token and those before it.
//
//   m_n = t_0 f_0 xor t_1 f_1 xor .. xor t_(n-1) f_(n-1)     t_j: the token j places back
//   row of head h of the n-grams = m_n mod size_h + offset_h
// Going back from a token, at an end-of-text token or the sequence's beginning all earlier ones count as end of text.
#pragma once

#include <cstdint>
#include <span>

#include "ops/executor.h"
#include "ops/machine.h"

namespace qw::ops {

// Rows of the table for one token, by head. `before[j]`: the token j places back, j < spec.size; -1: there is none.
void ngram_rows(const NgramSpec& spec, std::span<const std::int32_t> before, std::span<std::int64_t> rows);

// Rows of one sequence, in order. `history` [size - 1]: the tokens before the first, oldest first, as floats (-1: none), which
// hold every id exactly; null: none. Calls take(row, head, table row).
template <class Take>
void for_ngrams(const NgramSpec& spec, std::span<const std::int32_t> tokens, const float* history, std::int64_t begin,
                std::int64_t end, Take take);
// Puts the last size - 1 tokens into `history`; `fresh`: what it holds belongs to another sequence.
void ngrams_advance(const NgramSpec& spec, std::span<const std::int32_t> tokens, bool fresh, float* history);

// Training: tables by part; documents are rows [cu_seqlens[d], cu_seqlens[d + 1]).
struct NgramTraining {
  const NgramSpec* spec = nullptr;
  std::span<const std::int32_t> tokens, cu_seqlens;
  std::span<const float* const> tables;   // [rows_each, dim]
  float* y = nullptr;                     // [N, heads * dim]
  const float* dy = nullptr;              // backward
  std::span<float* const> dtables;        // backward, adds; null: frozen
};
void ngrams_forward(const Machine& m, const NgramTraining& t);
void ngrams_backward(const Machine& m, const NgramTraining& t);

template <class Take>
void for_ngrams(const NgramSpec& spec, std::span<const std::int32_t> tokens, const float* history, std::int64_t begin,
                std::int64_t end, Take take) {
  std::int32_t before[kMaxNgram];
  std::int64_t rows[kMaxNgramHeads];
  const std::int64_t kept = spec.size - 1;
  for (std::int64_t r = begin; r < end; ++r) {
    for (std::int64_t j = 0; j <= kept; ++j) {
      if (r >= j) before[j] = tokens[static_cast<std::size_t>(r - j)];
      else before[j] = history == nullptr ? -1 : static_cast<std::int32_t>(history[kept - (j - r)]);
    }
    ngram_rows(spec, {before, static_cast<std::size_t>(spec.size)}, {rows, static_cast<std::size_t>(spec.heads())});
    for (std::int32_t h = 0; h < spec.heads(); ++h) take(r, h, rows[h]);
  }
}

}  // namespace qw::ops
