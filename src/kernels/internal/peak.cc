#include "kernels/internal/peak.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "kernels/internal/target.h"
#if QW_X86
#include <cpuid.h>
#endif

namespace qw::kernels {
namespace {

constexpr int kRuns = 5;

template <class F>
double best_seconds(F&& body) {
  double best = 1e30;
  for (int i = 0; i < kRuns; ++i) {
    const double start = thread_seconds();
    body();
    best = std::min(best, thread_seconds() - start);
  }
  return best;
}

#if QW_X86
// Written as assembly so that no compiler moves the sums to memory. Twelve independent sums cover a latency of up to
// six cycles at two instructions a cycle. The registers start at zero: no denormals, no traps.
constexpr long kTurns = 4'000'000;
constexpr double kInstructions = 12.0 * kTurns;

#define QW_TWELVE(text, reg)                                                                                        \
  text reg "0\n" text reg "1\n" text reg "2\n" text reg "3\n" text reg "4\n" text reg "5\n" text reg "6\n" text reg \
           "7\n" text reg "8\n" text reg "9\n" text reg "10\n" text reg "11\n"
#define QW_PEAK_LOOP(instruction, reg)                                                                             \
  do {                                                                                                             \
    long turns = kTurns;                                                                                           \
    asm volatile("vzeroall\n1:\n" QW_TWELVE(instruction " %%" reg "14, %%" reg "15, %%", reg) "dec %0\njnz 1b\n" \
                                                                                              "vzeroupper\n"     \
                 : "+r"(turns)                                                                                   \
                 :                                                                                               \
                 : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                   "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"); \
  } while (false)

double peak_avx2() {
  return 2 * 8 * kInstructions / best_seconds([] { QW_PEAK_LOOP("vfmadd231ps", "ymm"); });
}
double peak_avx512(PeakKind kind) {
  switch (kind) {
    case PeakKind::kFloat:
      return 2 * 16 * kInstructions / best_seconds([] { QW_PEAK_LOOP("vfmadd231ps", "zmm"); });
    case PeakKind::kBfloat:
      return 2 * 32 * kInstructions / best_seconds([] { QW_PEAK_LOOP("vdpbf16ps", "zmm"); });
    case PeakKind::kByte:
      return 2 * 64 * kInstructions / best_seconds([] { QW_PEAK_LOOP("vpdpbusd", "zmm"); });
    case PeakKind::kBfloatTile:
    case PeakKind::kByteTile:
      break;
  }
  return 0;
}
#undef QW_PEAK_LOOP
#undef QW_TWELVE

// Whether the processor has tiles of bfloat16 and bytes, and the system lets this process use them.
bool may_use_tiles() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 ||
      (edx & (kBf16 | kTile | kInt8)) != (kBf16 | kTile | kInt8))
    return false;
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM of arch_prctl(2)
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

// Six sums of 16 x 16, which is more than the latency of a product covers at one product in sixteen cycles.
constexpr long kTileTurns = 500'000;
constexpr double kTileProducts = 6.0 * kTileTurns;
#define QW_TILE_LOOP(instruction)                                                                                 \
  asm volatile("1:\n" instruction " %%tmm7, %%tmm6, %%tmm0\n" instruction " %%tmm7, %%tmm6, %%tmm1\n" instruction \
               " %%tmm7, %%tmm6, %%tmm2\n" instruction " %%tmm7, %%tmm6, %%tmm3\n" instruction                    \
               " %%tmm7, %%tmm6, %%tmm4\n" instruction " %%tmm7, %%tmm6, %%tmm5\ndec %0\njnz 1b\n"                \
               : "+r"(turns)                                                                                      \
               :                                                                                                  \
               : "cc")

double peak_tiles(PeakKind kind) {
  if (!may_use_tiles()) return 0;
  struct alignas(64) {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  asm volatile("ldtilecfg %0" : : "m"(config));  // and zeroes the tiles
  const double seconds = best_seconds([&] {
    long turns = kTileTurns;
    if (kind == PeakKind::kByteTile) {
      QW_TILE_LOOP("tdpbusd");
    } else {
      QW_TILE_LOOP("tdpbf16ps");
    }
  });
  asm volatile("tilerelease");
  return 2 * 16 * 16 * (kind == PeakKind::kByteTile ? 64 : 32) * kTileProducts / seconds;
}
#undef QW_TILE_LOOP
#endif

}  // namespace

double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double measured_peak_ops(Isa isa, PeakKind kind) {
#if QW_X86
  if (kind == PeakKind::kBfloatTile || kind == PeakKind::kByteTile) return isa >= Isa::kAvx512 ? peak_tiles(kind) : 0;
  if (isa >= Isa::kAvx512) return peak_avx512(kind);
  if (isa == Isa::kAvx2 && kind == PeakKind::kFloat) return peak_avx2();
#endif
  (void)isa;
  (void)kind;
  return 0;
}

double measured_read_bandwidth(const void* data, std::size_t bytes) {
  const auto* words = static_cast<const std::uint64_t*>(data);
  std::uint64_t total = 0;
  const double seconds = best_seconds([&] {
    std::uint64_t lanes[8] = {};
    for (std::size_t i = 0; i + 8 <= bytes / 8; i += 8) {
      for (std::size_t j = 0; j < 8; ++j) lanes[j] ^= words[i + j];
    }
    for (std::uint64_t v : lanes) total ^= v;
  });
  asm volatile("" : : "r"(total));
  return static_cast<double>(bytes) / seconds;
}

}  // namespace qw::kernels
