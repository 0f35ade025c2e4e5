#include "api/field_reader.h"

#include <cmath>

namespace qw::api {

std::string text_member(const json::Value& object, const char* key) {
  const json::Value* value = object.find(key);
  return value != nullptr && value->is_string() ? value->as_string() : std::string();
}

std::int64_t integer_member(const json::Value& object, const char* key) {
  const json::Value* value = object.find(key);
  return value != nullptr && value->is_int() ? value->as_int() : 0;
}

void FieldReader::reject(std::string param, std::string message) {
  if (!error_) error_ = bad_request(std::move(param), std::move(message));
}

void FieldReader::known(std::initializer_list<const char*> names) {
  for (const char* name : names) asked_.insert(name);
}

const json::Value* FieldReader::any(const char* name) {
  asked_.insert(name);
  const json::Value* value = object_->find(name);
  return value != nullptr && !value->is_null() ? value : nullptr;
}

namespace {
std::string wrong_type(const char* name, const char* expected, const json::Value& got) {
  return std::string("'") + name + "' must be " + expected + ", not " + got.type_name() + ".";
}
}  // namespace

std::optional<std::string> FieldReader::text(const char* name) {
  const json::Value* v = any(name);
  if (v == nullptr) return std::nullopt;
  if (!v->is_string()) {
    reject(name, wrong_type(name, "a string", *v));
    return std::nullopt;
  }
  return v->as_string();
}

std::optional<bool> FieldReader::boolean(const char* name) {
  const json::Value* v = any(name);
  if (v == nullptr) return std::nullopt;
  if (!v->is_bool()) {
    reject(name, wrong_type(name, "a boolean", *v));
    return std::nullopt;
  }
  return v->as_bool();
}

std::optional<double> FieldReader::number(const char* name, double low, double high) {
  const json::Value* v = any(name);
  if (v == nullptr) return std::nullopt;
  if (!v->is_number()) {
    reject(name, wrong_type(name, "a number", *v));
    return std::nullopt;
  }
  const double d = v->as_double();
  if (!(d >= low && d <= high)) {
    reject(name, std::string("'") + name + "' must be between " + json::python_float(low) + " and " +
                     json::python_float(high) + ", not " + json::python_float(d) + ".");
    return std::nullopt;
  }
  return d;
}

std::optional<std::int64_t> FieldReader::integer(const char* name, std::int64_t low, std::int64_t high) {
  const json::Value* v = any(name);
  if (v == nullptr) return std::nullopt;
  // Some clients send whole numbers as 5.0; 2^53 bounds what a double holds exactly.
  const bool whole =
      v->is_double() && std::trunc(v->as_double()) == v->as_double() && std::fabs(v->as_double()) < 0x1p53;
  if (!v->is_int() && !whole) {
    reject(name, wrong_type(name, "an integer", *v));
    return std::nullopt;
  }
  const std::int64_t i = v->is_int() ? v->as_int() : static_cast<std::int64_t>(v->as_double());
  if (i < low || i > high) {
    reject(name, std::string("'") + name + "' must be between " + std::to_string(low) + " and " + std::to_string(high) +
                     ", not " + std::to_string(i) + ".");
    return std::nullopt;
  }
  return i;
}

const json::Array* FieldReader::array(const char* name) {
  const json::Value* v = any(name);
  if (v == nullptr) return nullptr;
  if (!v->is_array()) {
    reject(name, wrong_type(name, "an array", *v));
    return nullptr;
  }
  return &v->as_array();
}

const json::Object* FieldReader::object(const char* name) {
  const json::Value* v = any(name);
  if (v == nullptr) return nullptr;
  if (!v->is_object()) {
    reject(name, wrong_type(name, "an object", *v));
    return nullptr;
  }
  return &v->as_object();
}

std::vector<std::string> FieldReader::unknown() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : *object_) {
    if (asked_.find(name) == asked_.end()) names.push_back(name);
  }
  return names;
}

}  // namespace qw::api
