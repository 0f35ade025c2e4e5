// Row kernels: the shared source compiled for NEON.
#include <cstdint>

#include "base/result.h"
#include "kernels/internal/exp.h"
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"

#if QW_NEON

namespace qw::kernels::neon {
namespace {
#include "kernels/internal/vec_neon.inc"
// After the vocabulary it is written in.
#include "kernels/internal/rows.inc"
}  // namespace

void fill_rows(Kernels& table) { fill_row_kernels(table); }

}  // namespace qw::kernels::neon
#endif  // QW_NEON
