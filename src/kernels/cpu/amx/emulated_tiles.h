// The instructions of AMX in software, for processors with AVX-512 and without tiles: what the instruction reference
// says of each, and an end of the program where a processor would refuse. Only for test programs (QW_EMULATED_TILES;
// CMakeLists.txt), which so run every line of this folder but the instructions themselves. Included once by each file;
// internal linkage.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/internal/target.h"

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::amx {
namespace {

class EmulatedTiles {
 public:
  // LDTILECFG: 64 bytes of palette, start row, 14 zeros, bytes of a row of 16 tiles, rows of 16 tiles. All tiles become
  // zero.
  void configure(const void* config) {
    std::uint8_t c[64];
    std::memcpy(c, config, sizeof c);
    require(c[0] == 1 && c[1] == 0, "a configuration that is not palette 1 from row 0 on");
    for (int i = 2; i < 16; ++i) require(c[i] == 0, "a reserved byte of a configuration");
    for (int t = 0; t < 16; ++t) {
      std::uint16_t bytes;
      std::memcpy(&bytes, c + 16 + 2 * t, 2);
      const int rows = c[48 + t];
      if (t >= kTiles) {
        require(bytes == 0 && rows == 0, "a ninth tile");
        continue;
      }
      require(bytes <= kRowBytes && rows <= kRows && (bytes == 0) == (rows == 0), "a tile's shape");
      tiles_[t] = {rows, bytes, {}};
    }
    configured_ = true;
  }
  void release() {
    for (Tile& t : tiles_) t = {};
    configured_ = false;
  }
  void zero(int t) { std::memset(at(t).bytes, 0, sizeof(Tile::bytes)); }
  void load(int t, const void* from, std::int64_t stride) {
    zero(t);  // also what lies beyond the tile's shape
    for (int r = 0; r < tiles_[t].rows; ++r)
      std::memcpy(tiles_[t].bytes[r], static_cast<const char*>(from) + r * stride,
                  static_cast<std::size_t>(tiles_[t].row_bytes));
  }
  void store(int t, void* to, std::int64_t stride) {
    const Tile& tile = at(t);
    for (int r = 0; r < tile.rows; ++r)
      std::memcpy(static_cast<char*>(to) + r * stride, tile.bytes[r], static_cast<std::size_t>(tile.row_bytes));
  }
  // TDPBSSD: sums of 32 bits that wrap, of four products of signed bytes each.
  void multiply_bytes(int c, int a, int b) {
    const Shape s = shape(c, a, b);
    for (int m = 0; m < s.rows; ++m)
      for (int n = 0; n < s.columns; ++n) {
        std::uint32_t sum;
        std::memcpy(&sum, tiles_[c].bytes[m] + 4 * n, 4);
        for (int k = 0; k < s.inner; ++k)
          for (int j = 0; j < 4; ++j)
            sum += static_cast<std::uint32_t>(static_cast<std::int8_t>(tiles_[a].bytes[m][4 * k + j]) *
                                              static_cast<std::int8_t>(tiles_[b].bytes[k][4 * n + j]));
        std::memcpy(tiles_[c].bytes[m] + 4 * n, &sum, 4);
      }
    clear_beyond(c);
  }
  // TDPBF16PS: products of the even and of the odd element of each pair are summed apart, fused, then both sums are
  // added, and that to the destination. Numbers too small for a float's exponent are zero, before and after, whatever
  // MXCSR says.
  void multiply_pairs(int c, int a, int b) {
    const Shape s = shape(c, a, b);
    const unsigned before = _mm_getcsr();
    constexpr unsigned kNearestAndMasked = 0x1f80, kTinyIsZero = 0x8040;  // FTZ and DAZ
    _mm_setcsr(kNearestAndMasked | kTinyIsZero);
    for (int m = 0; m < s.rows; ++m) pairs_row(tiles_[c].bytes[m], tiles_[a].bytes[m], tiles_[b].bytes[0], s);
    _mm_setcsr(before);
    clear_beyond(c);
  }

 private:
  static constexpr int kTiles = 8, kRows = 16, kRowBytes = 64;
  struct Tile {
    int rows = 0, row_bytes = 0;
    alignas(64) std::uint8_t bytes[kRows][kRowBytes] = {};
  };
  struct Shape {
    int rows, columns, inner;  // of C in 32-bit elements; `inner` of them of A and B
  };

  static void require(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "emulated tiles: a processor refuses %s\n", what);
    std::abort();
  }
  Tile& at(int t) {
    require(configured_ && t >= 0 && t < kTiles && tiles_[t].rows > 0, "a tile that was not configured");
    return tiles_[t];
  }
  Shape shape(int c, int a, int b) {
    const Shape s{at(c).rows, at(c).row_bytes / 4, at(a).row_bytes / 4};
    require(c != a && c != b && a != b, "a product of a tile with itself");
    require(tiles_[a].rows == s.rows && at(b).rows == s.inner && tiles_[b].row_bytes == tiles_[c].row_bytes &&
                tiles_[c].row_bytes % 4 == 0 && tiles_[a].row_bytes % 4 == 0,
            "a product of tiles whose shapes do not fit");
    return s;
  }
  void clear_beyond(int c) {
    for (int m = 0; m < kRows; ++m) {
      const int from = m < tiles_[c].rows ? tiles_[c].row_bytes : 0;
      std::memset(tiles_[c].bytes[m] + from, 0, static_cast<std::size_t>(kRowBytes - from));
    }
  }
  // Apart, so that no compiler moves sums to where MXCSR is another.
  __attribute__((noinline)) static void pairs_row(std::uint8_t* c, const std::uint8_t* a, const std::uint8_t* b,
                                                  Shape s) {
    const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000U));
    __m512 even = _mm512_setzero_ps(), odd = even;
    for (int k = 0; k < s.inner; ++k) {
      std::int32_t pair;
      std::memcpy(&pair, a + 4 * k, 4);
      const __m512i x = _mm512_set1_epi32(pair), y = _mm512_load_si512(b + kRowBytes * k);
      even = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(x, 16)),
                             _mm512_castsi512_ps(_mm512_slli_epi32(y, 16)), even);
      odd = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(x, upper)),
                            _mm512_castsi512_ps(_mm512_and_si512(y, upper)), odd);
    }
    _mm512_store_ps(c, _mm512_add_ps(_mm512_load_ps(c), _mm512_add_ps(even, odd)));
  }

  Tile tiles_[kTiles];
  bool configured_ = false;
};

inline EmulatedTiles& emulated_tiles() {
  static thread_local EmulatedTiles tiles;
  return tiles;
}

}  // namespace
}  // namespace qw::kernels::amx
QW_TARGET_END

#define QW_TILE_LOAD(tile, from, stride) emulated_tiles().load(tile, from, stride)
#define QW_TILE_STORE(tile, to, stride) emulated_tiles().store(tile, to, stride)
#define QW_TILE_ZERO(tile) emulated_tiles().zero(tile)
#define QW_TILE_MULTIPLY(c, a, b) emulated_tiles().multiply_pairs(c, a, b)
#define QW_TILE_MULTIPLY_BYTES(c, a, b) emulated_tiles().multiply_bytes(c, a, b)
#define QW_TILES_CONFIGURE(config) emulated_tiles().configure(&(config))
#define QW_TILES_RELEASE() emulated_tiles().release()
// The compilers' names for the same.
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_loadconfig
#undef _tile_release
#define _tile_loadd QW_TILE_LOAD
#define _tile_stored QW_TILE_STORE
#define _tile_zero QW_TILE_ZERO
#define _tile_dpbf16ps QW_TILE_MULTIPLY
#define _tile_loadconfig(config) emulated_tiles().configure(config)
#define _tile_release QW_TILES_RELEASE
