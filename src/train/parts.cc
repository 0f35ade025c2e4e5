#include "train/internal/parts.h"

namespace qw::train {

std::vector<Node> nodes_of(std::int64_t begin, std::int64_t end) {
  std::vector<Node> out;
  for (std::int64_t part = begin; part < end; ++part) {
    Node node{0, part};
    while (!out.empty() && siblings(out.back(), node)) {
      out.pop_back();
      node = parent(node);
    }
    out.push_back(node);
  }
  return out;
}

void add(float* a, const float* b, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) a[i] += b[i];
}

void append(std::vector<Addend>& before, Addend next, std::int64_t n) {
  while (!before.empty() && siblings(before.back().node, next.node)) {
    add(before.back().data, next.data, n);
    next = {parent(next.node), before.back().data};
    before.pop_back();
  }
  before.push_back(next);
}

float* finish(std::vector<Addend>& all, std::int64_t n) {
  while (all.size() > 1) {
    const Addend last = all.back();
    all.pop_back();
    add(all.back().data, last.data, n);
  }
  return all.front().data;
}

Communicator::Range share_of(std::int64_t count, int rank, int size) {
  return {count * rank / size, count * (rank + 1) / size};
}

}  // namespace qw::train
