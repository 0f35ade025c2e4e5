// Which 16-bit type of a cache a table attends over the faster: what a cache is in where nobody names a type.
#pragma once

#include "kernels/kernels.h"

namespace qw::kernels {

// kBF16 where pairs of it are multiplied: by tiles (AMX), by vectors where base::bfloat_dots_pay; else kF16.
CacheType fast_halves(Isa isa);

}  // namespace qw::kernels
