// What this machine can do at most with some number of threads at once: the yardstick of `qianwen bench --limits`.
#pragma once

#include <cstddef>

#include "base/thread_pool.h"

namespace qw::kernels {

// All threads together. 0: the processor (or the system) does not offer it.
struct MachineLimits {
  double read_bytes = 0;  // bytes a second read from memory, forward
  // Operations a second on registers alone; a multiply-add counts two.
  double float_ops = 0;        // float32, the widest vectors
  double bfloat_ops = 0;       // bfloat16 dot products of vectors (AVX512-BF16)
  double byte_ops = 0;         // 8-bit dot products of vectors (AVX512-VNNI)
  double bfloat_tile_ops = 0;  // of tiles (AMX-BF16)
  double byte_tile_ops = 0;    // of tiles (AMX-INT8)
};

// Measures with every thread of `pool`, for about a second. The threads read `bytes` of memory together: give as many
// as the weights of a model have, for a large cache may hold a small model. Takes that much memory meanwhile.
MachineLimits measured_limits(base::ThreadPool& pool, std::size_t bytes);

}  // namespace qw::kernels
