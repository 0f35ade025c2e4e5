#include "kernels/internal/fill.h"

namespace qw::kernels::avx512 {

void fill_matmul(Kernels&) {}

}  // namespace qw::kernels::avx512
