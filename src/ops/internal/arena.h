// Lays buffers with known lifetimes into one block of memory, so that buffers never alive together may share bytes.
#pragma once

#include <cstdint>
#include <vector>

namespace qw::ops {

class Arena {
 public:
  // A buffer alive from step `begin` to step `end`, both included. Returns its number.
  int add(std::int64_t bytes, std::int32_t begin, std::int32_t end);
  // Chooses offsets: largest first, each at the lowest place free during its life (greedy by size; Pisarchyk and Lee,
  // "Efficient memory management for deep neural net inference", 2020).
  void solve();
  std::int64_t offset(int buffer) const { return buffers_[static_cast<std::size_t>(buffer)].offset; }
  std::int64_t bytes() const { return bytes_; }

 private:
  struct Buffer {
    std::int64_t bytes, offset;
    std::int32_t begin, end;
  };
  std::vector<Buffer> buffers_;
  std::int64_t bytes_ = 0;
};

}  // namespace qw::ops
