#include "kernels/internal/fill.h"

namespace qw::kernels::portable {

void fill_attention(Kernels&) {}

}  // namespace qw::kernels::portable
