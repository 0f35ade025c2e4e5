// Who makes the functions of codes.h.
#pragma once

#include "kernels/codes.h"

namespace qw::kernels {
namespace portable {
CodeKernels code_kernels();
}
namespace avx512 {
CodeKernels code_kernels();
}
}  // namespace qw::kernels
