#include "kernels/internal/fill.h"

namespace qw::kernels::avx2 {

void fill_matmul(Kernels&) {}

}  // namespace qw::kernels::avx2
