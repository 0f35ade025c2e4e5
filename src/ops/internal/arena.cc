#include "ops/internal/arena.h"

#include <algorithm>
#include <numeric>

#include "base/result.h"
#include "ops/machine.h"

namespace qw::ops {

int Arena::add(std::int64_t bytes, std::int32_t begin, std::int32_t end) {
  QW_CHECK(bytes >= 0 && begin <= end);
  buffers_.push_back({round_up(bytes, 64), 0, begin, end});
  return static_cast<int>(buffers_.size()) - 1;
}

void Arena::solve() {
  std::vector<std::size_t> order(buffers_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return buffers_[a].bytes > buffers_[b].bytes; });
  std::vector<const Buffer*> placed;  // sorted by offset
  bytes_ = 0;
  for (std::size_t i : order) {
    Buffer& buffer = buffers_[i];
    std::int64_t at = 0;
    for (const Buffer* other : placed) {
      if (other->end < buffer.begin || buffer.end < other->begin) continue;
      if (at + buffer.bytes <= other->offset) break;
      at = std::max(at, other->offset + other->bytes);
    }
    buffer.offset = at;
    bytes_ = std::max(bytes_, at + buffer.bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &buffer,
                                   [](const Buffer* a, const Buffer* b) { return a->offset < b->offset; }),
                  &buffer);
  }
}

}  // namespace qw::ops
