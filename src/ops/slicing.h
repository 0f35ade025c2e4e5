// A model cut over the processes of a tensor group, each of which holds one slice of every large matrix inside the
// layers (Shoeybi et al., "Megatron-LM", 2019).
//
// What enters attention and SwiGLU is cut by rows (queries, keys and values by heads, gate and up by columns of the
// hidden layer), what leaves them by columns. Between the two everything goes head by head or number by number, so a
// process works with its slice alone; around them a row of the model is whole and the same bytes everywhere:
//
//   x -- enter_group --> q, k, v [rows] --> attention --> o [columns] -- sum_group --> y
//
//   enter_group  forward: nothing; backward: the gradient becomes its sum over the group
//   sum_group    forward: the sum over the group; backward: nothing
//
// Embedding, norms and head stay whole. Which weights are cut follows from the program, not from names.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "ops/program.h"

namespace qw::ops {

enum class Cut : std::uint8_t { kWhole, kRows, kColumns };  // of a [out, in] matrix, or the rows of a bias [out]

struct Slicing {
  int slices = 1;
  std::vector<Cut> cuts;  // by parameter
  std::vector<bool>
      partial;  // by parameter: whole, but of its gradient each slice makes a part, and they add up (norms of heads)
  Cut cut(std::size_t parameter) const { return slices == 1 ? Cut::kWhole : cuts[parameter]; }
};

// How a program over so many parameters is cut. kUsage, saying what of it cannot be: heads or hidden columns that
// `slices` does not divide, experts, layers that carry a state.
Result<Slicing> slicing_of(const Program& whole, std::size_t parameters, int slices);
// The program of one slice; all slices have the same one.
Program sliced(const Program& whole, const Slicing& slicing);

// Shape of a slice; `whole` is divisible by `slices` where it is cut.
tensor::Shape slice_shape(const tensor::Shape& whole, Cut cut, int slices);
// Copies slice number `slice` out of a whole parameter, or into it.
void take_slice(const float* whole, const tensor::Shape& shape, Cut cut, int slices, int slice, float* out);
void put_slice(const float* from, const tensor::Shape& shape, Cut cut, int slices, int slice, float* whole);

}  // namespace qw::ops
