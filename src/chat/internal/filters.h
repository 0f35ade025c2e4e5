// The two tables of filters: on single values (filters.cc) and on sequences (sequence_filters.cc).
#pragma once

#include <string_view>

#include "chat/internal/interpreter.h"

namespace qw::chat::internal {

struct NamedFilter {
  std::string_view name;
  Builtin filter;
};

Builtin find_sequence_filter(std::string_view name);

}  // namespace qw::chat::internal
