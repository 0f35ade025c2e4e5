// How what the store holds about users and money looks to machines: one form for `qianwen admin --json` and for
// /admin/v1. Amounts of money are decimal strings, exact; times are Unix seconds or null.
#pragma once

#include <string>

#include "base/result.h"
#include "json/value.h"
#include "store/store.h"

namespace qw::api::admin {

// Billionths as a decimal ("0.000072"), and back; exact. kUsage: not an amount.
std::string decimal_of(std::int64_t billionths);
Result<std::int64_t> billionths_of(const std::string& text);

json::Value to_json(const store::Organisation& o);
json::Value to_json(const store::Project& p);
json::Value to_json(const store::User& u);
json::Value to_json(const store::Role& r);
json::Value to_json(const store::Key& k);
json::Value to_json(const store::NewKey& k);  // with its secret
json::Value to_json(const store::Limits& l);
json::Value to_json(const store::Budget& b);
json::Value to_json(const store::Price& p);
json::Value to_json(const store::UsageRow& r);
json::Value to_json(const store::UsageSum& s);
json::Value to_json(const store::Complaint& c);
json::Value to_json(const store::Conduct& c);
json::Value to_json(const store::Minor& m);
json::Value to_json(const store::HeldData& d);
json::Value to_json(const store::ErasedData& d);

// Rows of the ledger as lines of CSV; `head`: after a line of the columns' names.
std::string csv_of(const json::Array& rows, bool head);

}  // namespace qw::api::admin
