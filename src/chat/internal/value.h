// The values a template computes with: Python's None, bool, int, float, str, list, tuple, dict, range, iterators and
// dictionary views, and Jinja's undefined, namespaces, macros and loop objects.
//
// Containers are immutable once built and shared by reference. Namespaces and closures, the only things that could form
// cycles, live as long as one rendering and are pointed to without ownership. Containers know how deep they nest, so
// that recursion over them (and their destruction) is bounded.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::chat::internal {

enum class Kind : std::uint8_t {
  kMissing,  // an unset variable; never seen by operators
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kRange,
  kIterator,  // one pass over items: what lazy filters and reversed() give
  kView,      // dict.items(), keys(), values()
  kNamespace,
  kMacro,
  kFunction,  // a global, a bound method, or another callable object
  kLoop,
};

struct Heap {
  virtual ~Heap() = default;
};
struct StringData final : Heap {
  std::string text;
};
class Value;
using Values = std::vector<Value>;
struct Sequence;
struct Dict;
struct Range;
struct Iterator;
struct View;
struct Function;
struct Loop;
struct Namespace;
struct Macro;

class Value {
 public:
  Value() = default;  // missing
  static Value none() { return Value(Kind::kNone); }
  static Value boolean(bool b);
  static Value integer(std::int64_t i);
  static Value real(double d);
  static Value string(std::string text, bool markup = false);
  static Value undefined(std::string why);  // `why` is the error message of any use that is not allowed
  static Value list(Values items);
  static Value tuple(Values items);
  static Value group(Value key, Value members);  // groupby's tuple, whose parts also have names
  static Value dict(std::shared_ptr<Dict> dict);
  static Value range(std::int64_t start, std::int64_t stop, std::int64_t step);
  // `over` is what it draws from, whose nesting it adds to.
  static Value iterator(std::function<Result<Value>()> next, const Value& over);
  static Value view(Value dict, char part);  // 'i'tems, 'k'eys, 'v'alues
  static Value function(std::shared_ptr<Function> function);
  static Value loop(std::shared_ptr<Loop> loop);
  static Value name_space(Namespace* ns);
  static Value macro(Macro* macro);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_missing() const { return kind_ == Kind::kMissing; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_markup() const { return markup_; }
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }

  bool as_bool() const { return number_.i != 0; }
  std::int64_t as_int() const { return number_.i; }  // also of a boolean
  double as_double() const { return kind_ == Kind::kFloat ? number_.d : static_cast<double>(number_.i); }
  const std::string& text() const { return static_cast<const StringData*>(heap_.get())->text; }  // also of undefined
  const Values& items() const;
  const Dict& dict() const;
  const Range& range() const;
  Iterator& iterator() const;
  const View& view() const;
  const Function& function() const;
  Loop& loop() const;
  Namespace* name_space() const { return static_cast<Namespace*>(pointer_); }
  Macro* macro() const { return static_cast<Macro*>(pointer_); }
  bool is_group() const;
  const void* identity() const { return heap_ ? static_cast<const void*>(heap_.get()) : pointer_; }

  int depth() const;  // 0 for scalars, 1 + the deepest child for containers
  // Size of the value when written out, shared parts counted as often as they appear; bounds any walk over it.
  double weight() const;

 private:
  explicit Value(Kind kind) : kind_(kind) {}
  Value(Kind kind, std::shared_ptr<Heap> heap) : kind_(kind), heap_(std::move(heap)) {}

  Kind kind_ = Kind::kMissing;
  bool markup_ = false;  // a string marked safe: concatenation escapes the other side
  union {
    std::int64_t i;
    double d;
  } number_ = {0};
  std::shared_ptr<Heap> heap_;
  void* pointer_ = nullptr;
};

struct Sequence final : Heap {
  Values items;
  bool group = false;
  int depth = 1;
  double weight = 1;
};

// Insertion-ordered; look-up is linear while small and hashed above. Keys are hashable values.
struct Dict final : Heap {
  std::vector<std::pair<Value, Value>> items;
  int depth = 1;
  double weight = 1;
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(Value key, Value value);

 private:
  std::size_t locate(const Value& key) const;
  std::unordered_multimap<std::size_t, std::size_t> index_;
};

struct Range final : Heap {
  std::int64_t start = 0, stop = 0, step = 1;
  std::int64_t size() const;
  std::int64_t at(std::int64_t i) const { return start + i * step; }
};

struct Iterator final : Heap {
  std::function<Result<Value>()> next;  // missing at the end
  int depth = 1;
  double weight = 1;
};

struct View final : Heap {
  Value dict;
  char part = 'i';
};

class Interpreter;
struct Args {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;
};
using Builtin = Result<Value> (*)(Interpreter&, const Value& self, Args& args);
struct Function final : Heap {
  std::string name;
  Builtin call = nullptr;
  Value self;                         // of a bound method
  std::shared_ptr<Values> items;      // what cycler() goes through
  std::shared_ptr<std::size_t> uses;  // how often a cycler or joiner was used
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> items;
  const Value* find(std::string_view name) const;
  void set(std::string name, Value value);
};

Value from_json(const json::Value& value);

bool truthy(const Value& value);  // loops and callables are true
// Whether a value may be a key of a dictionary, and its hash if so.
bool hashable(const Value& value);
std::size_t hash(const Value& value);
bool equal(const Value& a, const Value& b);
const char* python_type(const Value& value);  // "int", "str", "dict", ...

// repr() and str(). `out` grows until `limit` bytes; false when that was not enough or a value has no stable text
// (generators, functions).
struct TextResult {
  bool ok = true;
  const char* why = "";
};
TextResult append_repr(std::string* out, const Value& value, std::size_t limit, int depth = 0);
TextResult append_text(std::string* out, const Value& value, std::size_t limit);

// json.dumps() as transformers' tojson calls it.
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool has_indent = false;
  std::string indent;  // one level
  std::string item_separator = ", ", key_separator = ": ";
};
TextResult append_json(std::string* out, const Value& value, const JsonStyle& style, std::size_t limit, int depth = 0);

}  // namespace qw::chat::internal
