// The largest components of a matrix, as PiSSA (Meng et al., 2024) starts adapters from them.
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace qw::train {

// W [rows, columns] is about B A: A [rank, columns], B [rows, rank], of the `rank` largest singular values s_i, the
// i-th row of A and column of B being the singular vectors times sqrt(s_i). By subspace iteration from draws of `seed`
// (Halko et al., 2011), in float32: what is left out of W is within some thousandths of what an exact decomposition
// leaves. The same bytes for every thread count. rank <= min(rows, columns).
void largest_components(const float* w, std::int64_t rows, std::int64_t columns, std::int64_t rank, std::uint64_t seed,
                        const kernels::Kernels& kernels, base::ThreadPool& pool, std::span<float> a,
                        std::span<float> b);

}  // namespace qw::train
