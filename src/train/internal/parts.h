// The gradient of a step as a sum over parts, in an order that does not depend on who computes which part: a binary
// tree over the parts, 2i and 2i + 1 of a level giving i of the next; a part that has no neighbour goes up alone.
//
// A node that is complete, level l, index i, is the sum of the parts i 2^l .. (i + 1) 2^l - 1. Somebody who has some
// parts in a row adds up what nodes are within them and hands those on: the same additions take place wherever they do.
#pragma once

#include <cstdint>
#include <vector>

#include "train/communicator.h"

namespace qw::train {

struct Node {
  int level = 0;
  std::int64_t index = 0;
  bool operator==(const Node&) const = default;
};
// Whether `right` stands beside `left` below one node of the next level.
inline bool siblings(const Node& left, const Node& right) {
  return left.level == right.level && left.index % 2 == 0 && right.index == left.index + 1;
}
inline Node parent(const Node& node) { return {node.level + 1, node.index / 2}; }

// The nodes that the parts [begin, end) make, in order.
std::vector<Node> nodes_of(std::int64_t begin, std::int64_t end);

// Nodes with their numbers, as they are put together from left to right; the numbers of the left one become the sum.
struct Addend {
  Node node;
  float* data = nullptr;
};
// Adds `next` behind those before, and whatever is complete then. n: numbers of a node.
void append(std::vector<Addend>& before, Addend next, std::int64_t n);
// The sum of all of them, in the first's place; after the last part. Not of none.
float* finish(std::vector<Addend>& all, std::int64_t n);
// a += b
void add(float* a, const float* b, std::int64_t n);

// Which of `count` things rank r of `size` has, when they are dealt out in runs.
Communicator::Range share_of(std::int64_t count, int rank, int size);

}  // namespace qw::train
