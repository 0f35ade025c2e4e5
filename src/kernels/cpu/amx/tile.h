// AMX tiles: configuration and the four products of a 32 x 32 block. Written as assembly, because the compilers'
// intrinsics say nothing about the memory that tiles read and write. Included once by each file; internal linkage.
#pragma once

#include <cstdint>

#include "kernels/internal/target.h"
#if defined(QW_EMULATED_TILES)
#include "kernels/cpu/amx/emulated_tiles.h"
#endif

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::amx {
namespace {

constexpr std::int64_t kTileBytes = 1024;            // 16 rows of 64 bytes
constexpr std::int64_t kStepBytes = 2 * kTileBytes;  // 32 of the inner dimension for 32 lines

#if !defined(QW_EMULATED_TILES)
#define QW_TILE_LOAD(tile, from, stride) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile : : "r"(from), "r"(static_cast<std::int64_t>(stride)) : "memory")
#define QW_TILE_STORE(tile, to, stride) \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" : : "r"(to), "r"(static_cast<std::int64_t>(stride)) : "memory")
#define QW_TILE_ZERO(tile) asm volatile("tilezero %%tmm" #tile : :)
#define QW_TILE_MULTIPLY(c, a, b) asm volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)
#define QW_TILE_MULTIPLY_BYTES(c, a, b) asm volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)
#define QW_TILES_CONFIGURE(config) asm volatile("ldtilecfg %0" : : "m"(config) : "memory")
#define QW_TILES_RELEASE() asm volatile("tilerelease" : :)
#endif

// Tiles 0..3 are sums, 4 and 5 the left operand (rows of 64 bytes: 32 of the inner dimension), 6 and 7 the right one
// (16 rows of pairs of the inner dimension for `columns` columns).
struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

QW_INLINE void configure_tiles(int rows0, int rows1, int columns0, int columns1) {
  TileConfig c;
  const auto set = [&c](int tile, int rows, int bytes) {
    c.rows[tile] = static_cast<std::uint8_t>(rows);
    c.row_bytes[tile] = static_cast<std::uint16_t>(bytes);
  };
  set(0, rows0, 4 * columns0);
  set(1, rows1, 4 * columns0);
  set(2, rows0, 4 * columns1);
  set(3, rows1, 4 * columns1);
  set(4, rows0, 64);
  set(5, rows1, 64);
  set(6, 16, 4 * columns0);
  set(7, 16, 4 * columns1);
  QW_TILES_CONFIGURE(c);
}
QW_INLINE void release_tiles() { QW_TILES_RELEASE(); }

QW_INLINE void zero_sums() {
  QW_TILE_ZERO(0);
  QW_TILE_ZERO(1);
  QW_TILE_ZERO(2);
  QW_TILE_ZERO(3);
}

// Sums += left x right over `steps` steps. Left: step s at left + s * left_step, its second tile `left_half` further
// on. Right: b0 and b1 (columns of tiles 6 and 7), step s at + s * right_step, rows of pairs right_stride bytes apart.
template <bool kTwoColumns>
QW_INLINE void multiply_steps(const char* left, std::int64_t left_step, std::int64_t left_half, const char* b0,
                              const char* b1, std::int64_t right_step, std::int64_t right_stride, std::int64_t steps) {
  for (; steps > 0; --steps, left += left_step, b0 += right_step, b1 += right_step) {
    QW_TILE_LOAD(6, b0, right_stride);
    QW_TILE_LOAD(4, left, 64);
    QW_TILE_MULTIPLY(0, 4, 6);
    QW_TILE_LOAD(5, left + left_half, 64);
    QW_TILE_MULTIPLY(1, 5, 6);
    if constexpr (kTwoColumns) {
      QW_TILE_LOAD(7, b1, right_stride);
      QW_TILE_MULTIPLY(2, 4, 7);
      QW_TILE_MULTIPLY(3, 5, 7);
    }
  }
}

}  // namespace
}  // namespace qw::kernels::amx
QW_TARGET_END
