// Attention: the shared source compiled for this instruction set, and pairs of bfloat16 (VDPBF16PS) where these pay.
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/result.h"
#include "kernels/internal/cache_element.h"
#include "kernels/internal/cache_gather.h"
#include "kernels/internal/exp.h"
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"

#if QW_X86

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {
#include "kernels/internal/vec_avx512.inc"
// 6 x 4 vectors of sums, four of B and one of A fill 29 of 32 registers.
constexpr int kTileRows = 6, kTileVecs = 4;
#include "kernels/internal/attention.inc"
#include "kernels/internal/cached_attention.inc"
#include "kernels/cpu/avx512/pair_attention.inc"
#include "kernels/cpu/avx512/pair_training.inc"
}  // namespace

void fill_attention(Kernels& table, bool bfloat_dots) {
  fill_attention_kernels(table);
  if (!bfloat_dots) return;
  fill_pair_attention(table);
  fill_pair_training(table);
}
void fill_attention(Kernels& table) { fill_attention(table, base::bfloat_dots_pay()); }

}  // namespace qw::kernels::avx512
QW_TARGET_END

#endif  // QW_X86
