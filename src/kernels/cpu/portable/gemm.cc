// The truth for the training product: op(B) in panels of kColumns, one sum per element of C, in the order of k.
#include <algorithm>

#include "kernels/internal/fill.h"
#include "kernels/internal/scalar.h"

namespace qw::kernels::portable {
namespace {

constexpr std::int64_t kRows = 4;     // rows of C at a time,
constexpr std::int64_t kColumns = 8;  // and columns: 32 sums fit the registers of a baseline CPU with vectors of four

float rounded(GemmPrecision precision, float v) { return precision == GemmPrecision::kBF16 ? round_to_bfloat(v) : v; }

std::size_t packed_b_bytes(GemmPrecision, std::int64_t n, std::int64_t k) {
  return static_cast<std::size_t>(round_up(n, kColumns) * k) * sizeof(float);
}

template <class Element>  // of op(B), at k and n
void pack_b_of(const GemmArgs& g, void* packed_b, std::int64_t n_begin, std::int64_t n_end, Element element) {
  for (std::int64_t n0 = n_begin; n0 < n_end; n0 += kColumns) {
    float* panel = static_cast<float*>(packed_b) + n0 * g.k;
    for (std::int64_t k = 0; k < g.k; ++k) {
      for (std::int64_t j = 0; j < kColumns; ++j) {
        const std::int64_t n = n0 + j;
        panel[k * kColumns + j] = n >= g.n ? 0.0f : element(g.trans_b ? n * g.ldb + k : k * g.ldb + n);
      }
    }
  }
}

void pack_b(const GemmArgs& g, void* packed_b, std::int64_t n_begin, std::int64_t n_end) {
  pack_b_of(g, packed_b, n_begin, n_end, [&](std::int64_t at) { return rounded(g.precision, g.b[at]); });
}

void pack_b_bfloats(const GemmArgs& g, const std::uint16_t* b, void* packed_b, std::int64_t n_begin, std::int64_t n_end) {
  pack_b_of(g, packed_b, n_begin, n_end, [&](std::int64_t at) { return bfloat_to_float(b[at]); });
}

std::size_t scratch_bytes(GemmPrecision, std::int64_t, std::int64_t k) {
  return static_cast<std::size_t>(kRows * k) * sizeof(float);
}

void tile(const GemmArgs& g, const float* a, const float* panel, std::int64_t rows, std::int64_t columns, float* c) {
  float sums[kRows][kColumns] = {};
  for (std::int64_t k = 0; k < g.k; ++k) {
    for (std::int64_t i = 0; i < kRows; ++i) {
      for (std::int64_t j = 0; j < kColumns; ++j) sums[i][j] += a[k * kRows + i] * panel[k * kColumns + j];
    }
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      float& out = c[i * g.ldc + j];
      out = g.accumulate ? out + sums[i][j] : sums[i][j];
    }
  }
}

void gemm(const GemmArgs& g, const void* packed_b, void* scratch, std::int64_t m_begin, std::int64_t m_end,
          std::int64_t n_begin, std::int64_t n_end) {
  float* a = static_cast<float*>(scratch);
  for (std::int64_t m0 = m_begin; m0 < m_end; m0 += kRows) {
    const std::int64_t rows = std::min(kRows, m_end - m0);
    for (std::int64_t k = 0; k < g.k; ++k) {
      for (std::int64_t i = 0; i < kRows; ++i) {
        const std::int64_t m = m0 + i;
        const float v = i >= rows ? 0.0f : g.trans_a ? g.a[k * g.lda + m] : g.a[m * g.lda + k];
        a[k * kRows + i] = rounded(g.precision, v);
      }
    }
    for (std::int64_t n0 = n_begin; n0 < n_end; n0 += kColumns) {
      tile(g, a, static_cast<const float*>(packed_b) + n0 * g.k, rows, std::min(kColumns, n_end - n0),
           g.c + m0 * g.ldc + n0);
    }
  }
}

}  // namespace

void fill_gemm(Kernels& k) {
  k.gemm_m_granule = kRows;
  k.gemm_n_granule = kColumns;
  k.gemm_packed_b_bytes = packed_b_bytes;
  k.gemm_pack_b = pack_b;
  k.gemm_pack_b_bfloats = pack_b_bfloats;
  k.gemm_scratch_bytes = scratch_bytes;
  k.gemm = gemm;
  k.gemm_packed_a_bytes = nullptr;
  k.gemm_pack_a = nullptr;
  k.gemm_columns_scratch_bytes = nullptr;
  k.gemm_columns = nullptr;
  k.gemm_packed = nullptr;
  k.gemm_columns_packed = nullptr;
}

}  // namespace qw::kernels::portable
