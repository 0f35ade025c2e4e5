#include "kernels/internal/fill.h"

namespace qw::kernels::avx512 {

void fill_attention(Kernels&) {}

}  // namespace qw::kernels::avx512
