#include "kernels/internal/fill.h"

namespace qw::kernels::avx512 {

void fill_rows(Kernels&) {}

}  // namespace qw::kernels::avx512
