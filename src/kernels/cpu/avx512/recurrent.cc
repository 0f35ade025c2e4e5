// Recurrent layers: the shared source compiled for this instruction set.
#include <cstddef>
#include <cstdint>

#include "kernels/internal/exp.h"
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"

#if QW_X86

QW_TARGET_AVX512_BEGIN
namespace qw::kernels::avx512 {
namespace {
#include "kernels/internal/vec_avx512.inc"
// 64 columns of a key of 128: 32 KiB of state; eight chains of sums keep two units busy.
constexpr int kStateVecs = 4;
// In chunks: tiles of so many rows and vectors of columns, of so many rows where they are answered; up to how many rows take a
// strip's columns at once.
constexpr int kTileRows = 8, kTileVecs = 2, kFewRows = 8, kAnswerRows = 4;
#include "kernels/internal/recurrent.inc"
}  // namespace

void fill_recurrent(Kernels& table) { fill_recurrent_kernels(table); }

}  // namespace qw::kernels::avx512
QW_TARGET_END

#endif  // QW_X86
