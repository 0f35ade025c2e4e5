// What may be asked of the administration: one list, performed for `qianwen admin` and for the routes /admin/v1 alike.
//
// Arguments are a JSON object; one that no operation reads is refused, as it is a mistake. Everything that changes may
// be sent twice: what is set is set to the same, what has a name exists already, what is gone stays gone; a key is made
// once for each `repeat_id`.
// Errors: kBadInput for arguments that make no sense and for what does not exist; kFailed where the store fails.
// Threads: any; blocks for as long as the store takes.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "api/field_reader.h"
#include "base/result.h"
#include "json/value.h"
#include "store/store.h"

namespace qw::api::admin {

struct Operation {
  std::string_view name;    // "keys.rotate"
  std::string_view method;  // "GET", "POST" or "DELETE"
  // Below /admin/v1, such as "/keys/{key}/rotate": what stands in braces is an argument; that of "{model*}" may hold
  // slashes.
  std::string_view path;
  const char* summary;  // for people
  // Of a reader that takes notes: reads all its arguments, and fails without having touched the store, which is null.
  Result<json::Value> (*run)(store::Store* store, FieldReader& arguments);
  json::Value (*example)();  // one of what comes back, with nothing in it
  bool lists = false;        // it is a list of those

  bool changes() const { return method != "GET"; }
};

std::span<const Operation> operations();
std::span<const Operation> tenant_operations();  // the first of them: organisations to keys
std::span<const Operation> money_operations();   // limits to what was used
std::span<const Operation> case_operations();    // complaints, conduct, and what is held of people
// The one of that name, which must be there.
const Operation& operation(std::string_view name);

// What `run` reads, as a JSON Schema, but for the argument in the path: of those that change something the body, of the
// others the query.
json::Object arguments_of(const Operation& operation);

// An array of what is listed, or an object of what was made, set or ended.
Result<json::Value> perform(const Operation& operation, store::Store& store, const json::Object& arguments);

// Whether there is a `kind` ("organisation", "project", "user", "key", "role", "budget", "complaint", "person" (a user
// or a key), "minor", "model" with a price) of that id or name.
Result<bool> exists(store::Store& store, std::string_view kind, const std::string& where);

// "project:NAME" to "project:ID".
Result<std::string> subject_of(store::Store& store, const std::string& text);

}  // namespace qw::api::admin
