#include "chat/internal/parser_impl.h"

namespace qw::chat::internal {

Result<Node*> Parser::expression(bool with_condition) {
  if (depth_ > kMaxNesting) return fail_here("expression nests too deeply");
  const Deeper deeper(&depth_);
  return with_condition ? condition() : or_chain();
}

Result<Node*> Parser::condition() {
  Place place = now().place;
  QW_ASSIGN(Node * value, or_chain());
  while (skip_name("if")) {
    Node* node = make(NodeKind::kConditional, place);
    node->a = value;
    QW_ASSIGN(node->b, or_chain());
    if (skip_name("else")) {
      QW_ASSIGN(node->c, expression());
    }
    QW_ASSIGN(value, done(node));
    place = now().place;
  }
  return value;
}

Result<Node*> Parser::or_chain() {
  QW_ASSIGN(Node * left, and_chain());
  while (is_name("or")) {
    Node* node = make(NodeKind::kOr, next().place);
    node->a = left;
    QW_ASSIGN(node->b, and_chain());
    QW_ASSIGN(left, done(node));
  }
  return left;
}

Result<Node*> Parser::and_chain() {
  QW_ASSIGN(Node * left, negation());
  while (is_name("and")) {
    Node* node = make(NodeKind::kAnd, next().place);
    node->a = left;
    QW_ASSIGN(node->b, negation());
    QW_ASSIGN(left, done(node));
  }
  return left;
}

Result<Node*> Parser::negation() {
  if (!is_name("not")) return comparison();
  if (depth_ > kMaxNesting) return fail_here("expression nests too deeply");
  const Deeper deeper(&depth_);
  Node* node = make(NodeKind::kNot, next().place);
  QW_ASSIGN(node->a, negation());
  return done(node);
}

Result<Node*> Parser::comparison() {
  QW_ASSIGN(Node * first, sum());
  Node* node = nullptr;
  for (;;) {
    const Place place = now().place;
    std::string op;
    if (is(TokenKind::kOperator) &&
        (is_op("==") || is_op("!=") || is_op("<") || is_op("<=") || is_op(">") || is_op(">="))) {
      op = next().text;
    } else if (skip_name("in")) {
      op = "in";
    } else if (is_name("not") && ahead().kind == TokenKind::kName && ahead().text == "in") {
      next();
      next();
      op = "not in";
    } else {
      return node ? done(node) : first;
    }
    if (!node) {
      node = make(NodeKind::kCompare, place);
      node->a = first;
    }
    QW_ASSIGN(Node * right, sum());
    node->list.push_back(right);
    node->ops.push_back(std::move(op));
  }
}

template <class Inner>
Result<Node*> Parser::left_chain(Names ops, Inner inner) {
  QW_ASSIGN(Node * left, inner());
  while (is(TokenKind::kOperator) && std::find(ops.begin(), ops.end(), now().text) != ops.end()) {
    Node* node = make(NodeKind::kBinary, now().place);
    node->text = next().text;
    node->a = left;
    QW_ASSIGN(node->b, inner());
    QW_ASSIGN(left, done(node));
  }
  return left;
}

Result<Node*> Parser::sum() {
  return left_chain({"+", "-"}, [this] { return concat(); });
}

Result<Node*> Parser::concat() {
  const Place place = now().place;
  QW_ASSIGN(Node * first, product());
  if (!is_op("~")) return first;
  Node* node = make(NodeKind::kConcat, place);
  node->list.push_back(first);
  while (skip_op("~")) {
    QW_ASSIGN(Node * item, product());
    node->list.push_back(item);
  }
  return done(node);
}

Result<Node*> Parser::product() {
  return left_chain({"*", "/", "//", "%"}, [this] { return power(); });
}

Result<Node*> Parser::power() {
  return left_chain({"**"}, [this] { return unary(); });
}

Result<Node*> Parser::unary(bool with_filter) {
  if (depth_ > kMaxNesting) return fail_here("expression nests too deeply");
  const Deeper deeper(&depth_);
  Node* node = nullptr;
  if (is_op("-") || is_op("+")) {
    node = make(is_op("-") ? NodeKind::kNegative : NodeKind::kPositive, now().place);
    next();
    QW_ASSIGN(node->a, unary(false));
    QW_ASSIGN(node, done(node));
  } else {
    QW_ASSIGN(node, primary());
  }
  QW_ASSIGN(node, postfix(node));
  return with_filter ? filters(node) : node;
}

Result<Node*> Parser::primary(bool with_namespace) {
  const Token& token = now();
  const Place place = token.place;
  Node* node = make(NodeKind::kConst, place);
  switch (token.kind) {
    case TokenKind::kName:
      next();
      if (token.text == "true" || token.text == "True" || token.text == "false" || token.text == "False") {
        node->value = Value::boolean(token.text == "true" || token.text == "True");
      } else if (token.text == "none" || token.text == "None") {
        node->value = Value::none();
      } else {
        node->kind = NodeKind::kName;
        node->text = token.text;
        if (with_namespace && is_op(".")) {  // "ns.attribute" as a target: a holds the namespace's name
          next();
          Node* name = node;
          node = make(NodeKind::kNamespaceTarget, place);
          node->a = name;
          QW_ASSIGN(node->text, any_name());
          return done(node);
        }
      }
      return node;
    case TokenKind::kString: {
      std::string text;
      while (is(TokenKind::kString)) text += next().text;
      node->value = Value::string(std::move(text));
      return node;
    }
    case TokenKind::kInteger:
      node->value = Value::integer(next().integer);
      return node;
    case TokenKind::kFloat:
      node->value = Value::real(next().real);
      return node;
    default:
      break;
  }
  if (skip_op("(")) {
    QW_ASSIGN(node, tuple(false, true, {}, true));
    QW_TRY(expect_op(")"));
    return node;
  }
  if (is_op("[")) return list();
  if (is_op("{")) return dict();
  return fail_here("unexpected " + described());
}

bool Parser::tuple_ends(Names extra) const {
  return is(TokenKind::kVariableEnd) || is(TokenKind::kBlockEnd) || is_op(")") || is_any_name(extra);
}

Result<Node*> Parser::tuple(bool simplified, bool with_condition, Names extra_ends, bool parentheses,
                            bool with_namespace) {
  const Place place = now().place;
  Node* node = make(NodeKind::kTuple, place);
  bool is_tuple = false;
  while (true) {
    if (!node->list.empty()) QW_TRY(expect_op(","));
    if (tuple_ends(extra_ends)) break;
    QW_ASSIGN(Node * item, simplified ? primary(with_namespace) : expression(with_condition));
    node->list.push_back(item);
    if (!is_op(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !node->list.empty()) return node->list[0];
  if (!is_tuple && !parentheses) return fail_here("Expected an expression, got " + described());
  return done(node);
}

Result<Node*> Parser::list() {
  Node* node = make(NodeKind::kList, next().place);
  while (!is_op("]")) {
    if (!node->list.empty()) QW_TRY(expect_op(","));
    if (is_op("]")) break;
    QW_ASSIGN(Node * item, expression());
    node->list.push_back(item);
  }
  next();
  return done(node);
}

Result<Node*> Parser::dict() {
  Node* node = make(NodeKind::kDict, next().place);
  while (!is_op("}")) {
    if (!node->list.empty()) QW_TRY(expect_op(","));
    if (is_op("}")) break;
    QW_ASSIGN(Node * key, expression());
    QW_TRY(expect_op(":"));
    QW_ASSIGN(Node * value, expression());
    node->list.push_back(key);
    node->list.push_back(value);
  }
  next();
  return done(node);
}

Result<Node*> Parser::postfix(Node* node) {
  for (;;) {
    if (is_op(".") || is_op("[")) {
      QW_ASSIGN(node, subscript(node));
    } else if (is_op("(")) {
      QW_ASSIGN(node, call(node));
    } else {
      return node;
    }
  }
}

Result<Node*> Parser::filters(Node* node) {
  for (;;) {
    if (is_op("|")) {
      QW_ASSIGN(node, filter(node, false));
    } else if (is_name("is")) {
      QW_ASSIGN(node, predicate(node));
    } else if (is_op("(")) {
      QW_ASSIGN(node, call(node));
    } else {
      return node;
    }
  }
}

Result<Node*> Parser::filter(Node* node, bool start_inline) {
  while (is_op("|") || start_inline) {
    if (!start_inline) next();
    start_inline = false;
    Node* outer = make(NodeKind::kFilter, now().place);
    outer->a = node;
    QW_ASSIGN(outer->text, any_name());
    while (skip_op(".")) {
      QW_ASSIGN(const std::string part, any_name());
      outer->text += "." + part;
    }
    if (is_op("(")) QW_TRY(call_args(outer));
    QW_ASSIGN(node, done(outer));
  }
  return node;
}

Result<Node*> Parser::predicate(Node* value) {
  Node* node = make(NodeKind::kTest, next().place);
  node->a = value;
  const bool negated = skip_name("not");
  QW_ASSIGN(node->text, any_name());
  while (skip_op(".")) {
    QW_ASSIGN(const std::string part, any_name());
    node->text += "." + part;
  }
  const bool argument_follows = is(TokenKind::kName) || is(TokenKind::kString) || is(TokenKind::kInteger) ||
                                is(TokenKind::kFloat) || is_op("[") || is_op("{");
  if (is_op("(")) {
    QW_TRY(call_args(node));
  } else if (argument_follows && !is_any_name({"else", "or", "and"})) {
    if (is_name("is")) return fail_here("You cannot chain multiple tests with is");
    QW_ASSIGN(Node * argument, primary());
    QW_ASSIGN(argument, postfix(argument));
    node->list.push_back(argument);
  }
  QW_ASSIGN(node, done(node));
  if (!negated) return node;
  Node* outer = make(NodeKind::kNot, node->place);
  outer->a = node;
  return done(outer);
}

Result<Node*> Parser::subscript(Node* value) {
  const Place place = now().place;
  if (skip_op(".")) {
    if (is(TokenKind::kName)) {
      Node* node = make(NodeKind::kAttribute, now().place);
      node->a = value;
      node->text = next().text;
      return done(node);
    }
    if (!is(TokenKind::kInteger)) return fail_here("expected name or number, got " + described());
    Node* index = make(NodeKind::kConst, place);
    index->value = Value::integer(next().integer);
    Node* node = make(NodeKind::kItem, place);
    node->a = value;
    node->b = index;
    return done(node);
  }
  next();  // "["
  Node* indices = make(NodeKind::kTuple, place);
  while (!is_op("]")) {
    if (!indices->list.empty()) QW_TRY(expect_op(","));
    QW_ASSIGN(Node * index, subscribed());
    indices->list.push_back(index);
  }
  next();
  QW_ASSIGN(indices, done(indices));
  Node* node = make(NodeKind::kItem, place);
  node->a = value;
  node->b = indices->list.size() == 1 ? indices->list[0] : indices;
  return done(node);
}

Result<Node*> Parser::subscribed() {
  Node* node = make(NodeKind::kSlice, now().place);
  if (!skip_op(":")) {
    QW_ASSIGN(node->a, expression());
    if (!skip_op(":")) return node->a;
  }
  const auto part_follows = [this] { return !is_op(":") && !is_op("]") && !is_op(","); };
  if (part_follows()) {
    QW_ASSIGN(node->b, expression());
  }
  if (skip_op(":") && part_follows()) {
    QW_ASSIGN(node->c, expression());
  }
  return done(node);
}

Result<Node*> Parser::call(Node* callee) {
  Node* node = make(NodeKind::kCall, callee->place);
  node->a = callee;
  QW_TRY(call_args(node));
  return done(node);
}

Status Parser::call_args(Node* node) {
  const Place place = now().place;
  const auto wrong = [&] { return template_error(place, "invalid syntax for function call expression"); };
  QW_TRY(expect_op("("));
  for (bool first = true; !is_op(")"); first = false) {
    if (!first) {
      QW_TRY(expect_op(","));
      if (is_op(")")) break;
    }
    if (skip_op("*")) {
      if (node->star || node->star_star) return wrong();
      QW_ASSIGN(node->star, expression());
    } else if (skip_op("**")) {
      if (node->star_star) return wrong();
      QW_ASSIGN(node->star_star, expression());
    } else if (is(TokenKind::kName) && ahead().kind == TokenKind::kOperator && ahead().text == "=") {
      if (node->star_star) return wrong();
      if (node->named.size() >= kMaxArguments) return fail_here("too many arguments");
      std::string name = next().text;
      next();
      QW_ASSIGN(Node * value, expression());
      for (const auto& [other, v] : node->named)
        if (other == name) return template_error(place, "keyword argument repeated: " + name);
      node->named.emplace_back(std::move(name), value);
    } else {
      if (node->star || node->star_star || !node->named.empty()) return wrong();
      QW_ASSIGN(Node * value, expression());
      node->list.push_back(value);
    }
  }
  next();
  return {};
}

}  // namespace qw::chat::internal
