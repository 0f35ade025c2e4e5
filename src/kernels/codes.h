// Numbers in bytes: the nearest of 256 values to each, over the largest magnitude of its block. What 8-bit optimizers
// keep their moments in. All instruction sets give the same bytes.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/cpu.h"

namespace qw::kernels {

// The values a code stands for, and how they are found.
struct CodeBook {
  std::array<float, 256> values;                        // ascending
  std::array<std::array<std::uint8_t, 256>, 4> planes;  // the same by bytes, the lowest first
  // By the upper 16 bits of a float: code << 24 | border. Of the floats with these bits, those whose lower 16 bits are
  // less than the border have that code, the others the next one; below zero (where larger bits are lesser numbers) it
  // is the other way round.
  std::vector<std::uint32_t> nearest;
};
// Of numbers equally near to two values the lower one is taken; what is no number gets code 0. No two middles between
// values may share the upper 16 bits of a float.
CodeBook code_book(const std::array<float, 256>& ascending);

struct CodeKernels {
  // codes[i] = the nearest to x[i] / scale. Returns the scale: the largest magnitude in x [n], 0 if all are 0.
  float (*close)(const CodeBook&, const float* x, std::int64_t n, std::uint8_t* codes);
  // x[i] = scale * values[codes[i]]
  void (*open)(const CodeBook&, const std::uint8_t* codes, std::int64_t n, float scale, float* x);
};
// Those of an instruction set; it must not exceed base::best_isa().
const CodeKernels& code_kernels(base::Isa isa);

}  // namespace qw::kernels
