// How long steps take, learnt from those that were measured: a fixed part (reading weights) and a part for each row.
// Recursive least squares with forgetting, so that it follows the depth of the contexts and the load of the machine.
// What it says decides how much is computed together, never what comes out.
#pragma once

#include <algorithm>
#include <cstdint>

namespace qw::engine {

class StepClock {
 public:
  void add(std::int64_t rows, double seconds) {
    if (seconds <= 0 || rows <= 0) return;
    for (double* sum : {&n_, &x_, &xx_, &y_, &xy_}) *sum *= kMemory;
    const auto r = static_cast<double>(rows);
    n_ += 1, x_ += r, xx_ += r * r, y_ += seconds, xy_ += r * seconds;
  }
  bool knows() const { return n_ > kFewest; }
  // Seconds of a step of so many rows.
  double seconds(std::int64_t rows) const { return fixed() + each() * static_cast<double>(rows); }
  // Rows of a step that takes about so long, at least 0.
  std::int64_t rows(double seconds) const {
    const double left = std::max(0.0, seconds - fixed());
    return each() > 0 ? static_cast<std::int64_t>(std::min(left / each(), 1e9)) : 0;
  }

 private:
  static constexpr double kMemory = 0.98;  // half of what is known is from the last 34 steps
  static constexpr double kFewest = 4;     // steps before it is believed
  double each() const {
    const double spread = n_ * xx_ - x_ * x_;
    // All steps alike: nothing is known of the fixed part, all goes to the rows.
    if (spread <= 1e-3 * n_ * xx_) return y_ / x_;
    return std::clamp((n_ * xy_ - x_ * y_) / spread, 0.02 * y_ / x_, y_ / x_);
  }
  double fixed() const { return std::max(0.0, (y_ - each() * x_) / n_); }

  double n_ = 0, x_ = 0, xx_ = 0, y_ = 0, xy_ = 0;
};

}  // namespace qw::engine
