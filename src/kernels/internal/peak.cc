#include "kernels/internal/peak.h"

#include <time.h>

#include <algorithm>

#include "kernels/internal/target.h"

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

#define QW_TWELVE(text, reg)                                                                                     \
  text reg "0\n" text reg "1\n" text reg "2\n" text reg "3\n" text reg "4\n" text reg "5\n" text reg "6\n"       \
  text reg "7\n" text reg "8\n" text reg "9\n" text reg "10\n" text reg "11\n"
#define QW_PEAK_LOOP(instruction, reg)                                                                           \
  do {                                                                                                           \
    long turns = kTurns;                                                                                         \
    asm volatile("vzeroall\n1:\n" QW_TWELVE(instruction " %%" reg "14, %%" reg "15, %%", reg) "dec %0\njnz 1b\n" \
                                                                                              "vzeroupper\n"     \
                 : "+r"(turns)                                                                                   \
                 :                                                                                               \
                 : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
                   "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                                                 \
  } while (false)

double peak_avx2() { return 2 * 8 * kInstructions / best_seconds([] { QW_PEAK_LOOP("vfmadd231ps", "ymm"); }); }
double peak_avx512(PeakKind kind) {
  switch (kind) {
    case PeakKind::kFloat: return 2 * 16 * kInstructions / best_seconds([] { QW_PEAK_LOOP("vfmadd231ps", "zmm"); });
    case PeakKind::kBfloat: return 2 * 32 * kInstructions / best_seconds([] { QW_PEAK_LOOP("vdpbf16ps", "zmm"); });
    case PeakKind::kByte: return 2 * 64 * kInstructions / best_seconds([] { QW_PEAK_LOOP("vpdpbusd", "zmm"); });
  }
  return 0;
}
#undef QW_PEAK_LOOP
#undef QW_TWELVE
#endif

}  // namespace

double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double measured_peak_ops(Isa isa, PeakKind kind) {
#if QW_X86
  if (isa == Isa::kAvx512) return peak_avx512(kind);
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
