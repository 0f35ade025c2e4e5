// How much of the forward pass is run again in the backward pass, in place of keeping what it made.
#pragma once

namespace qw::ops {

// kSelective: what few passes over memory make (norms, rotations, gates); kFull: all of a layer but what enters it.
enum class Recompute { kNone, kSelective, kFull };

}  // namespace qw::ops
