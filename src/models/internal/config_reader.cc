#include "models/internal/config_reader.h"

#include <cmath>

namespace qw::models {

const json::Value* ConfigReader::find(std::string_view key) const {
  return object_.find_set(prefix_ + std::string(key));
}

bool ConfigReader::holds_null(std::string_view key) const {
  const json::Value* value = object_.find(prefix_ + std::string(key));
  return value != nullptr && value->is_null();
}

tl::unexpected<Error> ConfigReader::bad(std::string_view key, const std::string& what) const {
  return fail(ErrorKind::kBadInput, prefix_ + std::string(key) + ": " + what);
}

Result<std::int64_t> ConfigReader::integer(std::string_view key, std::int64_t low, std::int64_t high,
                                           std::optional<std::int64_t> otherwise) const {
  const json::Value* value = find(key);
  if (value == nullptr) {
    if (otherwise) return *otherwise;
    return bad(key, "missing");
  }
  if (!value->is_int()) return bad(key, std::string("must be an integer, is ") + value->type_name());
  const std::int64_t i = value->as_int();
  if (i < low || i > high)
    return bad(key, std::to_string(i) + " is outside " + std::to_string(low) + " to " + std::to_string(high));
  return i;
}

Result<double> ConfigReader::number(std::string_view key, double low, double high,
                                    std::optional<double> otherwise) const {
  const json::Value* value = find(key);
  if (value == nullptr) {
    if (otherwise) return *otherwise;
    return bad(key, "missing");
  }
  if (!value->is_number()) return bad(key, std::string("must be a number, is ") + value->type_name());
  const double d = value->as_double();
  if (!std::isfinite(d) || d < low || d > high)
    return bad(key,
               json::python_float(d) + " is outside " + json::python_float(low) + " to " + json::python_float(high));
  return d;
}

Result<bool> ConfigReader::boolean(std::string_view key, bool otherwise) const {
  const json::Value* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_bool()) return bad(key, std::string("must be true or false, is ") + value->type_name());
  return value->as_bool();
}

Result<std::string> ConfigReader::string(std::string_view key, std::optional<std::string> otherwise) const {
  const json::Value* value = find(key);
  if (value == nullptr) {
    if (otherwise) return *otherwise;
    return bad(key, "missing");
  }
  if (!value->is_string()) return bad(key, std::string("must be a string, is ") + value->type_name());
  return value->as_string();
}

}  // namespace qw::models
