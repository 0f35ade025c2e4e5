// Row kernels: the shared source compiled for this instruction set.
#include <cstdint>

#include "base/result.h"
#include "kernels/internal/exp.h"
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"

#if QW_X86

QW_TARGET_AVX2_BEGIN
namespace qw::kernels::avx2 {
namespace {
#include "kernels/internal/vec_avx2.inc"
#include "kernels/internal/rows.inc"
}  // namespace

void fill_rows(Kernels& table) { fill_row_kernels(table); }

}  // namespace qw::kernels::avx2
QW_TARGET_END

#endif  // QW_X86
