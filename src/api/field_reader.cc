#include "api/field_reader.h"

#include <algorithm>
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

// Room for what requests usually state; a body may have any number of members.
static constexpr std::size_t kUsualFields = 16;

void FieldReader::reject(std::string param, std::string message) {
  if (notes_ != nullptr) notes_->missed(param);
  if (!error_) error_ = bad_request(std::move(param), std::move(message));
}

void FieldReader::known(std::initializer_list<const char*> names) {
  for (const char* name : names) any(name);
}

void FieldReader::refuse(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (any(name) != nullptr) reject(name, std::string("'") + name + "' is not supported.");
    if (notes_ != nullptr) notes_->refused(name);
  }
}

namespace {
// Which bit of 64 stands for names that begin like this one.
std::uint64_t bit_of_beginning(const char* name) {
  const auto first = static_cast<unsigned char>(name[0]);
  const unsigned second = first == 0 ? 0u : static_cast<unsigned char>(name[1]);
  return std::uint64_t{1} << ((first * 7u + second) % 64u);
}
}  // namespace

FieldReader::FieldReader(const json::Object& object) : object_(&object), notes_(FieldNotes::of(object)) {
  for (const auto& [name, value] : object) beginnings_ |= bit_of_beginning(name.c_str());
}

const json::Value* FieldReader::find(const char* name) {
  if ((beginnings_ & bit_of_beginning(name)) == 0) return nullptr;
  const json::Value* value = object_->find(name);
  if (value == nullptr) return nullptr;
  if (asked_.empty()) asked_.reserve(std::min(object_->size(), kUsualFields));
  if (std::find(asked_.begin(), asked_.end(), value) == asked_.end()) asked_.push_back(value);
  return value->is_null() ? nullptr : value;
}

namespace {
json::Object of_type(const char* type) { return {{"type", type}}; }
json::Object parsed(const char* shape, const char* type) {
  if (*shape == '\0') return type == nullptr ? json::Object{} : of_type(type);
  auto value = json::parse(shape);
  return value && value->is_object() ? std::move(value->as_object()) : json::Object{{"error", shape}};
}
std::string listed(std::initializer_list<const char*> names, const char* last) {
  std::string out;
  for (auto name = names.begin(); name != names.end(); ++name)
    out += (name == names.begin() ? "" : name + 1 == names.end() ? last : ", ") + std::string(*name);
  return out;
}
std::string wrong_type(const char* name, const char* expected, const json::Value& got) {
  return std::string("'") + name + "' must be " + expected + ", not " + got.type_name() + ".";
}
}  // namespace

const json::Value* FieldReader::any(const char* name, const char* shape) {
  if (notes_ != nullptr) notes_->field(name, parsed(shape, nullptr));
  return find(name);
}

const char* FieldReader::one_of(std::initializer_list<const char*> names, const char* shape) {
  const char* found = nullptr;
  for (const char* name : names) {
    if (any(name, shape) == nullptr) continue;
    if (found != nullptr) reject(name, std::string("'") + found + "' and '" + name + "' do not go together.");
    found = name;
  }
  if (notes_ != nullptr) {
    notes_->one_of(names);
  } else if (found == nullptr) {
    std::string quoted;
    for (const char* name : names) quoted += (quoted.empty() ? "'" : " or '") + std::string(name) + "'";
    reject(*names.begin(), "Either " + quoted + " is required.");
  }
  return found;
}

std::optional<std::string> FieldReader::choice(const char* name, std::initializer_list<const char*> allowed) {
  const auto word = text(name);
  if (notes_ != nullptr) {
    json::Array words;
    for (const char* one : allowed) words.emplace_back(one);
    notes_->field(name, {{"type", "string"}, {"enum", std::move(words)}});
  }
  if (!word) return std::nullopt;
  for (const char* one : allowed)
    if (*word == one) return word;
  reject(name, std::string("'") + name + "' must be " + listed(allowed, " or ") + ".");
  return std::nullopt;
}

std::optional<std::string> FieldReader::text(const char* name) {
  if (notes_ != nullptr) notes_->field(name, of_type("string"));
  const json::Value* v = find(name);
  if (v == nullptr) return std::nullopt;
  if (!v->is_string()) {
    reject(name, wrong_type(name, "a string", *v));
    return std::nullopt;
  }
  return v->as_string();
}

std::optional<bool> FieldReader::boolean(const char* name) {
  if (notes_ != nullptr) notes_->field(name, of_type("boolean"));
  const json::Value* v = find(name);
  if (v == nullptr) return std::nullopt;
  if (!v->is_bool()) {
    reject(name, wrong_type(name, "a boolean", *v));
    return std::nullopt;
  }
  return v->as_bool();
}

std::optional<double> FieldReader::number(const char* name, double low, double high) {
  if (notes_ != nullptr) notes_->field(name, {{"type", "number"}, {"minimum", low}, {"maximum", high}});
  const json::Value* v = find(name);
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
  if (notes_ != nullptr) notes_->field(name, {{"type", "integer"}, {"minimum", low}, {"maximum", high}});
  const json::Value* v = find(name);
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

const json::Array* FieldReader::array(const char* name, const char* shape) {
  if (notes_ != nullptr) notes_->field(name, parsed(shape, "array"));
  const json::Value* v = find(name);
  if (v == nullptr) return nullptr;
  if (!v->is_array()) {
    reject(name, wrong_type(name, "an array", *v));
    return nullptr;
  }
  return &v->as_array();
}

const json::Object* FieldReader::object(const char* name, const char* shape) {
  if (notes_ != nullptr) notes_->field(name, parsed(shape, "object"));
  const json::Value* v = find(name);
  if (notes_ != nullptr && *shape == '\0') return notes_->inside(name);
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
    if (std::find(asked_.begin(), asked_.end(), &value) == asked_.end()) names.push_back(name);
  }
  return names;
}

}  // namespace qw::api
