// Where something stands in a template, and the errors that say it.
#pragma once

#include <string_view>

#include "base/result.h"

namespace qw::chat::internal {

// Counted from 1. Columns count characters; "\r\n" is one line end.
struct Place {
  int line = 1;
  int column = 1;
};

// "chat template line N, column M: message", on one line.
tl::unexpected<Error> template_error(Place place, std::string_view message);

}  // namespace qw::chat::internal
