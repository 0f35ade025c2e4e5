// Reads the fields of a JSON request with checks, and remembers which fields nobody asked for.
//
// Unknown fields are accepted (strict servers break clients) and reported, so that a reply header can name them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "api/error.h"
#include "api/field_notes.h"
#include "json/value.h"

namespace qw::api {

// The member if it is a string, else "".
std::string text_member(const json::Value& object, const char* key);
// The member if it is an integer, else 0.
std::int64_t integer_member(const json::Value& object, const char* key);

class FieldReader {
 public:
  explicit FieldReader(const json::Object& object);

  // Null counts as absent. A wrong type or a number out of [low, high] is recorded as the error; the first one wins.
  // `shape`: what the caller will take, as a JSON Schema; it is documentation (field_notes.h), and checked by nobody.
  std::optional<std::string> text(const char* name);
  std::optional<std::string> choice(const char* name, std::initializer_list<const char*> allowed);
  std::optional<bool> boolean(const char* name);
  std::optional<double> number(const char* name, double low, double high);
  std::optional<std::int64_t> integer(const char* name, std::int64_t low, std::int64_t high);
  const json::Value* any(const char* name, const char* shape = "");  // present and not null, or nullptr
  const json::Array* array(const char* name, const char* shape = "");
  const json::Object* object(const char* name, const char* shape = "");
  // The one of these that is there; none of them, and more than one, are errors.
  const char* one_of(std::initializer_list<const char*> names, const char* shape = "");

  void reject(std::string param, std::string message);  // records an error found by the caller
  // Fields that need no action here (accepted on purpose): not reported as unknown.
  void known(std::initializer_list<const char*> names);
  // Fields that would change the answer and are not supported: an error if one is there.
  void refuse(std::initializer_list<const char*> names);

  const std::optional<ApiError>& error() const { return error_; }
  bool takes_notes() const { return notes_ != nullptr; }  // it is read to be described, and nothing is asked
  std::vector<std::string> unknown() const;  // present, never asked for, in order

 private:
  const json::Value* find(const char* name);  // present and not null, or nullptr
  const json::Object* object_;
  std::uint64_t beginnings_ = 0;  // a bit of each that a member's name has: most of what is asked for is not there
  FieldNotes* notes_;  // null: nobody takes notes
  std::vector<const json::Value*> asked_;  // members that are there and were asked for, nulls too
  std::optional<ApiError> error_;
};

}  // namespace qw::api
