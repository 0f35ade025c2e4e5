#include "chat/internal/parser.h"

#include "chat/internal/parser_impl.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

std::string Parser::described() const {
  switch (now().kind) {
    case TokenKind::kEnd:
      return "end of template";
    case TokenKind::kBlockEnd:
      return "end of statement block";
    case TokenKind::kVariableEnd:
      return "end of print statement";
    case TokenKind::kString:
      return quoted(now().text);
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return "number";
    default:
      return "'" + now().text + "'";
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

Node* Parser::make(NodeKind kind, Place place) {
  tree_.arena.push_back(std::make_unique<Node>());
  Node* node = tree_.arena.back().get();
  node->kind = kind;
  node->place = place;
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
  if (node->height > kMaxHeight) return template_error(node->place, "expression or block nests too deeply");
  return node;
}

Result<Tree> Parser::run() {
  tree_.root = make(NodeKind::kTemplate, {});
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
      Node* data = make(NodeKind::kData, now().place);
      data->text = next().text;
      nodes.push_back(data);
    } else if (is(TokenKind::kVariableBegin)) {
      Node* output = make(NodeKind::kOutput, now().place);
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
  const Place place = now().place;
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
    return make(name == "break" ? NodeKind::kBreak : NodeKind::kContinue, place);
  }
  if (name == "generation") {
    next();
    Node* node = make(NodeKind::kGeneration, place);
    QW_ASSIGN(node->body, body({"endgeneration"}, true));
    return node;
  }
  if (name == "block" || name == "extends" || name == "include" || name == "import" || name == "from" ||
      name == "autoescape")
    return fail_here("the tag '" + name + "' is not part of chat templates");
  return fail_here("Encountered unknown tag '" + name + "'");
}

Result<Node*> Parser::parse_for() {
  Node* node = make(NodeKind::kFor, next().place);
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
  Node* result = make(NodeKind::kIf, next().place);
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
    node = make(NodeKind::kIf, now().place);
  }
}

Result<Node*> Parser::parse_set() {
  const Place place = next().place;
  QW_ASSIGN(Node * to, target(true, {}));
  if (skip_op("=")) {
    Node* node = make(NodeKind::kSet, place);
    node->a = to;
    QW_ASSIGN(node->b, tuple(false, true, {}, false));
    return node;
  }
  Node* node = make(NodeKind::kSetBlock, place);
  node->a = to;
  QW_ASSIGN(node->b, filter(nullptr, false));
  QW_ASSIGN(node->body, body({"endset"}, true));
  return node;
}

Status Parser::parse_signature(Node* node) {
  QW_TRY(expect_op("("));
  while (!is_op(")")) {
    if (!node->list.empty()) QW_TRY(expect_op(","));
    if (node->list.size() >= kMaxArguments) return fail_here("too many arguments");
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
  Node* node = make(NodeKind::kMacro, next().place);
  QW_ASSIGN(Node * name, target_name());
  node->text = name->text;
  QW_TRY(parse_signature(node));
  QW_ASSIGN(node->body, body({"endmacro"}, true));
  return node;
}

Result<Node*> Parser::parse_call_block() {
  Node* node = make(NodeKind::kCallBlock, next().place);
  if (is_op("(")) QW_TRY(parse_signature(node));
  QW_ASSIGN(node->a, expression());
  if (node->a->kind != NodeKind::kCall) return template_error(node->place, "expected call");
  QW_ASSIGN(node->body, body({"endcall"}, true));
  return node;
}

Result<Node*> Parser::parse_with() {
  Node* node = make(NodeKind::kWith, next().place);
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
  Node* node = make(NodeKind::kFilterBlock, next().place);
  QW_ASSIGN(node->a, filter(nullptr, true));
  QW_ASSIGN(node->body, body({"endfilter"}, true));
  return node;
}

Result<Node*> Parser::parse_print() {
  Node* node = make(NodeKind::kOutput, next().place);
  while (!is(TokenKind::kBlockEnd)) {
    if (!node->list.empty()) QW_TRY(expect_op(","));
    QW_ASSIGN(Node * value, expression());
    node->list.push_back(value);
  }
  return node;
}

static bool reserved(std::string_view name) {
  return name == "true" || name == "false" || name == "none" || name == "True" || name == "False" || name == "None";
}

Result<Node*> Parser::target_name() {
  const Place place = now().place;
  QW_ASSIGN(std::string name, any_name());
  if (reserved(name)) return template_error(place, "can't assign to '" + name + "'");
  Node* node = make(NodeKind::kName, place);
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
  if (node->kind != NodeKind::kTuple) return template_error(node->place, "can't assign to this expression");
  for (Node* item : node->list) QW_TRY(as_target(item, use));
  return {};
}

Result<Node*> Parser::target(bool with_namespace, Names extra_ends) {
  QW_ASSIGN(Node * node, tuple(true, true, extra_ends, false, with_namespace));
  QW_TRY(as_target(node, NameUse::kStore));
  return node;
}

Result<Tree> parse_tree(std::string_view source) {
  QW_ASSIGN(auto tokens, tokenize(source));
  return Parser(std::move(tokens)).run();
}

}  // namespace qw::chat::internal
