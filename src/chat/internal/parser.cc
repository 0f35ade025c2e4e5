#include "chat/internal/parser.h"

#include <algorithm>
#include <initializer_list>

#include "chat/internal/lexer.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

namespace {

// Nesting of tags and brackets in a source; each level costs some ten C++ frames.
constexpr int kMaxNesting = 150;
// Height of the tree, which long chains (a + b + c ...) reach without nesting. Later passes recurse this deep.
constexpr int kMaxHeight = 1000;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  Result<Tree> run();

 private:
  using Parsed = Result<Node*>;
  using Names = std::initializer_list<std::string_view>;

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is(TokenKind kind) const { return now().kind == kind; }
  bool is_op(std::string_view op) const { return is(TokenKind::kOperator) && now().text == op; }
  bool is_name(std::string_view name) const { return is(TokenKind::kName) && now().text == name; }
  bool is_any_name(Names names) const {
    return is(TokenKind::kName) && std::find(names.begin(), names.end(), now().text) != names.end();
  }
  bool skip_op(std::string_view op) { return is_op(op) ? (next(), true) : false; }
  bool skip_name(std::string_view name) { return is_name(name) ? (next(), true) : false; }
  tl::unexpected<Error> fail_here(std::string message) const { return template_error(now().line, message); }
  std::string described() const;
  Status expect_op(std::string_view op);
  Status expect_name(std::string_view name);
  Status expect(TokenKind kind, std::string_view what);
  Result<std::string> any_name();

  Node* make(NodeKind kind, int line);
  Parsed done(Node* node);  // fixes the height of a finished node

  Result<std::vector<Node*>> subparse(Names ends);
  Result<std::vector<Node*>> body(Names ends, bool drop);
  Parsed statement();
  Parsed statement_of(const std::string& name);
  Parsed parse_for();
  Parsed parse_if();
  Parsed parse_set();
  Parsed parse_macro();
  Parsed parse_call_block();
  Parsed parse_with();
  Parsed parse_filter_block();
  Parsed parse_print();
  Status parse_signature(Node* node);

  Parsed target(bool with_namespace, Names extra_ends);
  Parsed target_name();
  Status as_target(Node* node, NameUse use);
  Parsed expression(bool with_condition = true);
  Parsed condition();
  Parsed or_chain();
  Parsed and_chain();
  Parsed negation();
  Parsed comparison();
  Parsed sum();
  Parsed concat();
  Parsed product();
  Parsed power();
  Parsed unary(bool with_filter = true);
  Parsed primary(bool with_namespace = false);
  Parsed tuple(bool simplified, bool with_condition, Names extra_ends, bool parentheses, bool with_namespace = false);
  Parsed list();
  Parsed dict();
  Parsed postfix(Node* node);
  Parsed filters(Node* node);
  Parsed filter(Node* node, bool start_inline);
  Parsed predicate(Node* node);
  Parsed subscript(Node* node);
  Parsed subscribed();
  Parsed call(Node* node);
  Status call_args(Node* node);
  template <class Inner>
  Parsed left_chain(Names ops, Inner inner);
  bool tuple_ends(Names extra) const;

  struct Deeper {
    explicit Deeper(int* d) : depth(d) { ++*depth; }
    ~Deeper() { --*depth; }
    int* depth;
  };

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
  Tree tree_;
};

std::string Parser::described() const {
  switch (now().kind) {
    case TokenKind::kEnd: return "end of template";
    case TokenKind::kBlockEnd: return "end of statement block";
    case TokenKind::kVariableEnd: return "end of print statement";
    case TokenKind::kString: return quoted(now().text);
    case TokenKind::kInteger:
    case TokenKind::kFloat: return "number";
    default: return "'" + now().text + "'";
  }
}

Status Parser::expect(TokenKind kind, std::string_view what) {
  if (!is(kind)) return fail_here("expected " + std::string(what) + ", got " + described());
  next();
  return {};
}

Status Parser::expect_op(std::string_view op) {
  if (!is_op(op)) return fail_here("expected '" + std::string(op) + "', got " + described());
  next();
  return {};
}

Status Parser::expect_name(std::string_view name) {
  if (!is_name(name)) return fail_here("expected '" + std::string(name) + "', got " + described());
  next();
  return {};
}

Result<std::string> Parser::any_name() {
  if (!is(TokenKind::kName)) return fail_here("expected a name, got " + described());
  return next().text;
}

Node* Parser::make(NodeKind kind, int line) {
  tree_.arena.push_back(std::make_unique<Node>());
  Node* node = tree_.arena.back().get();
  node->kind = kind;
  node->line = line;
  return node;
}

Result<Node*> Parser::done(Node* node) {
  int below = 0;
  const auto count = [&](const Node* child) {
    if (child) below = std::max(below, child->height);
  };
  for (const Node* child : {node->a, node->b, node->c, node->star, node->star_star}) count(child);
  for (const auto* children : {&node->list, &node->list2, &node->body, &node->else_body})
    for (const Node* child : *children) count(child);
  for (const auto& [name, child] : node->named) count(child);
  node->height = below + 1;
  if (node->height > kMaxHeight) return template_error(node->line, "expression or block nests too deeply");
  return node;
}

Result<Tree> Parser::run() {
  tree_.root = make(NodeKind::kTemplate, 1);
  QW_ASSIGN(tree_.root->body, subparse({}));
  QW_TRY(done(tree_.root).map([](Node*) {}));
  return std::move(tree_);
}

Result<std::vector<Node*>> Parser::subparse(Names ends) {
  if (depth_ > kMaxNesting) return fail_here("blocks nest too deeply");
  const Deeper deeper(&depth_);
  std::vector<Node*> nodes;
  while (!is(TokenKind::kEnd)) {
    if (is(TokenKind::kData)) {
      Node* data = make(NodeKind::kData, now().line);
      data->text = next().text;
      nodes.push_back(data);
    } else if (is(TokenKind::kVariableBegin)) {
      Node* output = make(NodeKind::kOutput, now().line);
      next();
      QW_ASSIGN(Node * value, tuple(false, true, {}, false));
      output->list.push_back(value);
      QW_TRY(expect(TokenKind::kVariableEnd, "end of print statement"));
      QW_ASSIGN(output, done(output));
      nodes.push_back(output);
    } else {
      next();  // block begin
      if (is_any_name(ends)) return nodes;
      QW_ASSIGN(Node * node, statement());
      nodes.push_back(node);
      QW_TRY(expect(TokenKind::kBlockEnd, "end of statement block"));
    }
  }
  return nodes;
}

Result<std::vector<Node*>> Parser::body(Names ends, bool drop) {
  skip_op(":");
  QW_TRY(expect(TokenKind::kBlockEnd, "end of statement block"));
  QW_ASSIGN(auto nodes, subparse(ends));
  if (is(TokenKind::kEnd)) {
    std::string wanted;
    for (std::string_view e : ends) wanted += (wanted.empty() ? "'" : " or '") + std::string(e) + "'";
    return fail_here("Unexpected end of template, looking for " + wanted);
  }
  if (drop) next();
  return nodes;
}

Result<Node*> Parser::statement() {
  if (!is(TokenKind::kName)) return fail_here("tag name expected, got " + described());
  QW_ASSIGN(Node * node, statement_of(now().text));
  return done(node);
}

Result<Node*> Parser::statement_of(const std::string& name) {
  const int line = now().line;
  if (name == "for") return parse_for();
  if (name == "if") return parse_if();
  if (name == "set") return parse_set();
  if (name == "macro") return parse_macro();
  if (name == "call") return parse_call_block();
  if (name == "with") return parse_with();
  if (name == "filter") return parse_filter_block();
  if (name == "print") return parse_print();
  if (name == "break" || name == "continue") {
    next();
    return make(name == "break" ? NodeKind::kBreak : NodeKind::kContinue, line);
  }
  if (name == "generation") {
    next();
    Node* node = make(NodeKind::kGeneration, line);
    QW_ASSIGN(node->body, body({"endgeneration"}, true));
    return node;
  }
  if (name == "block" || name == "extends" || name == "include" || name == "import" || name == "from" ||
      name == "autoescape")
    return fail_here("the tag '" + name + "' is not part of chat templates");
  return fail_here("Encountered unknown tag '" + name + "'");
}

Result<Node*> Parser::parse_for() {
  Node* node = make(NodeKind::kFor, next().line);
  QW_ASSIGN(node->a, target(false, {"in"}));
  QW_TRY(expect_name("in"));
  QW_ASSIGN(node->b, tuple(false, false, {"recursive"}, false));
  if (skip_name("if")) {
    QW_ASSIGN(node->c, expression());
  }
  node->recursive = skip_name("recursive");
  QW_ASSIGN(node->body, body({"endfor", "else"}, false));
  if (next().text == "endfor") return node;
  QW_ASSIGN(node->else_body, body({"endfor"}, true));
  return node;
}

Result<Node*> Parser::parse_if() {
  Node* result = make(NodeKind::kIf, next().line);
  for (Node* node = result;;) {
    QW_ASSIGN(node->a, tuple(false, false, {}, false));
    QW_ASSIGN(node->body, body({"elif", "else", "endif"}, false));
    if (node != result) {
      QW_ASSIGN(node, done(node));
      result->list.push_back(node);
    }
    const std::string word = next().text;
    if (word == "endif") return result;
    if (word == "else") {
      QW_ASSIGN(result->else_body, body({"endif"}, true));
      return result;
    }
    node = make(NodeKind::kIf, now().line);
  }
}

Result<Node*> Parser::parse_set() {
  const int line = next().line;
  QW_ASSIGN(Node * to, target(true, {}));
  if (skip_op("=")) {
    Node* node = make(NodeKind::kSet, line);
    node->a = to;
    QW_ASSIGN(node->b, tuple(false, true, {}, false));
    return node;
  }
  Node* node = make(NodeKind::kSetBlock, line);
  node->a = to;
  QW_ASSIGN(node->b, filter(nullptr, false));
  QW_ASSIGN(node->body, body({"endset"}, true));
  return node;
}

Status Parser::parse_signature(Node* node) {
  QW_TRY(expect_op("("));
  while (!is_op(")")) {
    if (!node->list.empty()) QW_TRY(expect_op(","));
    QW_ASSIGN(Node * parameter, target_name());
    parameter->use = NameUse::kParameter;
    if (skip_op("=")) {
      QW_ASSIGN(Node * value, expression());
      node->list2.push_back(value);
    } else if (!node->list2.empty()) {
      return fail_here("non-default argument follows default argument");
    }
    for (const Node* other : node->list)
      if (other->text == parameter->text) return fail_here("duplicate argument '" + parameter->text + "'");
    node->list.push_back(parameter);
  }
  next();
  return {};
}

Result<Node*> Parser::parse_macro() {
  Node* node = make(NodeKind::kMacro, next().line);
  QW_ASSIGN(Node * name, target_name());
  node->text = name->text;
  QW_TRY(parse_signature(node));
  QW_ASSIGN(node->body, body({"endmacro"}, true));
  return node;
}

Result<Node*> Parser::parse_call_block() {
  Node* node = make(NodeKind::kCallBlock, next().line);
  if (is_op("(")) QW_TRY(parse_signature(node));
  QW_ASSIGN(node->a, expression());
  if (node->a->kind != NodeKind::kCall) return template_error(node->line, "expected call");
  QW_ASSIGN(node->body, body({"endcall"}, true));
  return node;
}

Result<Node*> Parser::parse_with() {
  Node* node = make(NodeKind::kWith, next().line);
  while (!is(TokenKind::kBlockEnd)) {
    if (!node->list.empty()) QW_TRY(expect_op(","));
    QW_ASSIGN(Node * to, target(false, {}));
    QW_TRY(as_target(to, NameUse::kParameter));
    QW_TRY(expect_op("="));
    QW_ASSIGN(Node * value, expression());
    node->list.push_back(to);
    node->list2.push_back(value);
  }
  QW_ASSIGN(node->body, body({"endwith"}, true));
  return node;
}

Result<Node*> Parser::parse_filter_block() {
  Node* node = make(NodeKind::kFilterBlock, next().line);
  QW_ASSIGN(node->a, filter(nullptr, true));
  QW_ASSIGN(node->body, body({"endfilter"}, true));
  return node;
}

Result<Node*> Parser::parse_print() {
  Node* node = make(NodeKind::kOutput, next().line);
  while (!is(TokenKind::kBlockEnd)) {
    if (!node->list.empty()) QW_TRY(expect_op(","));
    QW_ASSIGN(Node * value, expression());
    node->list.push_back(value);
  }
  return node;
}

bool reserved(std::string_view name) {
  return name == "true" || name == "false" || name == "none" || name == "True" || name == "False" || name == "None";
}

Result<Node*> Parser::target_name() {
  const int line = now().line;
  QW_ASSIGN(std::string name, any_name());
  if (reserved(name)) return template_error(line, "can't assign to '" + name + "'");
  Node* node = make(NodeKind::kName, line);
  node->text = std::move(name);
  node->use = NameUse::kStore;
  return node;
}

Status Parser::as_target(Node* node, NameUse use) {
  if (node->kind == NodeKind::kNamespaceTarget) return {};
  if (node->kind == NodeKind::kName) {
    node->use = use;
    return {};
  }
  if (node->kind != NodeKind::kTuple) return template_error(node->line, "can't assign to this expression");
  for (Node* item : node->list) QW_TRY(as_target(item, use));
  return {};
}

Result<Node*> Parser::target(bool with_namespace, Names extra_ends) {
  QW_ASSIGN(Node * node, tuple(true, true, extra_ends, false, with_namespace));
  QW_TRY(as_target(node, NameUse::kStore));
  return node;
}

Result<Node*> Parser::expression(bool with_condition) {
  if (depth_ > kMaxNesting) return fail_here("expression nests too deeply");
  const Deeper deeper(&depth_);
  return with_condition ? condition() : or_chain();
}

Result<Node*> Parser::condition() {
  int line = now().line;
  QW_ASSIGN(Node * value, or_chain());
  while (skip_name("if")) {
    Node* node = make(NodeKind::kConditional, line);
    node->a = value;
    QW_ASSIGN(node->b, or_chain());
    if (skip_name("else")) {
      QW_ASSIGN(node->c, expression());
    }
    QW_ASSIGN(value, done(node));
    line = now().line;
  }
  return value;
}

Result<Node*> Parser::or_chain() {
  QW_ASSIGN(Node * left, and_chain());
  while (is_name("or")) {
    Node* node = make(NodeKind::kOr, next().line);
    node->a = left;
    QW_ASSIGN(node->b, and_chain());
    QW_ASSIGN(left, done(node));
  }
  return left;
}

Result<Node*> Parser::and_chain() {
  QW_ASSIGN(Node * left, negation());
  while (is_name("and")) {
    Node* node = make(NodeKind::kAnd, next().line);
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
  Node* node = make(NodeKind::kNot, next().line);
  QW_ASSIGN(node->a, negation());
  return done(node);
}

Result<Node*> Parser::comparison() {
  const int line = now().line;
  QW_ASSIGN(Node * first, sum());
  Node* node = nullptr;
  for (;;) {
    std::string op;
    if (is(TokenKind::kOperator) && (is_op("==") || is_op("!=") || is_op("<") || is_op("<=") || is_op(">") || is_op(">="))) {
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
      node = make(NodeKind::kCompare, line);
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
    Node* node = make(NodeKind::kBinary, now().line);
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
  const int line = now().line;
  QW_ASSIGN(Node * first, product());
  if (!is_op("~")) return first;
  Node* node = make(NodeKind::kConcat, line);
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
    node = make(is_op("-") ? NodeKind::kNegative : NodeKind::kPositive, now().line);
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
  const int line = token.line;
  Node* node = make(NodeKind::kConst, line);
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
          node = make(NodeKind::kNamespaceTarget, line);
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
  const int line = now().line;
  Node* node = make(NodeKind::kTuple, line);
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
  Node* node = make(NodeKind::kList, next().line);
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
  Node* node = make(NodeKind::kDict, next().line);
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
    Node* outer = make(NodeKind::kFilter, now().line);
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
  Node* node = make(NodeKind::kTest, next().line);
  node->a = value;
  const bool negated = skip_name("not");
  QW_ASSIGN(node->text, any_name());
  while (skip_op(".")) {
    QW_ASSIGN(const std::string part, any_name());
    node->text += "." + part;
  }
  const bool argument_follows =
      is(TokenKind::kName) || is(TokenKind::kString) || is(TokenKind::kInteger) || is(TokenKind::kFloat) ||
      is_op("[") || is_op("{");
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
  Node* outer = make(NodeKind::kNot, node->line);
  outer->a = node;
  return done(outer);
}

Result<Node*> Parser::subscript(Node* value) {
  const int line = now().line;
  if (skip_op(".")) {
    if (is(TokenKind::kName)) {
      Node* node = make(NodeKind::kAttribute, line);
      node->a = value;
      node->text = next().text;
      return done(node);
    }
    if (!is(TokenKind::kInteger)) return fail_here("expected name or number, got " + described());
    Node* index = make(NodeKind::kConst, line);
    index->value = Value::integer(next().integer);
    Node* node = make(NodeKind::kItem, line);
    node->a = value;
    node->b = index;
    return done(node);
  }
  next();  // "["
  Node* indices = make(NodeKind::kTuple, line);
  while (!is_op("]")) {
    if (!indices->list.empty()) QW_TRY(expect_op(","));
    QW_ASSIGN(Node * index, subscribed());
    indices->list.push_back(index);
  }
  next();
  QW_ASSIGN(indices, done(indices));
  Node* node = make(NodeKind::kItem, line);
  node->a = value;
  node->b = indices->list.size() == 1 ? indices->list[0] : indices;
  return done(node);
}

Result<Node*> Parser::subscribed() {
  Node* node = make(NodeKind::kSlice, now().line);
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
  Node* node = make(NodeKind::kCall, now().line);
  node->a = callee;
  QW_TRY(call_args(node));
  return done(node);
}

Status Parser::call_args(Node* node) {
  const int line = now().line;
  const auto wrong = [&] { return template_error(line, "invalid syntax for function call expression"); };
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
      std::string name = next().text;
      next();
      QW_ASSIGN(Node * value, expression());
      for (const auto& [other, v] : node->named)
        if (other == name) return template_error(line, "keyword argument repeated: " + name);
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

}  // namespace

Result<Tree> parse_tree(std::string_view source) {
  QW_ASSIGN(auto tokens, tokenize(source));
  return Parser(std::move(tokens)).run();
}

}  // namespace qw::chat::internal
