// The syntax tree of a template. Nodes belong to the tree's arena, so destruction never recurses.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "chat/internal/place.h"
#include "chat/internal/value.h"

namespace qw::chat::internal {

enum class NodeKind : std::uint8_t {
  // Expressions
  kConst,
  kName,
  kTuple,
  kList,
  kDict,    // list: key, value, key, value, ...
  kBinary,  // a op b, op in text
  kNegative,
  kPositive,
  kNot,
  kAnd,
  kOr,
  kCompare,  // a, then list with ops
  kConcat,
  kConditional,      // a if b else c; c may be null
  kAttribute,        // a.text
  kItem,             // a[b]
  kSlice,            // a:b:c, each may be null
  kCall,             // a(args)
  kFilter,           // a|text(args); a is null for the innermost of a filter block
  kTest,             // a is text(args)
  kNamespaceTarget,  // name.text, only assigned to
  // Statements
  kTemplate,     // body
  kOutput,       // list
  kData,         // text
  kFor,          // a target, b iterable, c filter or null, body, else_body
  kIf,           // a, body, list of kIf (elif), else_body
  kSet,          // a target, b value
  kSetBlock,     // a target, b filter or null, body
  kMacro,        // text, list parameters, list2 defaults, body
  kCallBlock,    // a call, list parameters, list2 defaults, body
  kGeneration,   // body
  kWith,         // list targets, list2 values, body
  kFilterBlock,  // a filter, body
  kBreak,
  kContinue,
};

enum class NameUse : std::uint8_t { kLoad, kStore, kParameter };

// Where a variable lives: `up` functions outwards, slot `slot`.
struct Ref {
  int up = 0;
  int slot = -1;
};

// What entering a scope does to one of its variables.
struct Load {
  enum class Action : std::uint8_t { kParameter, kResolve, kAlias, kUnset };
  int slot = 0;
  Action action = Action::kUnset;
  Ref source;            // of an alias
  std::string variable;  // to resolve from what the caller gave
};
struct Scope {
  std::vector<Load> loads;
};
// A body with its own variables: the template, a macro, a call block, a loop filter, a recursive loop.
struct FunctionShape {
  int slots = 0;
  bool has_inner = false;  // others are defined inside, so its variables may outlive a call
};

struct Node {
  NodeKind kind;
  Place place;
  int height = 1;
  NameUse use = NameUse::kLoad;
  bool recursive = false;
  bool explicit_caller = false;  // macro: `caller` is a written parameter
  bool takes_caller = false, takes_kwargs = false, takes_varargs = false;
  Node* a = nullptr;
  Node* b = nullptr;
  Node* c = nullptr;
  std::string text;
  Value value;
  std::vector<Node*> list, list2, body, else_body;
  std::vector<std::string> ops;                      // of comparisons
  std::vector<std::pair<std::string, Node*>> named;  // keyword arguments
  Node* star = nullptr;                              // *args
  Node* star_star = nullptr;                         // **kwargs
  Ref ref;                                           // of a name, or of the name a macro is bound to
  Ref filter_ref;                                    // of a loop target inside the loop's filter
  Ref loop_ref;                                      // of `loop`, slot -1 if the body never asks for it
  int caller_slot = -1, kwargs_slot = -1, varargs_slot = -1;
  Scope scope, else_scope, filter_scope;
  FunctionShape function, filter_function;
};

struct Tree {
  std::vector<std::unique_ptr<Node>> arena;
  Node* root = nullptr;
};

}  // namespace qw::chat::internal
