// Methods of lists and dictionaries, and the functions every template can call.
#include <algorithm>
#include <ctime>

#include "chat/internal/interpreter.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

namespace {

Result<Value> index_method(Interpreter& in, const Value& self, Args& args) {
  Value out[3];
  QW_TRY(take_args(in, "index", args, {"value", "start", "stop"}, 1, out));
  QW_ASSIGN(const Values items, in.iterate(self));
  const auto n = static_cast<std::int64_t>(items.size());
  QW_ASSIGN(std::int64_t from, int_arg(in, "index", out[1], 0));
  QW_ASSIGN(std::int64_t to, int_arg(in, "index", out[2], n));
  if (from < 0) from = from < -n ? 0 : from + n;
  if (to < 0) to = to < -n ? 0 : to + n;
  for (std::int64_t i = from; i < std::min(to, n); ++i) {
    QW_ASSIGN(const bool same, in.same(items[static_cast<std::size_t>(i)], out[0]));
    if (same) return Value::integer(i);
  }
  return in.fail("value is not in list");
}

Result<Value> count_method(Interpreter& in, const Value& self, Args& args) {
  Value value;
  QW_TRY(take_args(in, "count", args, {"value"}, 1, &value));
  QW_ASSIGN(const Values items, in.iterate(self));
  std::int64_t n = 0;
  for (const Value& item : items) {
    QW_ASSIGN(const bool same, in.same(item, value));
    n += same;
  }
  return Value::integer(n);
}

Result<Value> copy_method(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(take_args(in, "copy", args, {}, 0, nullptr));
  return self;  // containers never change
}

template <char kPart>
Result<Value> view_method(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(take_args(in, "items", args, {}, 0, nullptr));
  return Value::view(self, kPart);
}

Result<Value> get_method(Interpreter& in, const Value& self, Args& args) {
  Value out[2];
  QW_TRY(take_args(in, "get", args, {"key", "default"}, 1, out));
  if (!hashable(out[0])) return in.fail(std::string("unhashable type: '") + python_type(out[0]) + "'");
  QW_TRY(in.work(out[0].weight() / 4));
  if (const Value* found = self.dict().find(out[0])) return *found;
  return out[1].is_missing() ? Value::none() : out[1];
}

Result<Value> range_function(Interpreter& in, const Value&, Args& args) {
  // The sandbox's limit on range().
  constexpr std::int64_t kMaxRange = 100000;
  if (!args.named.empty()) return in.fail("range() takes no keyword arguments");
  if (args.positional.empty() || args.positional.size() > 3) return in.fail("range expected 1 to 3 arguments");
  std::int64_t n[3] = {0, 0, 1};
  for (std::size_t i = 0; i < args.positional.size(); ++i) {
    QW_ASSIGN(n[i], int_arg(in, "range", args.positional[i], 0));
    constexpr std::int64_t kFar = std::int64_t{1} << 60;  // keeps the length computable
    if (n[i] > kFar || n[i] < -kFar) return in.fail("range() argument is too large");
  }
  if (args.positional.size() == 1) std::swap(n[0], n[1]);
  if (n[2] == 0) return in.fail("range() arg 3 must not be zero");
  Value range = Value::range(n[0], n[1], n[2]);
  if (range.range().size() > kMaxRange) return in.fail("Range too big. The sandbox blocks ranges larger than 100000.");
  return range;
}

Status fill_dict(Interpreter& in, Args& args, Dict* out) {
  if (args.positional.size() > 1) return in.fail("dict expected at most 1 argument");
  if (!args.positional.empty()) {
    const Value& from = args.positional[0];
    if (from.is(Kind::kDict)) {
      for (const auto& [k, v] : from.dict().items) out->set(k, v);
    } else {
      QW_ASSIGN(const Values pairs, in.iterate(from));
      for (const Value& pair : pairs) {
        QW_ASSIGN(const Values kv, in.iterate(pair));
        if (kv.size() != 2) return in.fail("dictionary update sequence element must have length 2");
        if (!hashable(kv[0])) return in.fail(std::string("unhashable type: '") + python_type(kv[0]) + "'");
        out->set(kv[0], kv[1]);
      }
    }
  }
  for (auto& [name, value] : args.named) out->set(Value::string(name), std::move(value));
  return {};
}

Result<Value> dict_function(Interpreter& in, const Value&, Args& args) {
  auto out = std::make_shared<Dict>();
  QW_TRY(fill_dict(in, args, out.get()));
  return in.dict(std::move(out));
}

Result<Value> namespace_function(Interpreter& in, const Value&, Args& args) {
  Dict attributes;
  QW_TRY(fill_dict(in, args, &attributes));
  Namespace* ns = in.new_namespace();
  for (auto& [key, value] : attributes.items) {
    if (!key.is_string()) continue;  // reachable by no attribute name
    if (key.text().starts_with("_")) return in.fail("cannot store underscore-prefixed attributes on a namespace");
    ns->set(key.text(), value);
  }
  return Value::name_space(ns);
}

Result<Value> raise_function(Interpreter& in, const Value&, Args& args) {
  Value message;
  QW_TRY(take_args(in, "raise_exception", args, {"message"}, 1, &message));
  QW_ASSIGN(const std::string text, in.text(message));
  return in.fail(text);
}

// strftime as Python's datetime does it for a time without zone.
Result<Value> strftime_function(Interpreter& in, const Value&, Args& args) {
  Value format;
  QW_TRY(take_args(in, "strftime_now", args, {"format"}, 1, &format));
  if (!format.is_string()) return in.fail("strftime_now() format must be a string");
  const std::tm now = in.now();
  std::string pattern;
  for (std::size_t i = 0; i < format.text().size(); ++i) {
    const char c = format.text()[i];
    const char next = i + 1 < format.text().size() ? format.text()[i + 1] : '\0';
    if (c == '%' && (next == 'z' || next == 'Z')) {
      ++i;
    } else if (c == '%' && next == 'f') {
      pattern += "000000";
      ++i;
    } else {
      pattern += c;
      if (c == '%' && next == '%') pattern += format.text()[++i];
    }
  }
  constexpr std::size_t kMaxFormat = 4096;  // a date, not a document
  if (pattern.size() > kMaxFormat) return in.fail("strftime_now() format is too long");
  std::string out(16 * kMaxFormat, '\0');
  // An ending keeps an empty result apart from a buffer too small.
  out.resize(std::strftime(out.data(), out.size(), (pattern + "|").c_str(), &now));
  if (out.empty()) return in.fail("strftime_now() result is too long");
  out.pop_back();
  return in.string(std::move(out));
}

Result<Value> joiner_call(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(take_args(in, "joiner", args, {}, 0, nullptr));
  const Function& joiner = self.function();
  return (*joiner.uses)++ == 0 ? Value::string("") : joiner.self;
}

Result<Value> joiner_function(Interpreter& in, const Value&, Args& args) {
  Value separator;
  QW_TRY(take_args(in, "joiner", args, {"sep"}, 0, &separator));
  auto state = std::make_shared<Function>();
  state->name = "Joiner";
  state->self = separator.is_missing() ? Value::string(", ") : separator;
  state->uses = std::make_shared<std::size_t>(0);
  auto callable = std::make_shared<Function>();
  callable->name = "Joiner";
  callable->self = Value::function(std::move(state));
  callable->call = joiner_call;
  return Value::function(std::move(callable));
}

Result<Value> cycler_function(Interpreter& in, const Value&, Args& args) {
  if (!args.named.empty()) return in.fail("cycler() takes no keyword arguments");
  if (args.positional.empty()) return in.fail("at least one item has to be provided");
  auto cycler = std::make_shared<Function>();
  cycler->name = "Cycler";
  cycler->items = std::make_shared<Values>(args.positional);
  cycler->uses = std::make_shared<std::size_t>(0);
  return Value::function(std::move(cycler));
}

Result<Value> cycler_next(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(take_args(in, "next", args, {}, 0, nullptr));
  const Function& f = self.function();
  return (*f.items)[(*f.uses)++ % f.items->size()];
}

Result<Value> cycler_reset(Interpreter& in, const Value& self, Args& args) {
  QW_TRY(take_args(in, "reset", args, {}, 0, nullptr));
  *self.function().uses = 0;
  return Value::none();
}

Value global(const char* name, Builtin call) {
  auto function = std::make_shared<Function>();
  function->name = name;
  function->call = call;
  return Value::function(std::move(function));
}

}  // namespace

Builtin find_list_method(std::string_view name) {
  if (name == "index") return index_method;
  if (name == "count") return count_method;
  if (name == "copy") return copy_method;
  return nullptr;
}

Builtin find_dict_method(std::string_view name) {
  if (name == "items") return view_method<'i'>;
  if (name == "keys") return view_method<'k'>;
  if (name == "values") return view_method<'v'>;
  if (name == "get") return get_method;
  if (name == "copy") return copy_method;
  return nullptr;
}

std::optional<Value> find_global(const std::string& name) {
  static constexpr std::pair<const char*, Builtin> kGlobals[] = {
      {"range", range_function},           {"dict", dict_function},
      {"namespace", namespace_function},   {"raise_exception", raise_function},
      {"strftime_now", strftime_function}, {"joiner", joiner_function},
      {"cycler", cycler_function},
  };
  for (const auto& [key, call] : kGlobals)
    if (name == key) return global(key, call);
  return std::nullopt;
}

Result<Value> function_attribute(Interpreter&, const Value& value, const std::string& name) {
  const Function& f = value.function();
  if (!f.items) return Value();
  if (name == "current") return (*f.items)[*f.uses % f.items->size()];
  if (name != "next" && name != "reset") return Value();
  auto method = std::make_shared<Function>();
  method->name = name;
  method->self = value;
  method->call = name == "next" ? cycler_next : cycler_reset;
  return Value::function(std::move(method));
}

}  // namespace qw::chat::internal
