// What a reader of requests asks for, as a JSON Schema: the readers themselves are the only list of the fields there
// are. describe_body() runs one over an empty body, and its FieldReaders note here what they are asked for.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json/value.h"

namespace qw::api {

// The notes on one object of a request.
class FieldNotes {
 public:
  // The notes on `object`, on this thread; null outside of describe_body(), and there for what is not of the body.
  static FieldNotes* of(const json::Object& object);

  void field(const char* name, json::Object schema);
  void refused(const char* name);       // known, and not supported
  void missed(std::string_view param);  // the reader objects that it is not there
  void one_of(std::initializer_list<const char*> names);
  // An empty object in the place of an absent one, whose fields are noted too; null if only what is missed is wanted.
  const json::Object* inside(const char* name);

  json::Object schema() const;

 private:
  friend json::Object describe_body(const std::function<void(const json::Object& body)>& read);
  struct Field {
    std::string name;
    json::Object schema;
    std::unique_ptr<FieldNotes> inside;
    bool required = false;
  };
  Field& at(std::string_view name);
  std::vector<Field> fields_;  // in the order they are asked for
  std::vector<std::vector<std::string>> alternatives_;
};

// The schema of the bodies that `read` reads.
json::Object describe_body(const std::function<void(const json::Object& body)>& read);

}  // namespace qw::api
