// What `admin` and `serve` share: which store; and how the answers of `admin` look to people.
#pragma once

#include <string>

#include "base/result.h"
#include "json/value.h"

namespace qw::app {

// `given` (--store), else QW_STORE, else "".
std::string store_url(const std::string& given);
// The same with a default: $XDG_DATA_HOME/qianwen/state.db, whose folder is made.
Result<std::string> store_url_or_default(const std::string& given);

// JSON on standard output, or a table (of an array of objects) or lines (of an object) for people.
void show(const json::Value& value, bool json);

}  // namespace qw::app
