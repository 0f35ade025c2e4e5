// How a program grows, whoever writes it.
#pragma once

#include "ops/program.h"

namespace qw::ops {

// Appends an operation whose inputs are values of the program, and gives what it makes, `width` wide; 0: nothing.
Value append_op(Program& program, Op op, std::int32_t width);

}  // namespace qw::ops
