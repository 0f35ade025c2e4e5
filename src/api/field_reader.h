// Reads the fields of a JSON request with checks, and remembers which fields nobody asked for.
//
// Unknown fields are accepted (strict servers break clients) and reported, so that a reply header can name them.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/error.h"
#include "json/value.h"

namespace qw::api {

// The member if it is a string, else "".
std::string text_member(const json::Value& object, const char* key);
// The member if it is an integer, else 0.
std::int64_t integer_member(const json::Value& object, const char* key);

class FieldReader {
 public:
  explicit FieldReader(const json::Object& object) : object_(&object) {}

  // Null counts as absent. A wrong type or a number out of [low, high] is recorded as the error; the first one wins.
  std::optional<std::string> text(const char* name);
  std::optional<bool> boolean(const char* name);
  std::optional<double> number(const char* name, double low, double high);
  std::optional<std::int64_t> integer(const char* name, std::int64_t low, std::int64_t high);
  const json::Value* any(const char* name);  // present and not null, or nullptr
  const json::Array* array(const char* name);
  const json::Object* object(const char* name);

  void reject(std::string param, std::string message);  // records an error found by the caller
  // Fields that need no action here (accepted on purpose): not reported as unknown.
  void known(std::initializer_list<const char*> names);

  const std::optional<ApiError>& error() const { return error_; }
  std::vector<std::string> unknown() const;  // present, never asked for, in order

 private:
  const json::Object* object_;
  std::set<std::string, std::less<>> asked_;
  std::optional<ApiError> error_;
};

}  // namespace qw::api
