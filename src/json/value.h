// JSON as the house uses it: an ordered value, a reader with limits, and a writer that spells like Python.
//
// Objects keep the order of their keys, because chat templates print them back. Integers and floats are told apart,
// because Python's json does. The third-party reader hides in internal/ and .cc files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace qw::json {

class Value;
using Array = std::vector<Value>;
using Member = std::pair<std::string, Value>;

// Key-value pairs in order of insertion. Look-up is linear up to 16 keys, indexed above (documents are foreign bytes).
class Object {
 public:
  Object();
  Object(std::initializer_list<Member> members);
  Object(const Object&);
  Object(Object&&) noexcept;
  Object& operator=(const Object&);
  Object& operator=(Object&&) noexcept;
  ~Object();

  const Value* find(std::string_view key) const;  // nullptr if absent
  const Value* find_set(std::string_view key) const;  // nullptr if absent or null, which configurations mean the same by
  Value* find(std::string_view key);
  // Sets or replaces; a replaced key keeps its place.
  Value& set(std::string key, Value value);
  bool erase(std::string_view key);
  std::size_t size() const;
  bool empty() const { return size() == 0; }
  const Member* begin() const;
  const Member* end() const;
  Member* begin();
  Member* end();

 private:
  struct Impl;
  Impl* impl_;
};

class Value {
 public:
  Value() = default;  // null
  Value(std::nullptr_t) {}
  Value(bool b) : data_(b) {}
  Value(int i) : data_(std::int64_t{i}) {}
  Value(std::int64_t i) : data_(i) {}
  Value(std::uint64_t u);  // values above 2^63-1 become double
  Value(double d) : data_(d) {}
  Value(const char* s) : data_(std::string(s)) {}
  Value(std::string s) : data_(std::move(s)) {}
  Value(std::string_view s) : data_(std::string(s)) {}
  Value(Array a) : data_(std::move(a)) {}
  Value(Object o) : data_(std::move(o)) {}

  bool is_null() const { return std::holds_alternative<std::monostate>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<std::int64_t>(data_); }
  bool is_double() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_int() || is_double(); }
  bool is_string() const { return std::holds_alternative<std::string>(data_); }
  bool is_array() const { return std::holds_alternative<Array>(data_); }
  bool is_object() const { return std::holds_alternative<Object>(data_); }
  const char* type_name() const;  // "null", "boolean", "integer", "number", "string", "array", "object"

  // Checked by QW_CHECK: ask is_*() first.
  bool as_bool() const { return std::get<bool>(data_); }
  std::int64_t as_int() const { return std::get<std::int64_t>(data_); }
  double as_double() const { return is_int() ? static_cast<double>(as_int()) : std::get<double>(data_); }
  const std::string& as_string() const { return std::get<std::string>(data_); }
  const Array& as_array() const { return std::get<Array>(data_); }
  Array& as_array() { return std::get<Array>(data_); }
  const Object& as_object() const { return std::get<Object>(data_); }
  Object& as_object() { return std::get<Object>(data_); }

  // Member of an object, or nullptr (also when this is not an object).
  const Value* find(std::string_view key) const { return is_object() ? as_object().find(key) : nullptr; }

  friend bool operator==(const Value& a, const Value& b);

 private:
  std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object> data_;
};

struct ReadLimits {
  std::size_t max_bytes = std::size_t{1} << 30;
  int max_depth = 64;
};

// Strict RFC 8259; duplicate keys: the last wins in the first's place. The error names the byte offset.
Result<Value> parse(std::string_view text, ReadLimits limits = {});

struct WriteStyle {
  int indent = -1;                    // -1: one line
  bool ensure_ascii = false;          // true: \uXXXX for everything above 0x7e
  const char* item_separator = ", ";  // Python's defaults; compact() below uses "," and ":"
  const char* key_separator = ": ";
  static WriteStyle compact() { return {-1, false, ",", ":"}; }
};

// As Python's json.dumps: "NaN"/"Infinity" spelled so, floats by shortest round-trip repr (1.0, 1e+16, 1e-05).
std::string dump(const Value& value, const WriteStyle& style = {});
// Python's repr(float), shared with the template interpreter.
std::string python_float(double d);

}  // namespace qw::json
