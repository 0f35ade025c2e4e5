// Which values of a program may share memory because an op works in place.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/program.h"

namespace qw::ops {

// For each value, the value whose memory it uses: itself, or (through a chain) the input of the op that made it.
//  - rope turns its input in place when nobody else reads it, and sums over a group are made there;
//  - add writes over the summand nobody else reads.
// `keep_attention`: the output of attention must survive (its gradient reads it), so nothing is written over it.
std::vector<std::int32_t> forward_roots(const Program& program, bool keep_attention);

// How many ops read each value; one more of a value that is kept after the pass.
std::vector<std::int32_t> reader_counts(const Program& program);

}  // namespace qw::ops
