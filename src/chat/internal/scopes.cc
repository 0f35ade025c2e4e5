// Gives every variable its slot, by the rules of Jinja's compiler: which scope a name belongs to is decided from the
// source alone, before anything runs. A name assigned in a scope is local to it and starts as a copy of the outer
// variable of that name, if there is one; bodies of if statements share the scope around them.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "chat/internal/lexer.h"
#include "chat/internal/parser.h"

namespace qw::chat::internal {

namespace {

// Calls f on every child in the order Jinja's nodes list them.
template <class F>
void each_child(const Node& n, F f) {
  const auto one = [&](Node* child) {
    if (child) f(child);
  };
  const auto many = [&](const std::vector<Node*>& children) {
    for (Node* child : children) f(child);
  };
  if (n.kind == NodeKind::kConditional) return one(n.b), one(n.a), one(n.c);
  if (n.kind == NodeKind::kFor) return one(n.a), one(n.b), many(n.body), many(n.else_body), one(n.c);
  if (n.kind == NodeKind::kIf) return one(n.a), many(n.body), many(n.list), many(n.else_body);
  if (n.kind == NodeKind::kFilterBlock) return many(n.body), one(n.a);
  one(n.a), one(n.b), one(n.c);
  many(n.list), many(n.list2);
  for (const auto& [name, child] : n.named) f(child);
  one(n.star), one(n.star_star);
  many(n.body), many(n.else_body);
}

struct FunctionBuild {
  FunctionShape* shape;
  int depth;
  std::map<std::pair<int, std::string>, int> slots;
  int slot_of(int level, const std::string& name) {
    const auto [it, added] = slots.try_emplace({level, name}, shape->slots);
    if (added) ++shape->slots;
    return it->second;
  }
};

struct Ident {
  FunctionBuild* function = nullptr;
  int slot = 0;
};

struct LoadPlan {
  Load::Action action;
  Ident source;
  std::string variable;
};

// Branches copy the names known so far; a source whose copies add up to more than this is not a chat template.
constexpr std::size_t kMaxCopiedNames = 20'000'000;

struct Symbols {
  const Symbols* parent = nullptr;
  std::size_t* copied = nullptr;  // names copied so far, over the whole template
  int level = 0;
  FunctionBuild* function = nullptr;
  std::map<std::string, Ident> refs;
  std::map<int, LoadPlan> loads;  // by slot of this function
  std::set<std::string> stores;

  std::optional<Ident> find(const std::string& name) const {
    for (const Symbols* s = this; s; s = s->parent)
      if (const auto it = s->refs.find(name); it != s->refs.end()) return it->second;
    return std::nullopt;
  }
  int define(const std::string& name, LoadPlan plan) {
    const int slot = function->slot_of(level, name);
    refs[name] = {function, slot};
    loads[slot] = std::move(plan);
    return slot;
  }
  int declare_parameter(const std::string& name) {
    stores.insert(name);
    return define(name, {Load::Action::kParameter, {}, {}});
  }
  void load(const std::string& name) {
    if (!find(name)) define(name, {Load::Action::kResolve, {}, name});
  }
  void store(const std::string& name) {
    stores.insert(name);
    if (refs.count(name)) return;
    const auto outer = parent ? parent->find(name) : std::nullopt;
    define(name, outer ? LoadPlan{Load::Action::kAlias, *outer, {}} : LoadPlan{Load::Action::kUnset, {}, {}});
  }
  void merge_branches(const std::vector<Symbols>& branches) {
    std::set<std::string> stored;
    for (const Symbols& b : branches) stored.insert(b.stores.begin(), b.stores.end());
    for (const std::string& name : stores) stored.erase(name);
    for (const Symbols& b : branches) {
      for (const auto& [name, ident] : b.refs) refs[name] = ident;
      for (const auto& [slot, plan] : b.loads) loads[slot] = plan;
      stores.insert(b.stores.begin(), b.stores.end());
    }
    for (const std::string& name : stored) {
      const auto outer = parent ? parent->find(name) : std::nullopt;
      loads[refs.at(name).slot] =
          outer ? LoadPlan{Load::Action::kAlias, *outer, {}} : LoadPlan{Load::Action::kResolve, {}, name};
    }
  }
};

// What one statement or expression does to the symbols of the scope it stands in; inner scopes are not entered.
void collect(const Node& n, Symbols* s) {
  const auto visit = [&](const Node* child) { collect(*child, s); };
  switch (n.kind) {
    case NodeKind::kName:
      if (n.use == NameUse::kParameter) return static_cast<void>(s->declare_parameter(n.text));
      return n.use == NameUse::kStore ? s->store(n.text) : s->load(n.text);
    case NodeKind::kNamespaceTarget:
      return s->load(n.a->text);
    case NodeKind::kMacro:
      return s->store(n.text);
    case NodeKind::kSet:
      return visit(n.b), visit(n.a);
    case NodeKind::kFor:
      return visit(n.b);
    case NodeKind::kCallBlock:
    case NodeKind::kFilterBlock:
    case NodeKind::kSetBlock:
      return visit(n.a);
    case NodeKind::kGeneration:
      return;
    case NodeKind::kWith:
      for (const Node* value : n.list2) visit(value);
      return;
    case NodeKind::kIf: {
      visit(n.a);
      *s->copied += s->refs.size() + 1;
      if (*s->copied > kMaxCopiedNames) return;
      std::vector<Symbols> branches(3, *s);
      for (const Node* node : n.body) collect(*node, &branches[0]);
      for (const Node* node : n.list) collect(*node, &branches[1]);
      for (const Node* node : n.else_body) collect(*node, &branches[2]);
      return s->merge_branches(branches);
    }
    default:
      each_child(n, visit);
  }
}

// Names among `wanted` that a body reads before it defines them, anywhere below.
void undeclared(const Node& n, std::set<std::string>* wanted, std::set<std::string>* found) {
  if (n.kind == NodeKind::kName && wanted->count(n.text)) {
    n.use == NameUse::kLoad ? found->insert(n.text), void() : static_cast<void>(wanted->erase(n.text));
  }
  each_child(n, [&](const Node* child) { undeclared(*child, wanted, found); });
}

std::set<std::string> undeclared(const std::vector<Node*>& body, std::set<std::string> wanted) {
  std::set<std::string> found;
  for (const Node* node : body) undeclared(*node, &wanted, &found);
  return found;
}

const Node* stores_loop(const Node& n) {
  if (n.kind == NodeKind::kName && n.use == NameUse::kStore && n.text == "loop") return &n;
  const Node* hit = nullptr;
  each_child(n, [&](const Node* child) {
    if (!hit) hit = stores_loop(*child);
  });
  return hit;
}

struct Frame {
  Symbols symbols;
  bool soft = false;     // inside a condition: unknown filters are an error only when reached
  bool in_loop = false;  // break and continue have something to act on
};

class Binder {
 public:
  Status run(Tree* tree);

 private:
  Frame inner(const Frame& outer, FunctionBuild* function = nullptr) const;
  FunctionBuild function(const Frame& outer, FunctionShape* shape, bool outlives) const;
  static Scope scope_of(const Frame& frame);
  static Ref ref_of(const Ident& ident, const FunctionBuild& from) {
    return {from.depth - ident.function->depth, ident.slot};
  }

  Status bind_all(const std::vector<Node*>& nodes, Frame* frame);
  Status bind(Node* node, Frame* frame);
  Status bind_children(Node* node, Frame* frame);
  Status bind_for(Node* node, Frame* frame);
  Status bind_loop_parts(Node* node, Frame* frame, Frame* body, Frame* otherwise);
  Status bind_callable(Node* node, Frame* frame);
  Status bind_with(Node* node, Frame* frame);
  Status bind_captured(Node* node, Frame* frame);
  void bind_filter_target(Node* target, const Frame& test);
};

Frame Binder::inner(const Frame& outer, FunctionBuild* function) const {
  Frame frame;
  frame.symbols.parent = &outer.symbols;
  frame.symbols.copied = outer.symbols.copied;
  frame.symbols.level = outer.symbols.level + 1;
  frame.symbols.function = function ? function : outer.symbols.function;
  frame.in_loop = !function && outer.in_loop;
  return frame;
}

FunctionBuild Binder::function(const Frame& outer, FunctionShape* shape, bool outlives) const {
  if (outlives) outer.symbols.function->shape->has_inner = true;
  return {shape, outer.symbols.function->depth + 1, {}};
}

Scope Binder::scope_of(const Frame& frame) {
  Scope scope;
  for (const auto& [slot, plan] : frame.symbols.loads) {
    Load load{slot, plan.action, {}, plan.variable};
    if (plan.action == Load::Action::kAlias) load.source = ref_of(plan.source, *frame.symbols.function);
    scope.loads.push_back(std::move(load));
  }
  return scope;
}

Status Binder::run(Tree* tree) {
  FunctionBuild root{&tree->root->function, 0, {}};
  std::size_t copied = 0;
  Frame frame;
  frame.symbols.function = &root;
  frame.symbols.copied = &copied;
  for (const Node* node : tree->root->body) collect(*node, &frame.symbols);
  QW_TRY(bind_all(tree->root->body, &frame));
  tree->root->scope = scope_of(frame);
  return {};
}

Status Binder::bind_all(const std::vector<Node*>& nodes, Frame* frame) {
  for (Node* node : nodes) QW_TRY(bind(node, frame));
  return {};
}

Status Binder::bind_children(Node* node, Frame* frame) {
  Status status;
  each_child(*node, [&](Node* child) {
    if (status) status = bind(child, frame);
  });
  return status;
}

Status Binder::bind(Node* node, Frame* frame) {
  switch (node->kind) {
    case NodeKind::kName: {
      const auto ident = frame->symbols.find(node->text);
      if (!ident) return template_error(node->place, "too many variables and conditions");
      node->ref = ref_of(*ident, *frame->symbols.function);
      return {};
    }
    case NodeKind::kIf:
    case NodeKind::kConditional: {
      const bool soft = std::exchange(frame->soft, true);
      Status status = bind_children(node, frame);
      frame->soft = soft;
      return status;
    }
    case NodeKind::kFilter:
      if (!frame->soft && !known_filter(node->text))
        return template_error(node->place, "No filter named '" + node->text + "'");
      return bind_children(node, frame);
    case NodeKind::kTest:
      if (!frame->soft && !known_predicate(node->text))
        return template_error(node->place, "No test named '" + node->text + "'");
      return bind_children(node, frame);
    case NodeKind::kBreak:
    case NodeKind::kContinue:
      if (!frame->in_loop) return template_error(node->place, "loop control outside of a loop");
      return {};
    case NodeKind::kFor:
      return bind_for(node, frame);
    case NodeKind::kMacro:
    case NodeKind::kCallBlock:
    case NodeKind::kGeneration:
      return bind_callable(node, frame);
    case NodeKind::kWith:
      return bind_with(node, frame);
    case NodeKind::kSetBlock:
    case NodeKind::kFilterBlock:
      return bind_captured(node, frame);
    default:
      return bind_children(node, frame);
  }
}

void Binder::bind_filter_target(Node* target, const Frame& test) {
  if (target->kind == NodeKind::kName)
    target->filter_ref = ref_of(*test.symbols.find(target->text), *test.symbols.function);
  for (Node* item : target->list) bind_filter_target(item, test);
}

void declare_targets(const Node& target, Symbols* symbols) {
  if (target.kind == NodeKind::kName) symbols->declare_parameter(target.text);
  for (const Node* item : target.list) declare_targets(*item, symbols);
}

Status Binder::bind_for(Node* node, Frame* frame) {
  if (const Node* bad = stores_loop(*node))
    return template_error(bad->place, "Can't assign to special loop variable in for-loop");
  QW_TRY(bind(node->b, frame));
  if (node->c) {
    FunctionBuild filter = function(*frame, &node->filter_function, false);
    Frame test = inner(*frame, &filter);
    declare_targets(*node->a, &test.symbols);
    collect(*node->c, &test.symbols);
    bind_filter_target(node->a, test);
    QW_TRY(bind(node->c, &test));
    node->filter_scope = scope_of(test);
  }
  if (!node->recursive) {
    Frame body = inner(*frame), otherwise = inner(*frame);
    return bind_loop_parts(node, frame, &body, &otherwise);
  }
  FunctionBuild own = function(*frame, &node->function, true);
  Frame body = inner(*frame, &own), otherwise = inner(*frame, &own);
  return bind_loop_parts(node, frame, &body, &otherwise);
}

Status Binder::bind_loop_parts(Node* node, Frame*, Frame* body, Frame* otherwise) {
  if (node->recursive || undeclared(node->body, {"loop"}).count("loop"))
    node->loop_ref = {0, body->symbols.declare_parameter("loop")};
  declare_targets(*node->a, &body->symbols);
  for (const Node* item : node->body) collect(*item, &body->symbols);
  for (const Node* item : node->else_body) collect(*item, &otherwise->symbols);
  body->in_loop = true;
  QW_TRY(bind(node->a, body));
  QW_TRY(bind_all(node->body, body));
  QW_TRY(bind_all(node->else_body, otherwise));
  node->scope = scope_of(*body);
  node->else_scope = scope_of(*otherwise);
  return {};
}

Status Binder::bind_callable(Node* node, Frame* frame) {
  if (node->kind == NodeKind::kCallBlock) QW_TRY(bind(node->a, frame));
  if (node->kind == NodeKind::kMacro) {
    const auto ident = frame->symbols.find(node->text);
    if (!ident) return template_error(node->place, "too many variables and conditions");
    node->ref = ref_of(*ident, *frame->symbols.function);
  }
  FunctionBuild own = function(*frame, &node->function, true);
  Frame body = inner(*frame, &own);
  const auto analyze = [&] {
    for (const auto* nodes : {&node->list, &node->list2, &node->body})
      for (const Node* item : *nodes) collect(*item, &body.symbols);
  };
  analyze();
  const auto special = undeclared(node->body, {"caller", "kwargs", "varargs"});
  const auto parameter = [&](const std::string& name) {
    const auto it = std::find_if(node->list.begin(), node->list.end(), [&](Node* p) { return p->text == name; });
    return it == node->list.end() ? -1 : static_cast<int>(it - node->list.begin());
  };
  if (special.count("caller")) {
    const int explicit_at = parameter("caller");
    node->takes_caller = true;
    node->explicit_caller = explicit_at >= 0;
    if (explicit_at < 0) node->caller_slot = body.symbols.declare_parameter("caller");
    const auto without_default = static_cast<int>(node->list.size() - node->list2.size());
    if (explicit_at >= 0 && explicit_at < without_default)
      return template_error(node->place, "the special \"caller\" argument must be omitted or be given a default");
  }
  if (special.count("kwargs") && parameter("kwargs") < 0) {
    node->takes_kwargs = true;
    node->kwargs_slot = body.symbols.declare_parameter("kwargs");
  }
  if (special.count("varargs") && parameter("varargs") < 0) {
    node->takes_varargs = true;
    node->varargs_slot = body.symbols.declare_parameter("varargs");
  }
  analyze();
  QW_TRY(bind_all(node->list, &body));
  QW_TRY(bind_all(node->list2, &body));
  QW_TRY(bind_all(node->body, &body));
  node->scope = scope_of(body);
  return {};
}

Status Binder::bind_with(Node* node, Frame* frame) {
  QW_TRY(bind_all(node->list2, frame));
  Frame body = inner(*frame);
  for (const Node* target : node->list) collect(*target, &body.symbols);
  for (const Node* item : node->body) collect(*item, &body.symbols);
  QW_TRY(bind_all(node->list, &body));
  QW_TRY(bind_all(node->body, &body));
  node->scope = scope_of(body);
  return {};
}

// A set or filter block: the body is a scope of its own; the filter's arguments are seen from inside it.
Status Binder::bind_captured(Node* node, Frame* frame) {
  Node* filter = node->kind == NodeKind::kSetBlock ? node->b : node->a;
  if (node->kind == NodeKind::kSetBlock) QW_TRY(bind(node->a, frame));
  Frame body = inner(*frame);
  for (const Node* item : node->body) collect(*item, &body.symbols);
  if (filter) {
    collect(*filter, &body.symbols);
    QW_TRY(bind(filter, &body));
  }
  QW_TRY(bind_all(node->body, &body));
  node->scope = scope_of(body);
  return {};
}

}  // namespace

Status bind_names(Tree* tree) { return Binder().run(tree); }

}  // namespace qw::chat::internal
