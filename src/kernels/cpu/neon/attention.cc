// Attention: the shared source compiled for NEON.
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/result.h"
#include "kernels/internal/cache_element.h"
#include "kernels/internal/cache_gather.h"
#include "kernels/internal/exp.h"
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"

#if QW_NEON

namespace qw::kernels::neon {
namespace {
#include "kernels/internal/vec_neon.inc"
// 6 x 4 vectors of sums, four of B and one of A fill 29 of 32 registers.
constexpr int kTileRows = 6, kTileVecs = 4;
#include "kernels/internal/attention.inc"
#include "kernels/internal/cached_attention.inc"
}  // namespace

void fill_attention(Kernels& table) { fill_attention_kernels(table); }

}  // namespace qw::kernels::neon
#endif  // QW_NEON
