// Runs a template's tree. One Interpreter is one rendering: it owns the variables, the output and everything that is
// created on the way, and it counts what the template may use up.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "chat/internal/ast.h"
#include "chat/internal/loop.h"
#include "chat/internal/value.h"
#include "chat/template.h"

namespace qw::chat::internal {

// The variables of one call of a template, macro, call block, loop filter or recursive loop.
struct Activation {
  Activation* parent = nullptr;
  Values slots;
};

// A macro with the variables around it. A call block's body is one too.
struct Macro {
  const Node* node = nullptr;
  Activation* defined_in = nullptr;
};

class Interpreter {
 public:
  Interpreter(const Tree& tree, const json::Object& variables, const RenderLimits& limits);
  ~Interpreter();
  Result<Rendered> run();

  // For filters, methods and functions.
  tl::unexpected<Error> fail(std::string_view message) const;
  Status work(double units);                   // counts like `units` evaluated nodes
  Status characters(const std::string& text);  // before looking at each of its characters
  Status room(std::size_t bytes);              // before making a string that large
  Result<Value> string(std::string text, bool markup = false);
  Result<Value> list(Values items);
  Result<Value> tuple(Values items);
  // One pass over what `next` gives, as Python's generators: nothing is computed before it is asked for.
  Result<Value> iterator(std::function<Result<Value>()> next, const Value& over);
  Result<Value> strings(std::vector<std::string> items, bool markup = false);  // a list
  Result<Value> dict(std::shared_ptr<Dict> dict);
  Result<std::string> text(const Value& value);  // str(value)
  Result<std::string> repr(const Value& value);
  Result<bool> same(const Value& a, const Value& b);  // ==
  Result<Values> iterate(const Value& value);
  using Source = std::function<Result<Value>()>;
  Result<Source> source(const Value& value);
  Result<std::int64_t> length(const Value& value);
  Result<Value> attribute(const Value& value, const std::string& name);
  Result<Value> item(const Value& value, const Value& key);
  Result<Value> call(const Value& callee, Args& args);
  Result<Value> filter(const std::string& name, const Value& value, Args& args);
  Result<bool> test(const std::string& name, const Value& value, Args& args);
  Result<Value> binary(std::string_view op, const Value& a, const Value& b);
  Result<bool> compare(std::string_view op, const Value& a, const Value& b);
  Result<bool> contains(const Value& container, const Value& value);
  Namespace* new_namespace();
  void watch(const Value& loop) { watched_.push_back(loop); }  // loops that remember values: the only possible cycles
  std::tm now() const;
  const RenderLimits& limits() const { return limits_; }

 private:
  enum class Flow { kNext, kBreak, kContinue };
  // Counts nesting while it lives; every recursion of the interpreter holds one.
  struct Nest {
    explicit Nest(Interpreter* in) : in_(in) { ++in_->depth_; }
    ~Nest() { --in_->depth_; }
    Nest(const Nest&) = delete;
    Interpreter* in_;
  };

  Result<Value> eval(const Node& node, Activation* act);
  Result<Value> eval_name(const Node& node, Activation* act);
  Result<Value> eval_dict(const Node& node, Activation* act);
  Result<Value> eval_chain(const Node& node, Activation* act);
  Result<Value> eval_compare(const Node& node, Activation* act);
  Result<Value> eval_concat(const Node& node, Activation* act);
  Result<Value> eval_item(const Node& node, Activation* act);
  Result<Value> eval_sign(const Node& node, Activation* act);
  Result<Value> eval_call(const Node& node, Activation* act, const Value* caller);
  Result<Value> eval_filter(const Node& node, Activation* act, const Value* innermost);
  Result<Values> eval_all(const std::vector<Node*>& nodes, Activation* act);
  Result<Args> eval_args(const Node& node, Activation* act);
  Result<bool> eval_truth(const Node& node, Activation* act);

  Result<Flow> exec_all(const std::vector<Node*>& nodes, Activation* act);
  Result<Flow> exec(const Node& node, Activation* act);
  Result<Flow> exec_if(const Node& node, Activation* act);
  Result<Flow> exec_for(const Node& node, Activation* act);
  Result<Flow> run_loop(const Node& node, Activation* act, Activation* outer, const Value& items, std::int64_t depth0);
  Result<Source> filtered(const Node& node, Activation* outer, Source from);
  Result<Flow> loop_body(const Node& node, Activation* act, const Value& item);
  Result<Value> call_loop(Loop& loop, Args& args);
  Status exec_set(const Node& node, Activation* act);
  Result<Flow> exec_set_block(const Node& node, Activation* act);
  Result<Flow> exec_filter_block(const Node& node, Activation* act);
  Result<Flow> exec_with(const Node& node, Activation* act);
  Status exec_call_block(const Node& node, Activation* act);
  Status exec_generation(const Node& node, Activation* act);
  Result<Flow> captured(const std::vector<Node*>& body, Activation* act, std::string* out);

  Result<Value> call_macro(const Macro& macro, Args& args);
  Status macro_arguments(const Macro& macro, Args& args, Activation* act);
  Value new_macro(const Node& node, Activation* act);

  Value& slot(const Ref& ref, Activation* act);
  void enter(const Scope& scope, Activation* act);
  void leave(const Scope& scope, Activation* act);
  Value resolve(const std::string& name);
  Activation* activation(const FunctionShape& shape, Activation* parent, std::unique_ptr<Activation>* local);
  Status assign(const Node& target, Value value, Activation* act, bool in_filter = false);
  Status check_namespaces(const Node& target, Activation* act);
  Status write(std::string_view text);

  const Tree& tree_;
  const json::Object& variables_;
  const RenderLimits& limits_;
  std::unordered_map<std::string, Value> context_;  // variables and globals already looked up
  std::deque<std::unique_ptr<Activation>> kept_;    // activations that closures may still use
  std::deque<Namespace> namespaces_;
  std::deque<Macro> macros_;
  Values watched_;
  Rendered rendered_;
  std::string* out_ = nullptr;  // rendered_.text, or the capture in progress
  std::size_t made_bytes_ = 0;
  double steps_ = 0;
  int depth_ = 0;
  Place place_;  // of what is being evaluated
};

// Name look-up of what is built in; nullptr if there is no such name.
Builtin find_filter(std::string_view name);
Builtin find_string_method(std::string_view name);
Builtin find_list_method(std::string_view name);  // of lists, tuples and ranges
Builtin find_dict_method(std::string_view name);
std::optional<Value> find_global(const std::string& name);
Result<Value> loop_attribute(Interpreter& in, const Value& loop, const std::string& name);
Result<Value> function_attribute(Interpreter& in, const Value& function, const std::string& name);

// value[begin:end:step] of a list, tuple, string or range; absent bounds are none.
Result<Value> slice(Interpreter& in, const Value& value, const Value& begin, const Value& end, const Value& step);
// "..." % value and "...".format(...).
Result<Value> format_percent(Interpreter& in, const Value& format, const Value& value);
Result<Value> format_braces(Interpreter& in, const Value& format, const Args& args);

// Arguments by position or name. Fills `out` (missing where not given); an error names the function.
Status take_args(Interpreter& in, std::string_view function, Args& args, std::initializer_list<const char*> names,
                 std::size_t required, Value* out);
// An argument that must be an integer (or absent: `otherwise`).
Result<std::int64_t> int_arg(Interpreter& in, std::string_view function, const Value& value, std::int64_t otherwise);

}  // namespace qw::chat::internal
