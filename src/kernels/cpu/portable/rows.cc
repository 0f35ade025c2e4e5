#include "kernels/internal/fill.h"

namespace qw::kernels::portable {

void fill_rows(Kernels&) {}

}  // namespace qw::kernels::portable
