// Attention: the shared source compiled for this instruction set.
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

QW_TARGET_AVX2_BEGIN
namespace qw::kernels::avx2 {
namespace {
#include "kernels/internal/vec_avx2.inc"
// 6 x 2 vectors of sums, two of B and one of A fill 15 of 16 registers.
constexpr int kTileRows = 6, kTileVecs = 2;
#include "kernels/internal/attention.inc"
#include "kernels/internal/cached_attention.inc"
}  // namespace

void fill_attention(Kernels& table) { fill_attention_kernels(table); }

}  // namespace qw::kernels::avx2
QW_TARGET_END

#endif  // QW_X86
