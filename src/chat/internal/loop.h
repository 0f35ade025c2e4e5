// The `loop` object of a for statement: position, neighbours, and on-demand fetching of the next item.
#pragma once

#include <functional>

#include "chat/internal/value.h"

namespace qw::chat::internal {

struct Node;
struct Activation;

struct Loop final : Heap {
  // Gives the next item that passes the loop's filter, or missing at the end. Cleared when the loop is over.
  std::function<Result<Value>()> fetch;
  std::int64_t known_length = -1;  // of the iterated container, if it has one
  std::int64_t index0 = -1;
  std::int64_t depth0 = 0;
  int depth_of_values = 0;  // nesting of the iterated container
  Value before, current, after;
  Values fetched;  // items taken early to count them
  std::size_t fetched_next = 0;
  Values last_changed;
  bool has_changed = false;
  const Node* recursive = nullptr;  // the statement, if it may call itself
  Activation* defined_in = nullptr;

  Result<Value> next();  // missing at the end
  Result<Value> peek();
  Result<std::int64_t> length();
};

}  // namespace qw::chat::internal
