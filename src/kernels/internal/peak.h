// What a core can do at most: the yardstick of the benchmarks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace qw::kernels {

enum class PeakKind : std::uint8_t {
  kFloat,       // fused multiply-add on float32
  kBfloat,      // VDPBF16PS
  kByte,        // VPDPBUSD
  kBfloatTile,  // TDPBF16PS
  kByteTile,    // TDPBUSD
};

// Processor time of the calling thread: what other programs take of a shared machine does not count.
double thread_seconds();

// Operations per second (a multiply-add counts two) of independent instructions on registers alone, on the calling
// thread; the best of a few short runs. 0 where the instruction set has no such instruction.
double measured_peak_ops(Isa isa, PeakKind kind);

// Bytes per second at which one thread reads `bytes` bytes of memory forward; the best of a few runs.
double measured_read_bandwidth(const void* data, std::size_t bytes);

}  // namespace qw::kernels
