// How operations read what they are asked with, and what they answer: each reads all its arguments, asks `fine`, and
// only then touches the store.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "api/admin/objects.h"
#include "api/field_reader.h"
#include "base/result.h"
#include "json/value.h"

namespace qw::api::admin {

constexpr std::int64_t kUnbounded = std::numeric_limits<std::int64_t>::max();

// A text that may not be left out.
std::string needed(FieldReader& in, const char* name);
// A list of texts.
std::optional<std::vector<std::string>> words(FieldReader& in, const char* name);
// A number; or its digits, as a query has them.
std::optional<std::int64_t> count(FieldReader& in, const char* name, std::int64_t low, std::int64_t high);
// "12.50", or a number of JSON; "" if there is none.
std::string amount(FieldReader& in, const char* name, bool is_needed = false);
// What is wrong with what was read (kBadInput), or that the reader only takes notes (kUsage).
Status fine(const FieldReader& in);

// What came of it, for machines.
template <class T>
Result<json::Value> one(Result<T> made) {
  return made.map([](const T& x) { return to_json(x); });
}
template <class T>
Result<json::Value> all(Result<std::vector<T>> found) {
  return found.map([](const std::vector<T>& list) {
    json::Array out;
    for (const T& x : list) out.push_back(to_json(x));
    return json::Value(std::move(out));
  });
}
inline Result<json::Value> done(const Status& status) {
  return status.map([] { return json::Value(json::Object{{"done", true}}); });
}

// What comes back, with nothing in it.
template <class T>
json::Value example() {
  return to_json(T{});
}
inline json::Value done_example() { return json::Object{{"done", true}}; }

}  // namespace qw::api::admin
