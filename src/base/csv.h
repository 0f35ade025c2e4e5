// Tables as text, a row a line.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::base {

struct CsvRow {
  std::size_t line = 0;  // where it begins, from 1
  std::vector<std::string> fields;
};
// As RFC 4180 has them; lines may end either way, a byte order mark goes, and blank lines are none. kBadInput: a quote
// that is not closed, or followed by text.
Result<std::vector<CsvRow>> parse_csv(std::string_view bytes);

// A row of these fields, with its end. (A row of one empty field is a blank line.)
std::string csv_row(const std::vector<std::string>& fields);

}  // namespace qw::base
