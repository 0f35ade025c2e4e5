// Recurrent layers: the shared source compiled for this instruction set.
#include <cstddef>
#include <cstdint>

#include "kernels/internal/exp.h"
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"

#if QW_X86

QW_TARGET_AVX2_BEGIN
namespace qw::kernels::avx2 {
namespace {
#include "kernels/internal/vec_avx2.inc"
// 32 columns of a key of 128: 16 KiB of state, half of a first cache; 12 of 16 registers.
constexpr int kStateVecs = 4;
// In chunks: tiles of so many rows and vectors of columns, of so many rows where they are answered; up to how many rows take a
// strip's columns at once.
constexpr int kTileRows = 6, kTileVecs = 2, kFewRows = 3, kAnswerRows = 2;
#include "kernels/internal/recurrent.inc"
}  // namespace

void fill_recurrent(Kernels& table) { fill_recurrent_kernels(table); }

}  // namespace qw::kernels::avx2
QW_TARGET_END

#endif  // QW_X86
