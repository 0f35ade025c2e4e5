#include "api/field_notes.h"

#include <algorithm>
#include <deque>
#include <map>

namespace qw::api {
namespace {

// A run of a reader that is being noted.
struct Noting {
  FieldNotes* root;
  bool opens;  // absent objects are there, and empty
  const json::Object* body = nullptr;
  std::map<const json::Object*, FieldNotes*> inner;
  std::deque<json::Object> empty;
};
thread_local Noting* noting = nullptr;

class Run {
 public:
  explicit Run(Noting& run) { noting = &run; }
  ~Run() { noting = nullptr; }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
};

// Null counts as absent, so what may be absent may be null.
json::Object or_null(json::Object schema) {
  if (json::Value* type = schema.find("type"); type != nullptr && !(*type == json::Value("null"))) {
    json::Array types = type->is_array() ? type->as_array() : json::Array{*type};
    types.emplace_back("null");
    *type = std::move(types);
    if (json::Value* allowed = schema.find("enum")) allowed->as_array().emplace_back(nullptr);
  } else if (json::Value* choices = schema.find("anyOf")) {
    choices->as_array().emplace_back(json::Object{{"type", "null"}});
  }
  return schema;
}

}  // namespace

FieldNotes* FieldNotes::of(const json::Object& object) {
  if (noting == nullptr) return nullptr;
  if (noting->body == nullptr) noting->body = &object;
  if (noting->body == &object) return noting->root;
  const auto found = noting->inner.find(&object);
  return found == noting->inner.end() ? nullptr : found->second;
}

FieldNotes::Field& FieldNotes::at(std::string_view name) {
  for (Field& field : fields_)
    if (field.name == name) return field;
  return fields_.emplace_back(Field{std::string(name), {}, nullptr, false});
}

void FieldNotes::field(const char* name, json::Object schema) {
  Field& field = at(name);
  if (!schema.empty()) field.schema = std::move(schema);
}

void FieldNotes::refused(const char* name) {
  at(name).schema = json::Object{{"type", "null"}, {"description", "Not supported."}};
}

void FieldNotes::missed(std::string_view param) {
  const std::string_view name = param.substr(0, param.find('.'));
  if (!name.empty()) at(name).required = true;
}

void FieldNotes::one_of(std::initializer_list<const char*> names) {
  alternatives_.emplace_back(names.begin(), names.end());
}

const json::Object* FieldNotes::inside(const char* name) {
  Field& field = at(name);
  if (!noting->opens) return nullptr;
  field.inside = std::make_unique<FieldNotes>();
  const json::Object& empty = noting->empty.emplace_back();
  noting->inner[&empty] = field.inside.get();
  return &empty;
}

json::Object FieldNotes::schema() const {
  json::Object properties;
  json::Array required, choices;
  for (const Field& field : fields_) {
    const bool has_fields = field.inside != nullptr && !field.inside->fields_.empty();
    json::Object schema = has_fields ? field.inside->schema() : field.schema;
    properties.set(field.name, field.required ? std::move(schema) : or_null(std::move(schema)));
    if (field.required) required.emplace_back(field.name);
  }
  for (const auto& names : alternatives_) {
    json::Array one;
    for (const std::string& name : names)
      one.emplace_back(
          json::Object{{"required", json::Array{name}},
                       {"properties", json::Object{{name, json::Object{{"not", json::Object{{"type", "null"}}}}}}}});
    choices.emplace_back(json::Object{{"oneOf", std::move(one)}});
  }
  json::Object out{{"type", "object"}, {"properties", std::move(properties)}};
  if (!required.empty()) out.set("required", std::move(required));
  if (!choices.empty()) out.set("allOf", std::move(choices));
  return out;
}

json::Object describe_body(const std::function<void(const json::Object& body)>& read) {
  FieldNotes missed, notes;
  const json::Object body;
  {
    // What a reader objects to when nothing is there must be there.
    Noting run{&missed, false, nullptr, {}, {}};
    const Run scope(run);
    read(body);
  }
  {
    Noting run{&notes, true, nullptr, {}, {}};
    const Run scope(run);
    read(body);
  }
  for (FieldNotes::Field& field : notes.fields_) field.required = missed.at(field.name).required;
  return notes.schema();
}

}  // namespace qw::api
