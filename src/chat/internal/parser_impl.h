// The recursive-descent parser: statements in parser.cc, expressions in expressions.cc.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/internal/ast.h"
#include "chat/internal/lexer.h"

namespace qw::chat::internal {

// Nesting of tags and brackets in a source; each level costs some ten C++ frames.
inline constexpr int kMaxNesting = 150;
// Height of the tree, which long chains (a + b + c ...) reach without nesting. Later passes recurse this deep.
inline constexpr int kMaxHeight = 1000;
// Of one call or one macro; each name is compared with those before it.
inline constexpr std::size_t kMaxArguments = 1000;

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
  tl::unexpected<Error> fail_here(std::string message) const { return template_error(now().place, message); }
  std::string described() const;
  Status expect_op(std::string_view op);
  Status expect_name(std::string_view name);
  Status expect(TokenKind kind, std::string_view what);
  Result<std::string> any_name();

  Node* make(NodeKind kind, Place place);
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

}  // namespace qw::chat::internal
