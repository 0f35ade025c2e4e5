// Recurrent layers: the shared source compiled for NEON.
#include <cstddef>
#include <cstdint>

#include "kernels/internal/exp.h"
#include "kernels/internal/fill.h"
#include "kernels/internal/target.h"

#if QW_NEON

namespace qw::kernels::neon {
namespace {
#include "kernels/internal/vec_neon.inc"
// 32 columns of a key of 128: 16 KiB of state, half of a first cache; 24 of 32 registers.
constexpr int kStateVecs = 8;
// In chunks: tiles of so many rows and vectors of columns, of so many rows where they are answered; up to how many rows take a
// strip's columns at once.
constexpr int kTileRows = 6, kTileVecs = 4, kFewRows = 3, kAnswerRows = 2;
#include "kernels/internal/recurrent.inc"
}  // namespace

void fill_recurrent(Kernels& table) { fill_recurrent_kernels(table); }

}  // namespace qw::kernels::neon

#endif  // QW_NEON
