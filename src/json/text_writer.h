// JSON text written member by member, without values in between: for answers that every request makes. Spelt as dump()
// spells the same value with WriteStyle::compact().
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "json/value.h"

namespace qw::json {

// Who writes takes care of the shape: an object has a key before each value, and what is opened is closed.
class TextWriter {
 public:
  TextWriter();

  void open_object() { open('{'); }
  void close_object() { close('}'); }
  void open_array() { open('['); }
  void close_array() { close(']'); }
  void key(std::string_view name);     // of printable ASCII without quotes and backslashes: it is written as it is
  void string(std::string_view text);  // any bytes; what is no UTF-8 as dump() shows it
  void integer(std::int64_t number);
  void boolean(bool yes) { word(yes ? "true" : "false"); }
  void null() { word("null"); }
  void value(const Value& value);  // whatever it is

  void member(std::string_view name, std::string_view text) { key(name), string(text); }
  void member(std::string_view name, const char* text) { key(name), string(text); }
  void member(std::string_view name, std::int64_t number) { key(name), integer(number); }
  void member(std::string_view name, bool) = delete;  // key() and boolean()

  std::string take() { return std::move(out_); }  // once all is closed

 private:
  void separate();
  void open(char bracket);
  void close(char bracket);
  void word(std::string_view text);

  std::string out_;
  bool first_ = true;  // nothing stands before what comes next in the same brackets, or its key does
};

}  // namespace qw::json
