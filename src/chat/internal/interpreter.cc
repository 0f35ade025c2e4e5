#include "chat/internal/interpreter.h"

#include <algorithm>
#include <ctime>

#include "chat/internal/lexer.h"
#include "chat/internal/parser.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

namespace {

// Strings made on the way, in units of the output limit: a long prompt passes through a handful of concatenations.
constexpr std::size_t kMadePerOutput = 16;
// Values in one container, shared parts counted each time; more than any conversation holds.
constexpr double kMaxWeight = 4e6;
constexpr std::size_t kMaxFetched = 1'000'000;  // namespaces and closures kept until the end

}  // namespace

Interpreter::Interpreter(const Tree& tree, const json::Object& variables, const RenderLimits& limits)
    : tree_(tree), variables_(variables), limits_(limits), out_(&rendered_.text) {}

Interpreter::~Interpreter() {
  for (const Value& loop : watched_) loop.loop().last_changed.clear();
}

Result<Rendered> Interpreter::run() {
  std::unique_ptr<Activation> local;
  Activation* act = activation(tree_.root->function, nullptr, &local);
  enter(tree_.root->scope, act);
  const auto flow = exec_all(tree_.root->body, act);
  if (!flow) return tl::unexpected(flow.error());
  return std::move(rendered_);
}

tl::unexpected<Error> Interpreter::fail(std::string_view message) const { return template_error(place_, message); }

Status Interpreter::work(double units) {
  steps_ += units;
  if (steps_ > static_cast<double>(limits_.max_steps)) return fail("template takes too many steps");
  return {};
}

Status Interpreter::characters(const std::string& text) { return work(static_cast<double>(text.size()) / 16); }

Status Interpreter::room(std::size_t bytes) {
  made_bytes_ += std::min(bytes, limits_.max_output_bytes + 1);
  if (bytes > limits_.max_output_bytes || made_bytes_ / kMadePerOutput > limits_.max_output_bytes)
    return fail("template makes too much text");
  return work(static_cast<double>(bytes) / 256);  // copying a few hundred bytes costs about one node
}

Result<Value> Interpreter::string(std::string text, bool markup) {
  QW_TRY(room(text.size()));
  return Value::string(std::move(text), markup);
}

namespace {

Result<Value> bounded(Interpreter& in, Value value) {
  if (value.depth() > in.limits().max_depth) return in.fail("value nests too deeply");
  if (value.weight() > kMaxWeight) return in.fail("value is too large");
  return value;
}

}  // namespace

Result<Value> Interpreter::list(Values items) {
  QW_TRY(work(static_cast<double>(items.size())));
  return bounded(*this, Value::list(std::move(items)));
}

Result<Value> Interpreter::tuple(Values items) {
  QW_TRY(work(static_cast<double>(items.size())));
  return bounded(*this, Value::tuple(std::move(items)));
}

Result<Value> Interpreter::iterator(std::function<Result<Value>()> next, const Value& over) {
  return bounded(*this, Value::iterator(std::move(next), over));
}

Result<Value> Interpreter::dict(std::shared_ptr<Dict> dict) {
  QW_TRY(work(static_cast<double>(dict->items.size())));
  return bounded(*this, Value::dict(std::move(dict)));
}

Result<Value> Interpreter::strings(std::vector<std::string> items, bool markup) {
  Values values;
  values.reserve(items.size());
  std::size_t bytes = 0;
  for (std::string& s : items) {
    bytes += s.size();
    values.push_back(Value::string(std::move(s), markup));
  }
  QW_TRY(room(bytes));
  return list(std::move(values));
}

Result<std::string> Interpreter::text(const Value& value) {
  if (value.is_string()) return value.text();
  QW_TRY(work(value.weight() / 2));
  std::string out;
  const TextResult result = append_text(&out, value, limits_.max_output_bytes);
  if (!result.ok) return fail(std::string(result.why) + " (" + python_type(value) + ")");
  QW_TRY(room(out.size()));
  return out;
}

Result<std::string> Interpreter::repr(const Value& value) {
  QW_TRY(work(value.weight() / 2));
  std::string out;
  const TextResult result = append_repr(&out, value, limits_.max_output_bytes);
  if (!result.ok) return fail(std::string(result.why) + " (" + python_type(value) + ")");
  QW_TRY(room(out.size()));
  return out;
}

Result<bool> Interpreter::same(const Value& a, const Value& b) {
  QW_TRY(work(std::min(a.weight(), b.weight()) / 4));
  return equal(a, b);
}

Namespace* Interpreter::new_namespace() { return &namespaces_.emplace_back(); }

std::tm Interpreter::now() const {
  if (limits_.local_time) return limits_.local_time();
  const std::time_t seconds = std::time(nullptr);
  std::tm out{};
  localtime_r(&seconds, &out);
  return out;
}

// ---- variables ----

Value& Interpreter::slot(const Ref& ref, Activation* act) {
  for (int i = 0; i < ref.up; ++i) act = act->parent;
  return act->slots[static_cast<std::size_t>(ref.slot)];
}

Activation* Interpreter::activation(const FunctionShape& shape, Activation* parent,
                                    std::unique_ptr<Activation>* local) {
  *local = std::make_unique<Activation>();
  Activation* act = local->get();
  act->parent = parent;
  act->slots.resize(static_cast<std::size_t>(shape.slots));
  if (shape.has_inner) kept_.push_back(std::move(*local));
  return act;
}

Value Interpreter::resolve(const std::string& name) {
  const auto it = context_.find(name);
  if (it != context_.end()) return it->second;
  Value value;
  if (const json::Value* given = variables_.find(name)) {
    value = from_json(*given);
  } else if (auto global = find_global(name)) {
    value = *global;
  }
  context_.emplace(name, value);
  return value;
}

void Interpreter::enter(const Scope& scope, Activation* act) {
  for (const Load& load : scope.loads) {
    Value& to = act->slots[static_cast<std::size_t>(load.slot)];
    switch (load.action) {
      case Load::Action::kParameter:
        break;
      case Load::Action::kResolve:
        to = resolve(load.variable);
        break;
      case Load::Action::kAlias:
        to = slot(load.source, act);
        break;
      case Load::Action::kUnset:
        to = Value();
        break;
    }
  }
}

void Interpreter::leave(const Scope& scope, Activation* act) {
  for (const Load& load : scope.loads) act->slots[static_cast<std::size_t>(load.slot)] = Value();
}

Status Interpreter::assign(const Node& target, Value value, Activation* act, bool in_filter) {
  if (target.kind == NodeKind::kName) {
    slot(in_filter ? target.filter_ref : target.ref, act) = std::move(value);
    return {};
  }
  if (target.kind == NodeKind::kNamespaceTarget) {
    const Value ns = slot(target.a->ref, act);
    place_ = target.place;
    if (!ns.is(Kind::kNamespace)) return fail("cannot assign attribute on non-namespace object");
    if (target.text.starts_with("_")) return fail("cannot store underscore-prefixed attributes on a namespace");
    ns.name_space()->set(target.text, std::move(value));
    return {};
  }
  place_ = target.place;
  QW_ASSIGN(Values items, iterate(value));
  if (items.size() != target.list.size())
    return fail("cannot unpack " + std::to_string(items.size()) + " values into " + std::to_string(target.list.size()));
  for (std::size_t i = 0; i < items.size(); ++i) QW_TRY(assign(*target.list[i], std::move(items[i]), act, in_filter));
  return {};
}

Status Interpreter::check_namespaces(const Node& target, Activation* act) {
  if (target.kind == NodeKind::kNamespaceTarget && !slot(target.a->ref, act).is(Kind::kNamespace)) {
    place_ = target.place;
    return fail("cannot assign attribute on non-namespace object");
  }
  for (const Node* item : target.list) QW_TRY(check_namespaces(*item, act));
  return {};
}

Status Interpreter::write(std::string_view text) {
  if (text.size() > limits_.max_output_bytes || out_->size() > limits_.max_output_bytes - text.size())
    return fail("output is too long");
  out_->append(text);
  return {};
}

// ---- statements ----

Result<Interpreter::Flow> Interpreter::exec_all(const std::vector<Node*>& nodes, Activation* act) {
  for (const Node* node : nodes) {
    QW_ASSIGN(const Flow flow, exec(*node, act));
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::exec(const Node& node, Activation* act) {
  const Nest nest(this);
  place_ = node.place;
  if (depth_ > limits_.max_depth) return fail("template nests too deeply");
  QW_TRY(work(1));
  switch (node.kind) {
    case NodeKind::kData:
      QW_TRY(write(node.text));
      return Flow::kNext;
    case NodeKind::kOutput:
      for (const Node* item : node.list) {
        QW_ASSIGN(const Value value, eval(*item, act));
        place_ = node.place;
        if (value.is_string()) {
          QW_TRY(write(value.text()));
        } else {
          QW_ASSIGN(const std::string shown, text(value));
          QW_TRY(write(shown));
        }
      }
      return Flow::kNext;
    case NodeKind::kIf:
      return exec_if(node, act);
    case NodeKind::kFor:
      return exec_for(node, act);
    case NodeKind::kSet:
      QW_TRY(exec_set(node, act));
      return Flow::kNext;
    case NodeKind::kSetBlock:
      return exec_set_block(node, act);
    case NodeKind::kFilterBlock:
      return exec_filter_block(node, act);
    case NodeKind::kWith:
      return exec_with(node, act);
    case NodeKind::kMacro:
      slot(node.ref, act) = new_macro(node, act);
      return Flow::kNext;
    case NodeKind::kCallBlock:
      QW_TRY(exec_call_block(node, act));
      return Flow::kNext;
    case NodeKind::kGeneration:
      QW_TRY(exec_generation(node, act));
      return Flow::kNext;
    case NodeKind::kBreak:
      return Flow::kBreak;
    case NodeKind::kContinue:
      return Flow::kContinue;
    default:
      return fail("expression where a statement is expected");
  }
}

Result<Interpreter::Flow> Interpreter::exec_if(const Node& node, Activation* act) {
  QW_ASSIGN(const bool yes, eval_truth(*node.a, act));
  if (yes) return exec_all(node.body, act);
  for (const Node* other : node.list) {
    QW_ASSIGN(const bool other_yes, eval_truth(*other->a, act));
    if (other_yes) return exec_all(other->body, act);
  }
  return exec_all(node.else_body, act);
}

Status Interpreter::exec_set(const Node& node, Activation* act) {
  QW_TRY(check_namespaces(*node.a, act));
  QW_ASSIGN(Value value, eval(*node.b, act));
  return assign(*node.a, std::move(value), act);
}

Result<Interpreter::Flow> Interpreter::captured(const std::vector<Node*>& body, Activation* act, std::string* out) {
  std::string* outer = std::exchange(out_, out);
  auto flow = exec_all(body, act);
  out_ = outer;
  if (flow && *flow == Flow::kNext) QW_TRY(room(out->size()));
  return flow;
}

Result<Interpreter::Flow> Interpreter::exec_set_block(const Node& node, Activation* act) {
  enter(node.scope, act);
  std::string body;
  QW_ASSIGN(const Flow flow, captured(node.body, act, &body));
  if (flow != Flow::kNext) return flow;
  QW_TRY(check_namespaces(*node.a, act));
  Value value = Value::string(std::move(body));
  if (node.b) {
    QW_ASSIGN(value, eval_filter(*node.b, act, &value));
  }
  QW_TRY(assign(*node.a, std::move(value), act));
  leave(node.scope, act);
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::exec_filter_block(const Node& node, Activation* act) {
  enter(node.scope, act);
  std::string body;
  QW_ASSIGN(const Flow flow, captured(node.body, act, &body));
  if (flow != Flow::kNext) return flow;
  const Value innermost = Value::string(std::move(body));
  QW_ASSIGN(const Value value, eval_filter(*node.a, act, &innermost));
  QW_ASSIGN(const std::string shown, text(value));
  QW_TRY(write(shown));
  leave(node.scope, act);
  return Flow::kNext;
}

Result<Interpreter::Flow> Interpreter::exec_with(const Node& node, Activation* act) {
  enter(node.scope, act);
  for (std::size_t i = 0; i < node.list.size(); ++i) {
    QW_ASSIGN(Value value, eval(*node.list2[i], act));
    QW_TRY(assign(*node.list[i], std::move(value), act));
  }
  QW_ASSIGN(const Flow flow, exec_all(node.body, act));
  leave(node.scope, act);
  return flow;
}

Status Interpreter::exec_call_block(const Node& node, Activation* act) {
  const Value caller = new_macro(node, act);
  QW_ASSIGN(const Value value, eval_call(*node.a, act, &caller));
  QW_ASSIGN(const std::string shown, text(value));
  return write(shown);
}

// The body is a function of its own, like a call block's, but writes straight to the output, whose length says where
// the model's text begins and ends.
Status Interpreter::exec_generation(const Node& node, Activation* act) {
  std::unique_ptr<Activation> local;
  Activation* inner = activation(node.function, act, &local);
  enter(node.scope, inner);
  const std::size_t begin = rendered_.text.size();
  const bool direct = out_ == &rendered_.text;
  QW_TRY(exec_all(node.body, inner).map([](Flow) {}));
  if (direct) {
    rendered_.generation.push_back({begin, rendered_.text.size()});
  } else {
    rendered_.generation_exact = false;
  }
  return {};
}

// ---- loops ----

Result<Interpreter::Flow> Interpreter::exec_for(const Node& node, Activation* act) {
  QW_ASSIGN(const Value items, eval(*node.b, act));
  place_ = node.place;
  if (!node.recursive) return run_loop(node, act, act, items, 0);
  std::unique_ptr<Activation> local;
  return run_loop(node, activation(node.function, act, &local), act, items, 0);
}

Result<Interpreter::Source> Interpreter::filtered(const Node& node, Activation* outer, Source from) {
  auto act = std::make_shared<Activation>();
  act->parent = outer;
  act->slots.resize(static_cast<std::size_t>(node.filter_function.slots));
  enter(node.filter_scope, act.get());
  return Source([this, &node, act, from = std::move(from)]() -> Result<Value> {
    for (;;) {
      QW_ASSIGN(Value item, from());
      if (item.is_missing()) return item;
      QW_TRY(assign(*node.a, item, act.get(), true));
      QW_ASSIGN(const bool passes, eval_truth(*node.c, act.get()));
      if (passes) return item;
    }
  });
}

Result<Interpreter::Flow> Interpreter::loop_body(const Node& node, Activation* act, const Value& item) {
  QW_TRY(assign(*node.a, item, act));
  enter(node.scope, act);
  return exec_all(node.body, act);
}

Result<Interpreter::Flow> Interpreter::run_loop(const Node& node, Activation* act, Activation* outer,
                                                const Value& items, std::int64_t depth0) {
  auto loop = std::make_shared<Loop>();
  QW_ASSIGN(loop->fetch, source(items));
  if (node.c) {
    QW_ASSIGN(loop->fetch, filtered(node, outer, std::move(loop->fetch)));
  } else if (auto n = length(items); n) {
    loop->known_length = *n;
  }
  loop->depth0 = depth0;
  loop->depth_of_values = items.depth();
  if (node.recursive) {
    loop->recursive = &node;
    loop->defined_in = outer;
  }
  // However the loop ends, what it fetches from may not be used afterwards.
  const auto over = [](Loop* l) { l->fetch = nullptr; };
  const std::unique_ptr<Loop, decltype(over)> guard(loop.get(), over);
  bool finished_one = false;
  for (;;) {
    QW_ASSIGN(const Value item, loop->next());
    if (item.is_missing()) break;
    if (node.loop_ref.slot >= 0) slot(node.loop_ref, act) = Value::loop(loop);
    QW_ASSIGN(const Flow flow, loop_body(node, act, item));
    QW_TRY(work(1));
    if (flow == Flow::kBreak) break;
    finished_one = finished_one || flow == Flow::kNext;
  }
  leave(node.scope, act);
  // As in Jinja, an iteration cut short by `continue` or `break` does not count as one.
  if (finished_one || node.else_body.empty()) return Flow::kNext;
  enter(node.else_scope, act);
  QW_ASSIGN(const Flow flow, exec_all(node.else_body, act));  // loop controls in it act on the loop around
  leave(node.else_scope, act);
  return flow;
}

Result<Value> Interpreter::call_loop(Loop& loop, Args& args) {
  if (!loop.recursive) return fail("the loop must have the 'recursive' marker to be called recursively");
  if (args.positional.size() != 1 || !args.named.empty()) return fail("loop() takes one argument");
  const Nest nest(this);
  if (depth_ > limits_.max_depth) return fail("template nests too deeply");
  const Node& node = *loop.recursive;
  std::string body;
  std::string* outer = std::exchange(out_, &body);
  std::unique_ptr<Activation> local;
  Activation* act = activation(node.function, loop.defined_in, &local);
  const auto flow = run_loop(node, act, loop.defined_in, args.positional[0], loop.depth0 + 1);
  out_ = outer;
  if (!flow) return tl::unexpected(flow.error());
  return string(std::move(body));
}

// ---- macros ----

Value Interpreter::new_macro(const Node& node, Activation* act) {
  return Value::macro(&macros_.emplace_back(Macro{&node, act}));
}

Status Interpreter::macro_arguments(const Macro& macro, Args& args, Activation* act) {
  const Node& node = *macro.node;
  const std::string name = node.kind == NodeKind::kMacro ? node.text : "caller";
  const std::size_t expected = node.list.size();
  const auto take_named = [&](const std::string& key) {
    const auto it = std::find_if(args.named.begin(), args.named.end(), [&](const auto& n) { return n.first == key; });
    if (it == args.named.end()) return Value();
    Value value = std::move(it->second);
    args.named.erase(it);
    return value;
  };
  for (std::size_t i = 0; i < expected; ++i) {
    const bool positional = i < args.positional.size();
    slot(node.list[i]->ref, act) = positional ? args.positional[i] : take_named(node.list[i]->text);
  }
  if (node.caller_slot >= 0) {
    Value caller = take_named("caller");
    if (caller.is_missing() || caller.is(Kind::kNone)) caller = Value::undefined("No caller defined");
    act->slots[static_cast<std::size_t>(node.caller_slot)] = std::move(caller);
  }
  if (node.takes_kwargs) {
    auto rest = std::make_shared<Dict>();
    for (auto& [key, value] : args.named) rest->set(Value::string(key), std::move(value));
    act->slots[static_cast<std::size_t>(node.kwargs_slot)] = Value::dict(std::move(rest));
  } else if (!args.named.empty()) {
    return fail("macro '" + name + "' takes no keyword argument '" + args.named[0].first + "'");
  }
  Values rest;
  if (args.positional.size() > expected)
    rest.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(expected), args.positional.end());
  if (node.takes_varargs) {
    act->slots[static_cast<std::size_t>(node.varargs_slot)] = Value::tuple(std::move(rest));
  } else if (!rest.empty()) {
    return fail("macro '" + name + "' takes not more than " + std::to_string(expected) + " argument(s)");
  }
  return {};
}

Result<Value> Interpreter::call_macro(const Macro& macro, Args& args) {
  const Nest nest(this);
  if (depth_ > limits_.max_depth) return fail("macros nest too deeply");
  if (macros_.size() + kept_.size() > kMaxFetched) return fail("template makes too many macros");
  const Node& node = *macro.node;
  std::unique_ptr<Activation> local;
  Activation* act = activation(node.function, macro.defined_in, &local);
  QW_TRY(macro_arguments(macro, args, act));
  enter(node.scope, act);
  const std::size_t without_default = node.list.size() - node.list2.size();
  for (std::size_t i = 0; i < node.list.size(); ++i) {
    Value& parameter = slot(node.list[i]->ref, act);
    if (!parameter.is_missing()) continue;
    if (i < without_default) {
      parameter = Value::undefined("parameter '" + node.list[i]->text + "' was not provided");
      continue;
    }
    QW_ASSIGN(Value value, eval(*node.list2[i - without_default], act));
    slot(node.list[i]->ref, act) = std::move(value);
  }
  std::string body;
  QW_TRY(captured(node.body, act, &body).map([](Flow) {}));
  return Value::string(std::move(body));
}

}  // namespace qw::chat::internal
