// How the training product reads its operands: 16 lines at a time, as words along k, and rows of A into tiles.
// Included once by each file; internal linkage.
#pragma once

#include "kernels/cpu/avx512/vectors.h"
#include "kernels/kernels.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {

// 16 words of k (from element k0) of the 16 lines whose first element is p, one line per register. A line is a row of A
// or a column of B that is contiguous in k.
QW_INLINE void load_lines_along_k(bool pairs, const float* p, std::int64_t ld, std::int64_t lines_left,
                                  std::int64_t k_left, __m512i (&r)[16]) {
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    const float* line = p + i * ld;
    const std::int64_t n = i < lines_left ? k_left : 0;
    r[i] = pairs ? to_bfloat(load_floats(line, n), load_floats(line + 16, n - 16)) : bits(load_floats(line, n));
  }
}

// The same words where 16 lines lie side by side and k runs over rows: register w holds word w of all lines.
QW_INLINE void load_words_across_k(bool pairs, const float* p, std::int64_t ld, std::int64_t lines_left,
                                   std::int64_t k_left, __m512i (&r)[16]) {
#pragma GCC unroll 16
  for (int w = 0; w < 16; ++w) {
    if (pairs) {
      const float* row = p + 2 * w * ld;
      r[w] = bfloat_pairs(load_floats(row, 2 * w < k_left ? lines_left : 0),
                          load_floats(row + ld, 2 * w + 1 < k_left ? lines_left : 0));
    } else {
      r[w] = bits(load_floats(p + w * ld, w < k_left ? lines_left : 0));
    }
  }
}

// Rows [m, m + rows) of op(A) from element k0 of k: [tile of kRowsOfTile rows][strip][row][16 words].
template <bool kPairs, int kRowsOfTile>
void pack_a_rows_as(const GemmArgs& g, std::int64_t m, std::int64_t rows, std::int64_t k0, std::int64_t words,
                    std::uint32_t* a) {
  const auto square = [&](std::int64_t row, std::int64_t word) __attribute__((always_inline)) {
    const std::int64_t rows_here = rows - row < 16 ? rows - row : 16;
    const std::int64_t k = k0 + word * (kPairs ? 2 : 1), k_left = g.k - k;
    __m512i r[16];
    if (g.trans_a) {
      load_words_across_k(kPairs, g.a + k * g.lda + m + row, g.lda, rows_here, k_left, r);
      transpose(r);
    } else {
      load_lines_along_k(kPairs, g.a + (m + row) * g.lda + k, g.lda, rows_here, k_left, r);
    }
    for (std::int64_t i = 0; i < rows_here; ++i) {
      const std::int64_t first = (row + i) / kRowsOfTile * kRowsOfTile;
      const std::int64_t in_tile = rows - first < kRowsOfTile ? rows - first : kRowsOfTile;
      _mm512_storeu_si512(a + first * words + word * in_tile + (row + i - first) * 16, r[i]);
    }
  };
  // In the order in which A lies in memory.
  if (g.trans_a) {
    for (std::int64_t word = 0; word < words; word += 16)
      for (std::int64_t row = 0; row < rows; row += 16) square(row, word);
  } else {
    for (std::int64_t row = 0; row < rows; row += 16)
      for (std::int64_t word = 0; word < words; word += 16) square(row, word);
  }
}

}  // namespace
}  // namespace qw::kernels::avx512
QW_TARGET_END
