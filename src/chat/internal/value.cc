#include "chat/internal/value.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "chat/internal/loop.h"

namespace qw::chat::internal {

namespace {

// Below this a linear search beats hashing.
constexpr std::size_t kIndexedAbove = 8;

template <class Items>
int depth_of(const Items& items) {
  int depth = 0;
  for (const Value& v : items) depth = std::max(depth, v.depth());
  return depth + 1;
}

template <class Items>
double weight_of(const Items& items) {
  double weight = 1;
  for (const Value& v : items) weight += v.weight();
  return weight;
}

}  // namespace

Value Value::boolean(bool b) {
  Value v(Kind::kBool);
  v.number_.i = b ? 1 : 0;
  return v;
}
Value Value::integer(std::int64_t i) {
  Value v(Kind::kInt);
  v.number_.i = i;
  return v;
}
Value Value::real(double d) {
  Value v(Kind::kFloat);
  v.number_.d = d;
  return v;
}
Value Value::string(std::string text, bool markup) {
  auto data = std::make_shared<StringData>();
  data->text = std::move(text);
  Value v(Kind::kString, std::move(data));
  v.markup_ = markup;
  return v;
}
Value Value::undefined(std::string why) {
  auto data = std::make_shared<StringData>();
  data->text = std::move(why);
  return Value(Kind::kUndefined, std::move(data));
}
Value Value::list(Values items) {
  auto data = std::make_shared<Sequence>();
  data->depth = depth_of(items);
  data->weight = weight_of(items);
  data->items = std::move(items);
  return Value(Kind::kList, std::move(data));
}
Value Value::tuple(Values items) {
  Value v = list(std::move(items));
  v.kind_ = Kind::kTuple;
  return v;
}
Value Value::group(Value key, Value members) {
  Value v = tuple({std::move(key), std::move(members)});
  static_cast<Sequence*>(v.heap_.get())->group = true;
  return v;
}
bool Value::is_group() const { return kind_ == Kind::kTuple && static_cast<const Sequence*>(heap_.get())->group; }
Value Value::dict(std::shared_ptr<Dict> dict) { return Value(Kind::kDict, std::move(dict)); }
Value Value::range(std::int64_t start, std::int64_t stop, std::int64_t step) {
  auto data = std::make_shared<Range>();
  data->start = start;
  data->stop = stop;
  data->step = step;
  return Value(Kind::kRange, std::move(data));
}
Value Value::iterator(std::function<Result<Value>()> next, const Value& over) {
  auto data = std::make_shared<Iterator>();
  data->depth = over.depth() + 1;
  data->weight = over.weight() + 1;
  data->next = std::move(next);
  return Value(Kind::kIterator, std::move(data));
}
Value Value::view(Value dict, char part) {
  auto data = std::make_shared<View>();
  data->dict = std::move(dict);
  data->part = part;
  return Value(Kind::kView, std::move(data));
}
Value Value::function(std::shared_ptr<Function> function) { return Value(Kind::kFunction, std::move(function)); }
Value Value::loop(std::shared_ptr<Loop> loop) { return Value(Kind::kLoop, std::move(loop)); }
Value Value::name_space(Namespace* ns) {
  Value v(Kind::kNamespace);
  v.pointer_ = ns;
  return v;
}
Value Value::macro(Macro* macro) {
  Value v(Kind::kMacro);
  v.pointer_ = macro;
  return v;
}

const Values& Value::items() const { return static_cast<const Sequence*>(heap_.get())->items; }
const Dict& Value::dict() const { return *static_cast<const Dict*>(heap_.get()); }
const Range& Value::range() const { return *static_cast<const Range*>(heap_.get()); }
Iterator& Value::iterator() const { return *static_cast<Iterator*>(heap_.get()); }
const View& Value::view() const { return *static_cast<const View*>(heap_.get()); }
const Function& Value::function() const { return *static_cast<const Function*>(heap_.get()); }
Loop& Value::loop() const { return *static_cast<Loop*>(heap_.get()); }

int Value::depth() const {
  switch (kind_) {
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<const Sequence*>(heap_.get())->depth;
    case Kind::kDict:
      return dict().depth;
    case Kind::kIterator:
      return iterator().depth;
    case Kind::kView:
      return view().dict.depth() + 1;
    case Kind::kFunction: {
      const Function& f = function();
      const int items = f.items ? depth_of(*f.items) : 0;
      return std::max(items, f.self.depth()) + 1;
    }
    case Kind::kLoop:
      return loop().depth_of_values + 1;
    default:
      return 0;
  }
}

double Value::weight() const {
  switch (kind_) {
    case Kind::kString:
      return 1 + static_cast<double>(text().size()) / 64;  // bytes are cheap to walk, next to values
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<const Sequence*>(heap_.get())->weight;
    case Kind::kDict:
      return dict().weight;
    case Kind::kIterator:
      return iterator().weight;
    case Kind::kView:
      return view().dict.weight() + 1;
    default:
      return 1;
  }
}

std::size_t Dict::locate(const Value& key) const {
  if (items.size() <= kIndexedAbove) {
    for (std::size_t i = 0; i < items.size(); ++i)
      if (equal(items[i].first, key)) return i;
    return items.size();
  }
  const auto [begin, end] = index_.equal_range(hash(key));
  for (auto it = begin; it != end; ++it)
    if (equal(items[it->second].first, key)) return it->second;
  return items.size();
}

const Value* Dict::find(const Value& key) const {
  if (!hashable(key)) return nullptr;
  const std::size_t i = locate(key);
  return i < items.size() ? &items[i].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
  if (items.size() > kIndexedAbove) return find(Value::string(std::string(key)));
  for (const auto& [k, v] : items)
    if (k.is_string() && k.text() == key) return &v;
  return nullptr;
}

void Dict::set(Value key, Value value) {
  depth = std::max({depth, key.depth() + 1, value.depth() + 1});
  weight += key.weight() + value.weight();
  const std::size_t at = locate(key);
  if (at < items.size()) {
    items[at].second = std::move(value);
    return;
  }
  items.emplace_back(std::move(key), std::move(value));
  if (items.size() == kIndexedAbove + 1) {
    for (std::size_t i = 0; i < items.size(); ++i) index_.emplace(hash(items[i].first), i);
  } else if (items.size() > kIndexedAbove) {
    index_.emplace(hash(items.back().first), items.size() - 1);
  }
}

std::int64_t Range::size() const {
  if (step > 0) return start < stop ? (stop - start - 1) / step + 1 : 0;
  return start > stop ? (start - stop - 1) / -step + 1 : 0;
}

const Value* Namespace::find(std::string_view name) const {
  for (const auto& [k, v] : items)
    if (k == name) return &v;
  return nullptr;
}

void Namespace::set(std::string name, Value value) {
  for (auto& [k, v] : items)
    if (k == name) return static_cast<void>(v = std::move(value));
  items.emplace_back(std::move(name), std::move(value));
}

Value from_json(const json::Value& value) {
  if (value.is_null()) return Value::none();
  if (value.is_bool()) return Value::boolean(value.as_bool());
  if (value.is_int()) return Value::integer(value.as_int());
  if (value.is_double()) return Value::real(value.as_double());
  if (value.is_string()) return Value::string(value.as_string());
  if (value.is_array()) {
    Values items;
    items.reserve(value.as_array().size());
    for (const json::Value& v : value.as_array()) items.push_back(from_json(v));
    return Value::list(std::move(items));
  }
  auto dict = std::make_shared<Dict>();
  for (const auto& [k, v] : value.as_object()) dict->set(Value::string(k), from_json(v));
  return Value::dict(std::move(dict));
}

bool truthy(const Value& v) {
  switch (v.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return v.as_int() != 0;
    case Kind::kFloat:
      return v.as_double() != 0;
    case Kind::kString:
      return !v.text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !v.items().empty();
    case Kind::kDict:
      return !v.dict().items.empty();
    case Kind::kRange:
      return v.range().size() != 0;
    case Kind::kView:
      return !v.view().dict.dict().items.empty();
    default:
      return true;
  }
}

bool hashable(const Value& v) {
  if (v.is(Kind::kTuple)) return std::all_of(v.items().begin(), v.items().end(), hashable);
  return !v.is(Kind::kList) && !v.is(Kind::kDict) && !v.is(Kind::kView);
}

std::size_t hash(const Value& v) {
  switch (v.kind()) {
    case Kind::kBool:
    case Kind::kInt:
      return std::hash<double>()(v.as_double());  // 1, 1.0 and True are one key
    case Kind::kFloat:
      return std::hash<double>()(v.as_double());
    case Kind::kString:
      return std::hash<std::string>()(v.text());
    case Kind::kTuple: {
      std::size_t h = 0x345678;  // CPython's seed of old; any will do
      for (const Value& item : v.items()) h = h * 1000003 ^ hash(item);
      return h;
    }
    case Kind::kNone:
    case Kind::kUndefined:
    case Kind::kMissing:
      return static_cast<std::size_t>(v.kind());
    default:
      return std::hash<const void*>()(v.identity());
  }
}

namespace {

bool equal_items(const Values& a, const Values& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), equal);
}

bool equal_dicts(const Dict& a, const Dict& b) {
  if (a.items.size() != b.items.size()) return false;
  return std::all_of(a.items.begin(), a.items.end(), [&](const auto& item) {
    const Value* other = b.find(item.first);
    return other && equal(item.second, *other);
  });
}

bool equal_ranges(const Range& a, const Range& b) {
  const std::int64_t n = a.size();
  return n == b.size() && (n == 0 || (a.start == b.start && (n == 1 || a.step == b.step)));
}

}  // namespace

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.as_int() == b.as_int();
    return a.as_double() == b.as_double();
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kNone:
    case Kind::kUndefined:
    case Kind::kMissing:
      return true;
    case Kind::kString:
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple:
      return equal_items(a.items(), b.items());
    case Kind::kDict:
      return equal_dicts(a.dict(), b.dict());
    case Kind::kRange:
      return equal_ranges(a.range(), b.range());
    default:
      return a.identity() == b.identity();
  }
}

const char* python_type(const Value& v) {
  switch (v.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return "undefined";
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kRange:
      return "range";
    case Kind::kIterator:
      return "generator";
    case Kind::kView:
      return "dict view";
    case Kind::kNamespace:
      return "namespace";
    case Kind::kMacro:
      return "macro";
    case Kind::kFunction:
      return "function";
    case Kind::kLoop:
      return "loop";
  }
  return "value";
}

}  // namespace qw::chat::internal
