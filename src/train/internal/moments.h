// Moments where each process of a run has a share of them, as checkpoints have them: whole.
#pragma once

#include <cstdint>
#include <vector>

#include "train/internal/gradient_sum.h"
#include "train/optimizer.h"

namespace qw::train {

enum class Moment : std::uint8_t { kFirst, kSecond, kFirstCodes, kSecondCodes };

// Of one parameter: [0] where there is none; codes are bytes, all else float32.
tensor::Shape whole_shape(const Optimizer& optimizer, Moment moment, std::size_t parameter);
// What this process has of it.
std::span<std::byte> held(Optimizer& optimizer, Moment moment, std::size_t parameter);
// Puts the shares of all processes of `share` into `whole` at its rank 0; elsewhere it stays empty.
Status collect(GradientSum& share, Optimizer& optimizer, Moment moment, std::size_t parameter,
               std::vector<std::byte>& whole);
// Takes this process's share of `whole`.
void take_share(const GradientSum& share, Optimizer& optimizer, Moment moment, std::size_t parameter,
                std::span<const std::byte> whole);

}  // namespace qw::train
