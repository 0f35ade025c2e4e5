// Expressions.
#include <algorithm>

#include "chat/internal/interpreter.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

// ---- the loop object ----

Result<Value> Loop::peek() {
  if (after.is_missing()) {
    if (fetched_next < fetched.size()) {
      after = fetched[fetched_next++];
    } else if (fetch) {
      QW_ASSIGN(after, fetch());
    }
  }
  return after;
}

Result<Value> Loop::next() {
  QW_ASSIGN(Value item, peek());
  after = Value();
  if (item.is_missing()) return item;
  ++index0;
  before = std::move(current);
  current = item;
  return item;
}

Result<std::int64_t> Loop::length() {
  if (known_length < 0) {
    while (fetch) {
      QW_ASSIGN(Value item, fetch());
      if (item.is_missing()) break;
      fetched.push_back(std::move(item));
    }
    known_length = static_cast<std::int64_t>(fetched.size() - fetched_next) + index0 + 1 + !after.is_missing();
  }
  return known_length;
}

Result<Value> loop_attribute(Interpreter& in, const Value& value, const std::string& name) {
  Loop& loop = value.loop();
  if (name == "index") return Value::integer(loop.index0 + 1);
  if (name == "index0") return Value::integer(loop.index0);
  if (name == "first") return Value::boolean(loop.index0 == 0);
  if (name == "depth") return Value::integer(loop.depth0 + 1);
  if (name == "depth0") return Value::integer(loop.depth0);
  if (name == "last" || name == "nextitem") {
    QW_ASSIGN(Value after, loop.peek());
    if (name == "last") return Value::boolean(after.is_missing());
    return after.is_missing() ? Value::undefined("there is no next item") : after;
  }
  if (name == "previtem") return loop.index0 == 0 ? Value::undefined("there is no previous item") : loop.before;
  if (name == "length" || name == "revindex" || name == "revindex0") {
    QW_ASSIGN(const std::int64_t n, loop.length());
    return Value::integer(name == "length" ? n : name == "revindex" ? n - loop.index0 : n - loop.index0 - 1);
  }
  auto method = std::make_shared<Function>();
  method->self = value;
  method->name = name;
  if (name == "cycle") {
    method->call = [](Interpreter& it, const Value& self, Args& args) -> Result<Value> {
      if (args.positional.empty()) return it.fail("no items for cycling given");
      const auto i = static_cast<std::size_t>(self.loop().index0);
      return args.positional[i % args.positional.size()];
    };
  } else if (name == "changed") {
    method->call = [](Interpreter& it, const Value& self, Args& args) -> Result<Value> {
      Loop& l = self.loop();
      QW_TRY(it.work(static_cast<double>(args.positional.size())));
      for (const Value& v : args.positional) QW_TRY(it.work(v.weight() / 4));
      const bool same = l.has_changed && l.last_changed.size() == args.positional.size() &&
                        std::equal(args.positional.begin(), args.positional.end(), l.last_changed.begin(), equal);
      if (!l.has_changed) it.watch(self);
      l.has_changed = true;
      if (!same) l.last_changed = args.positional;
      return Value::boolean(!same);
    };
  } else {
    return Value::undefined("loop has no attribute '" + name + "'");
  }
  (void)in;
  return Value::function(std::move(method));
}

// ---- evaluation ----

Result<bool> Interpreter::eval_truth(const Node& node, Activation* act) {
  QW_ASSIGN(const Value value, eval(node, act));
  return truthy(value);
}

Result<Values> Interpreter::eval_all(const std::vector<Node*>& nodes, Activation* act) {
  Values values;
  values.reserve(nodes.size());
  for (const Node* node : nodes) {
    QW_ASSIGN(Value value, eval(*node, act));
    values.push_back(std::move(value));
  }
  return values;
}

Result<Value> Interpreter::eval_name(const Node& node, Activation* act) {
  const Value& value = slot(node.ref, act);
  if (!value.is_missing()) return value;
  return Value::undefined("'" + node.text + "' is undefined");
}

Result<Value> Interpreter::eval(const Node& node, Activation* act) {
  const Nest nest(this);
  place_ = node.place;
  if (depth_ > limits_.max_depth) return fail("expression nests too deeply");
  QW_TRY(work(1));
  switch (node.kind) {
    case NodeKind::kConst:
      return node.value;
    case NodeKind::kName:
      return eval_name(node, act);
    case NodeKind::kTuple:
    case NodeKind::kList: {
      QW_ASSIGN(Values items, eval_all(node.list, act));
      place_ = node.place;
      return node.kind == NodeKind::kList ? list(std::move(items)) : tuple(std::move(items));
    }
    case NodeKind::kDict:
      return eval_dict(node, act);
    case NodeKind::kBinary:
    case NodeKind::kAnd:
    case NodeKind::kOr:
      return eval_chain(node, act);
    case NodeKind::kNegative:
    case NodeKind::kPositive:
      return eval_sign(node, act);
    case NodeKind::kNot: {
      QW_ASSIGN(const bool yes, eval_truth(*node.a, act));
      return Value::boolean(!yes);
    }
    case NodeKind::kCompare:
      return eval_compare(node, act);
    case NodeKind::kConcat:
      return eval_concat(node, act);
    case NodeKind::kConditional: {
      QW_ASSIGN(const bool yes, eval_truth(*node.b, act));
      if (yes) return eval(*node.a, act);
      if (node.c) return eval(*node.c, act);
      return Value::undefined("the inline if-expression on line " + std::to_string(node.place.line) +
                              " evaluated to false and no else section was defined.");
    }
    case NodeKind::kAttribute: {
      QW_ASSIGN(const Value value, eval(*node.a, act));
      place_ = node.a->place;  // if there is nothing to have an attribute, it is that which is undefined
      return attribute(value, node.text);
    }
    case NodeKind::kItem:
      return eval_item(node, act);
    case NodeKind::kSlice:
      place_ = node.place;
      return fail("a slice cannot be used here");
    case NodeKind::kCall:
      return eval_call(node, act, nullptr);
    case NodeKind::kFilter:
      return eval_filter(node, act, nullptr);
    case NodeKind::kTest: {
      QW_ASSIGN(const Value value, eval(*node.a, act));
      QW_ASSIGN(Args args, eval_args(node, act));
      place_ = node.place;
      QW_ASSIGN(const bool yes, test(node.text, value, args));
      return Value::boolean(yes);
    }
    default:
      return fail("statement where an expression is expected");
  }
}

// Chains such as a + b + c lean to the left; they are walked, not recursed into, so that long ones cost no depth.
Result<Value> Interpreter::eval_chain(const Node& node, Activation* act) {
  std::vector<const Node*> chain;
  const Node* first = &node;
  while (first->kind == node.kind) {
    chain.push_back(first);
    first = first->a;
  }
  QW_ASSIGN(Value left, eval(*first, act));
  for (auto it = chain.rbegin(); it != chain.rend(); ++it) {
    const Node& op = **it;
    if (node.kind != NodeKind::kBinary) {
      if (truthy(left) == (node.kind == NodeKind::kOr)) continue;
      QW_ASSIGN(left, eval(*op.b, act));
      continue;
    }
    QW_ASSIGN(const Value right, eval(*op.b, act));
    place_ = op.place;
    QW_ASSIGN(left, binary(op.text, left, right));
  }
  return left;
}

Result<Value> Interpreter::eval_sign(const Node& node, Activation* act) {
  QW_ASSIGN(const Value value, eval(*node.a, act));
  place_ = node.place;
  if (value.is_undefined()) return fail(value.text());
  if (!value.is_number()) return fail(std::string("bad operand type for unary sign: ") + python_type(value));
  const bool negative = node.kind == NodeKind::kNegative;
  if (value.is(Kind::kFloat)) return Value::real(negative ? -value.as_double() : value.as_double());
  if (!negative) return Value::integer(value.as_int());
  return binary("-", Value::integer(0), Value::integer(value.as_int()));
}

Result<Value> Interpreter::eval_dict(const Node& node, Activation* act) {
  auto out = std::make_shared<Dict>();
  for (std::size_t i = 0; i < node.list.size(); i += 2) {
    QW_ASSIGN(Value key, eval(*node.list[i], act));
    QW_ASSIGN(Value value, eval(*node.list[i + 1], act));
    place_ = node.place;
    if (!hashable(key)) return fail(std::string("unhashable type: '") + python_type(key) + "'");
    out->set(std::move(key), std::move(value));
  }
  return dict(std::move(out));
}

Result<Value> Interpreter::eval_compare(const Node& node, Activation* act) {
  QW_ASSIGN(Value left, eval(*node.a, act));
  for (std::size_t i = 0; i < node.ops.size(); ++i) {
    QW_ASSIGN(Value right, eval(*node.list[i], act));
    place_ = node.place;
    bool yes = false;
    const std::string& op = node.ops[i];
    if (op == "in" || op == "not in") {
      QW_ASSIGN(yes, contains(right, left));
      yes = yes == (op == "in");
    } else {
      QW_ASSIGN(yes, compare(op, left, right));
    }
    if (!yes) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Result<Value> Interpreter::eval_concat(const Node& node, Activation* act) {
  std::string out;
  for (const Node* item : node.list) {
    QW_ASSIGN(const Value value, eval(*item, act));
    place_ = node.place;
    if (value.is_string()) {
      QW_TRY(room(out.size() + value.text().size()));
      out += value.text();
    } else {
      QW_ASSIGN(const std::string shown, text(value));
      out += shown;
    }
  }
  return string(std::move(out));
}

Result<Value> Interpreter::eval_item(const Node& node, Activation* act) {
  QW_ASSIGN(const Value value, eval(*node.a, act));
  if (node.b->kind != NodeKind::kSlice) {
    QW_ASSIGN(const Value key, eval(*node.b, act));
    place_ = node.a->place;
    return item(value, key);
  }
  Value bounds[3] = {Value::none(), Value::none(), Value::none()};
  const Node* parts[3] = {node.b->a, node.b->b, node.b->c};
  for (int i = 0; i < 3; ++i) {
    if (!parts[i]) continue;
    QW_ASSIGN(bounds[i], eval(*parts[i], act));
  }
  place_ = node.place;
  return slice(*this, value, bounds[0], bounds[1], bounds[2]);
}

Result<Args> Interpreter::eval_args(const Node& node, Activation* act) {
  Args args;
  QW_ASSIGN(args.positional, eval_all(node.list, act));
  for (const auto& [name, child] : node.named) {
    QW_ASSIGN(Value value, eval(*child, act));
    args.named.emplace_back(name, std::move(value));
  }
  if (node.star) {
    QW_ASSIGN(const Value more, eval(*node.star, act));
    place_ = node.place;
    QW_ASSIGN(Values items, iterate(more));
    args.positional.insert(args.positional.end(), items.begin(), items.end());
  }
  if (node.star_star) {
    QW_ASSIGN(const Value more, eval(*node.star_star, act));
    place_ = node.place;
    if (!more.is(Kind::kDict)) return fail("argument after ** must be a mapping");
    for (const auto& [key, value] : more.dict().items) {
      if (!key.is_string()) return fail("keywords must be strings");
      QW_TRY(work(static_cast<double>(args.named.size()) / 16));
      for (const auto& other : args.named)
        if (other.first == key.text()) return fail("got multiple values for keyword argument '" + key.text() + "'");
      args.named.emplace_back(key.text(), value);
    }
  }
  return args;
}

Result<Value> Interpreter::eval_call(const Node& node, Activation* act, const Value* caller) {
  QW_ASSIGN(const Value callee, eval(*node.a, act));
  QW_ASSIGN(Args args, eval_args(node, act));
  place_ = node.place;
  if (caller) {
    for (const auto& [name, value] : args.named)
      if (name == "caller") return fail("got multiple values for keyword argument 'caller'");
    args.named.emplace_back("caller", *caller);
  }
  QW_ASSIGN(Value value, call(callee, args));
  place_ = node.place;
  return value;
}

Result<Value> Interpreter::eval_filter(const Node& node, Activation* act, const Value* innermost) {
  const Nest nest(this);
  if (depth_ > limits_.max_depth) return fail("filters nest too deeply");
  Value value;
  if (node.a && node.a->kind == NodeKind::kFilter) {
    QW_ASSIGN(value, eval_filter(*node.a, act, innermost));
  } else if (node.a) {
    QW_ASSIGN(value, eval(*node.a, act));
  } else {
    value = *innermost;
  }
  QW_ASSIGN(Args args, eval_args(node, act));
  place_ = node.place;
  QW_ASSIGN(Value out, filter(node.text, value, args));
  return out;
}

Result<Value> Interpreter::call(const Value& callee, Args& args) {
  switch (callee.kind()) {
    case Kind::kMacro:
      return call_macro(*callee.macro(), args);
    case Kind::kFunction:
      if (!callee.function().call) return fail("'" + callee.function().name + "' object is not callable");
      return callee.function().call(*this, callee.function().self, args);
    case Kind::kLoop:
      return call_loop(callee.loop(), args);
    case Kind::kUndefined:
      return fail(callee.text());
    default:
      return fail(std::string("'") + python_type(callee) + "' object is not callable");
  }
}

Result<Value> Interpreter::filter(const std::string& name, const Value& value, Args& args) {
  const Builtin builtin = find_filter(name);
  if (!builtin) return fail("No filter named '" + name + "'");
  return builtin(*this, value, args);
}

// ---- attributes and items ----

namespace {

Result<Value> bound(const Value& self, const std::string& name, Builtin method) {
  auto function = std::make_shared<Function>();
  function->name = name;
  function->self = self;
  function->call = method;
  return Value::function(std::move(function));
}

// Methods that change a container; Jinja's sandbox hides them.
bool changes_container(std::string_view name) {
  static constexpr std::string_view kNames[] = {"append", "clear",  "pop",        "reverse", "insert", "sort",
                                                "extend", "remove", "setdefault", "update",  "popitem"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

Value no_attribute(const Value& value, const std::string& name) {
  return Value::undefined(std::string("'") + python_type(value) + " object' has no attribute '" + name + "'");
}

// What Python's getattr() finds, or missing.
Result<Value> own_attribute(Interpreter& in, const Value& value, const std::string& name) {
  Builtin method = nullptr;
  switch (value.kind()) {
    case Kind::kString:
      method = find_string_method(name);
      break;
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
      method = find_list_method(name);
      if (name == "copy" && !value.is(Kind::kList)) method = nullptr;
      if (value.is_group() && name == "grouper") return value.items()[0];
      if (value.is_group() && name == "list") return value.items()[1];
      break;
    case Kind::kDict:
      method = find_dict_method(name);
      break;
    case Kind::kNamespace: {
      const Value* found = value.name_space()->find(name);
      return found ? *found : Value();
    }
    case Kind::kLoop:
      return loop_attribute(in, value, name);
    case Kind::kMacro:
      if (name == "name") return Value::string(value.macro()->node->text);
      break;
    case Kind::kFunction:
      return function_attribute(in, value, name);
    default:
      break;
  }
  if (method) return bound(value, name, method);
  const bool mutable_container = value.is(Kind::kList) || value.is(Kind::kDict);
  if (mutable_container && changes_container(name) && !(value.is(Kind::kList) && name == "update"))
    return Value::undefined("access to attribute '" + name + "' of '" + python_type(value) + "' object is unsafe.");
  return Value();
}

}  // namespace

Result<Value> Interpreter::attribute(const Value& value, const std::string& name) {
  if (value.is_undefined()) return fail(value.text());
  QW_ASSIGN(Value own, own_attribute(*this, value, name));
  if (!own.is_missing()) return own;
  if (value.is(Kind::kDict)) {
    if (const Value* found = value.dict().find(name)) return *found;
  }
  return no_attribute(value, name);
}

Result<Value> Interpreter::item(const Value& value, const Value& key) {
  if (value.is_undefined()) return fail(value.text());
  if (value.is(Kind::kDict)) {
    QW_TRY(work(key.weight() / 4));
    if (const Value* found = value.dict().find(key)) return *found;
  }
  if (key.is_integral() && (value.is_sequence() || value.is_string() || value.is(Kind::kRange))) {
    QW_ASSIGN(const std::int64_t n, length(value));
    std::int64_t i = key.as_int();
    if (i < 0) i += n;
    if (i >= 0 && i < n) {
      if (value.is_sequence()) return value.items()[static_cast<std::size_t>(i)];
      if (value.is(Kind::kRange)) return Value::integer(value.range().at(i));
      const std::size_t at = byte_offset(value.text(), static_cast<std::size_t>(i));
      std::size_t end = at;
      decode_char(value.text(), &end);
      return Value::string(value.text().substr(at, end - at), value.is_markup());
    }
  }
  if (key.is_string()) {
    QW_ASSIGN(Value own, own_attribute(*this, value, key.text()));
    return own.is_missing() ? no_attribute(value, key.text()) : own;
  }
  if (key.is_integral()) return no_attribute(value, std::to_string(key.as_int()));
  return Value::undefined(std::string("'") + python_type(value) + " object' has no such element");
}

// ---- iteration ----

Result<std::int64_t> Interpreter::length(const Value& v) {
  const auto size = [](std::size_t n) { return static_cast<std::int64_t>(n); };
  switch (v.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      QW_TRY(work(static_cast<double>(v.text().size()) / 256));
      return size(char_count(v.text()));
    case Kind::kList:
    case Kind::kTuple:
      return size(v.items().size());
    case Kind::kDict:
      return size(v.dict().items.size());
    case Kind::kRange:
      return v.range().size();
    case Kind::kView:
      return size(v.view().dict.dict().items.size());
    case Kind::kLoop:
      return v.loop().length();
    default:
      return fail(std::string("object of type '") + python_type(v) + "' has no len()");
  }
}

namespace {

Result<Value> view_item(Interpreter& in, const std::pair<Value, Value>& item, char part) {
  if (part == 'k') return item.first;
  if (part == 'v') return item.second;
  return in.tuple({item.first, item.second});
}

}  // namespace

Result<Interpreter::Source> Interpreter::source(const Value& v) {
  auto at = std::make_shared<std::size_t>(0);
  switch (v.kind()) {
    case Kind::kUndefined:
      return Source([]() -> Result<Value> { return Value(); });
    case Kind::kList:
    case Kind::kTuple:
      return Source([v, at]() -> Result<Value> { return *at < v.items().size() ? v.items()[(*at)++] : Value(); });
    case Kind::kDict:
      return Source(
          [v, at]() -> Result<Value> { return *at < v.dict().items.size() ? v.dict().items[(*at)++].first : Value(); });
    case Kind::kView:
      return Source([this, v, at]() -> Result<Value> {
        const auto& items = v.view().dict.dict().items;
        if (*at >= items.size()) return Value();
        return view_item(*this, items[(*at)++], v.view().part);
      });
    case Kind::kRange:
      return Source([v, at]() -> Result<Value> {
        const auto i = static_cast<std::int64_t>(*at);
        if (i >= v.range().size()) return Value();
        ++*at;
        return Value::integer(v.range().at(i));
      });
    case Kind::kString:
      return Source([v, at]() -> Result<Value> {
        const std::size_t begin = *at;
        if (begin >= v.text().size()) return Value();
        decode_char(v.text(), at.get());
        return Value::string(v.text().substr(begin, *at - begin));
      });
    case Kind::kIterator:
      return Source([v]() -> Result<Value> { return v.iterator().next(); });
    default:
      return fail(std::string("'") + python_type(v) + "' object is not iterable");
  }
}

Result<Values> Interpreter::iterate(const Value& v) {
  if (v.is_sequence()) {
    QW_TRY(work(static_cast<double>(v.items().size())));
    return v.items();
  }
  QW_ASSIGN(const Source next, source(v));
  Values items;
  for (;;) {
    QW_ASSIGN(Value value, next());
    if (value.is_missing()) return items;
    QW_TRY(work(1));
    items.push_back(std::move(value));
  }
}

// ---- arguments ----

Status take_args(Interpreter& in, std::string_view function, Args& args, std::initializer_list<const char*> names,
                 std::size_t required, Value* out) {
  const std::string who(function);
  if (args.positional.size() > names.size())
    return in.fail(who + "() takes at most " + std::to_string(names.size()) + " argument(s)");
  std::copy(args.positional.begin(), args.positional.end(), out);
  for (auto& [name, value] : args.named) {
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) return in.fail(who + "() got an unexpected keyword argument '" + name + "'");
    Value& to = out[it - names.begin()];
    if (!to.is_missing()) return in.fail(who + "() got multiple values for argument '" + name + "'");
    to = std::move(value);
  }
  for (std::size_t i = 0; i < required; ++i)
    if (out[i].is_missing())
      return in.fail(who + "() missing required argument '" + std::string(names.begin()[i]) + "'");
  return {};
}

Result<std::int64_t> int_arg(Interpreter& in, std::string_view function, const Value& value, std::int64_t otherwise) {
  if (value.is_missing()) return otherwise;
  if (value.is_undefined()) return in.fail(value.text());
  if (!value.is_integral())
    return in.fail(std::string(function) + "(): an integer is required, not " + python_type(value));
  return value.as_int();
}

}  // namespace qw::chat::internal
