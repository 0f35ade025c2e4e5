// The training product with AMX: tiles of 32 x 32 sums of pairs of bfloat16. B is packed as for AVX-512; what is not
// bfloat16 is that set's product throughout.
#include "kernels/internal/fill.h"
#include "kernels/internal/gemm_tiles.h"
#include "kernels/internal/target.h"

#if QW_X86
#include <algorithm>
#include <cstring>

#include "kernels/cpu/amx/tile.h"
#include "kernels/cpu/avx512/pack_rows.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::amx {
namespace {

constexpr int kSide = 32;  // rows and columns of a tile of C
constexpr std::int64_t kRightStep = 16 * kSide * 4;  // 16 words of 32 columns

const Kernels& vector_kernels() {
  static const Kernels k = [] {
    Kernels table{};
    avx512::fill_gemm(table);
    return table;
  }();
  return k;
}

void load_sums(const float* c, std::int64_t ldc) {
  QW_TILE_LOAD(0, c, 4 * ldc);
  QW_TILE_LOAD(1, c + 16 * ldc, 4 * ldc);
  QW_TILE_LOAD(2, c + 16, 4 * ldc);
  QW_TILE_LOAD(3, c + 16 * ldc + 16, 4 * ldc);
}
void store_sums(float* c, std::int64_t ldc) {
  QW_TILE_STORE(0, c, 4 * ldc);
  QW_TILE_STORE(1, c + 16 * ldc, 4 * ldc);
  QW_TILE_STORE(2, c + 16, 4 * ldc);
  QW_TILE_STORE(3, c + 16 * ldc + 16, 4 * ldc);
}

void multiply(const GemmTile& t, std::int64_t rows) {
  const auto* left = reinterpret_cast<const char*>(t.rows);
  const auto* right = reinterpret_cast<const char*>(t.panel);
  // Up to 16 rows: the second tile is the first once more, and its sums go nowhere.
  multiply_steps<true>(left, rows * 64, rows > 16 ? kTileBytes : 0, right, right + 64, kRightStep, 4 * kSide, t.strips);
}

// A tile at the border of C goes through a whole one, so that every element is summed alike.
void border_tile(const GemmTile& t, std::int64_t rows) {
  alignas(64) float c[kSide][kSide] = {};
  const auto bytes = static_cast<std::size_t>(t.columns) * sizeof(float);
  if (t.add) {
    for (std::int64_t r = 0; r < rows; ++r) std::memcpy(c[r], t.c + r * t.ldc, bytes);
  }
  const int first = static_cast<int>(std::min<std::int64_t>(rows, 16)), second = static_cast<int>(rows > 16 ? rows - 16 : rows);
  configure_tiles(first, second, 16, 16);
  load_sums(c[0], kSide);
  multiply(t, rows);
  store_sums(c[0], kSide);
  configure_tiles(16, 16, 16, 16);
  for (std::int64_t r = 0; r < rows; ++r) std::memcpy(t.c + r * t.ldc, c[r], bytes);
}

struct AmxGemm {
  static constexpr std::int64_t kGemmRows = kSide, kGemmColumns = kSide;
  static std::int64_t elements_per_word(GemmPrecision) { return 2; }
  static void pack_a_rows(const GemmArgs& g, std::int64_t m, std::int64_t rows, std::int64_t k0, std::int64_t words,
                          std::uint32_t* a) {
    avx512::pack_a_rows_as<true, kSide>(g, m, rows, k0, words, a);
  }
  static void gemm_tile(GemmPrecision, int rows, const GemmTile& t) {
    if (rows < kSide || t.columns < kSide) return border_tile(t, rows);
    if (t.add) {
      load_sums(t.c, t.ldc);
    } else {
      zero_sums();
    }
    multiply(t, rows);
    store_sums(t.c, t.ldc);
  }
};

std::size_t scratch_bytes(GemmPrecision precision, std::int64_t m, std::int64_t k) {
  return precision == GemmPrecision::kBF16 ? tiled_scratch_bytes<AmxGemm>(precision, m, k)
                                           : vector_kernels().gemm_scratch_bytes(precision, m, k);
}

void gemm(const GemmArgs& g, const void* packed_b, void* scratch, std::int64_t m_begin, std::int64_t m_end,
          std::int64_t n_begin, std::int64_t n_end) {
  if (g.precision != GemmPrecision::kBF16)
    return vector_kernels().gemm(g, packed_b, scratch, m_begin, m_end, n_begin, n_end);
  configure_tiles(16, 16, 16, 16);
  tiled_gemm<AmxGemm>(g, packed_b, scratch, m_begin, m_end, n_begin, n_end);
  release_tiles();
}

}  // namespace

// Over AVX-512's table, whose packing of B it keeps.
void fill_gemm(Kernels& k) {
  k.gemm_m_granule = kSide;
  k.gemm_scratch_bytes = scratch_bytes;
  k.gemm = gemm;
  k.gemm_packed_a_bytes = nullptr;
  k.gemm_pack_a = nullptr;
  k.gemm_columns_scratch_bytes = nullptr;
  k.gemm_columns = nullptr;
  k.gemm_packed = nullptr;
  k.gemm_columns_packed = nullptr;
}

}  // namespace qw::kernels::amx
QW_TARGET_END
#endif  // QW_X86
