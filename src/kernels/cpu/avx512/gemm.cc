#include "kernels/internal/fill.h"

namespace qw::kernels::avx512 {

void fill_gemm(Kernels&) {}

}  // namespace qw::kernels::avx512
