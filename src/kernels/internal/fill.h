// Each instruction set fills the parts of the function table it has its own code for. kernels.cc starts every table from
// the portable fill and lays the others over it, so a part an instruction set does not override is the portable one.
#pragma once

#include "kernels/kernels.h"

namespace qw::kernels {

#define QW_DECLARE_FILLS        \
  void fill_matmul(Kernels&);    \
  void fill_gemm(Kernels&);      \
  void fill_rows(Kernels&);      \
  void fill_attention(Kernels&);  \
  void fill_recurrent(Kernels&);

namespace portable {
QW_DECLARE_FILLS
}
namespace neon {
QW_DECLARE_FILLS
// The products as a processor with these features runs them; the others are those of base::arm_features().
void fill_matmul(Kernels&, base::ArmFeatures);
void fill_gemm(Kernels&, base::ArmFeatures);
}
namespace avx2 {
QW_DECLARE_FILLS
}
namespace avx512 {
QW_DECLARE_FILLS
// With VDPBF16PS for bfloat16 weights, or with float multiply-adds; the other goes by base::bfloat_dots_pay().
void fill_matmul(Kernels&, bool bfloat_dots);
// The same choice for a cache of bfloat16.
void fill_attention(Kernels&, bool bfloat_dots);
}
namespace amx {  // over a table that avx512 has filled
void fill_matmul(Kernels&);
void fill_gemm(Kernels&);
void fill_attention(Kernels&);
}

#undef QW_DECLARE_FILLS

}  // namespace qw::kernels
