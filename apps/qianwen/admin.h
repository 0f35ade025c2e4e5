// What `admin` and `serve` share: which store, and how its entities look to machines and people.
#pragma once

#include <memory>
#include <string>

#include "json/value.h"
#include "store/store.h"

namespace qw::app {

// `given` (--store), else QW_STORE, else "".
std::string store_url(const std::string& given);
// The same with a default: $XDG_DATA_HOME/qianwen/state.db, whose folder is made.
Result<std::string> store_url_or_default(const std::string& given);

// Billionths as a decimal ("0.000072"), and back; exact.
std::string decimal_of(std::int64_t billionths);
Result<std::int64_t> billionths_of(const std::string& text);

// Unix seconds, or null for never.
json::Value seconds_of(std::int64_t us);

json::Value to_json(const store::Organisation& o);
json::Value to_json(const store::Project& p);
json::Value to_json(const store::User& u);
json::Value to_json(const store::Role& r);
json::Value to_json(const store::Key& k);
json::Value to_json(const store::Limits& l);
json::Value to_json(const store::Budget& b);
json::Value to_json(const store::Price& p);
json::Value to_json(const store::UsageRow& r);
json::Value to_json(const store::UsageSum& s);

// JSON on standard output, or a table (of an array of objects) or lines (of an object) for people.
void show(const json::Value& value, bool json);

}  // namespace qw::app
