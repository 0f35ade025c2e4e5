// The pieces of JSON texts (RFC 8259) as expressions: strings, numbers, spaces. For json_schema.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "sampling/grammar/source.h"

namespace qw::sampling::grammar {

// One character of a set as a JSON string holds it: itself, or its shortest escape.
Node json_characters(Source& source, CodePoints set);
// One character of any string, in any spelling but that of half a surrogate pair.
Node any_json_character(Source& source);
// The text of a string whose characters spell none of `names`, quotes included. Only shortest spellings: another
// spelling could name one of them unseen.
Node json_string_except(Source& source, std::span<const std::string> names);

// Bounds are inclusive; absent: none.
Node json_integer(Source& source, std::optional<std::int64_t> min, std::optional<std::int64_t> max);
struct NumberBound {
  std::int64_t value = 0;
  bool exclusive = false;
};
// Nothing comes back if no number is between the bounds.
std::optional<Node> json_number(Source& source, std::optional<NumberBound> min, std::optional<NumberBound> max);

}  // namespace qw::sampling::grammar
