#include "kernels/internal/fill.h"

namespace qw::kernels::avx2 {

void fill_gemm(Kernels&) {}

}  // namespace qw::kernels::avx2
