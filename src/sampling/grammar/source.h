// A grammar as it is written down: expressions over bytes and code points, and rules that name them.
//
// Front ends (ebnf.h, regex.h, json_schema.h) build a Source; Grammar::compile (grammar.h) turns it into an automaton.
// The language of a grammar is a set of byte strings; code points stand for their UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sampling/grammar/effort.h"

namespace qw::sampling::grammar {

// Code points as sorted ranges [first, second] that do not touch. Surrogates are left out when it is compiled.
class CodePoints {
 public:
  CodePoints() = default;
  CodePoints(std::initializer_list<std::pair<char32_t, char32_t>> ranges);
  static CodePoints all() { return {{0, kLast}}; }
  void add(char32_t first, char32_t last);
  void add(const CodePoints& other);
  void remove(char32_t first, char32_t last);
  CodePoints complement() const;
  bool contains(char32_t c) const;
  bool empty() const { return ranges_.empty(); }
  // Of ranges in any order: adding them one by one takes as long as their number squared.
  static CodePoints of(std::vector<std::pair<char32_t, char32_t>> ranges);
  const std::vector<std::pair<char32_t, char32_t>>& ranges() const { return ranges_; }
  static constexpr char32_t kLast = 0x10FFFF;

 private:
  std::vector<std::pair<char32_t, char32_t>> ranges_;
};

using Node = std::int32_t;  // names an expression of one Source
using Rule = std::int32_t;  // names a rule of one Source

inline constexpr std::int32_t kNoLimit = -1;

class Source {
 public:
  // `effort`: what expressions cost is spent of it; it must outlive this object, and what reads it. Null: nothing is.
  explicit Source(Effort* effort = nullptr) : effort_(effort) {}

  enum class Kind : std::uint8_t {
    kBytes,     // exactly these bytes; none: the empty string
    kSet,       // one code point of a set
    kSequence,  // children one after the other
    kChoice,    // one of the children
    kRepeat,    // the child min to max times (kNoLimit: any number)
    kRule,      // what a rule says
    kUntil,     // any bytes up to and with the first occurrence of `bytes`
    kWithout,   // any bytes in which `bytes` does not occur
  };
  struct Expression {
    Kind kind = Kind::kBytes;
    std::string bytes;
    CodePoints set;
    std::vector<Node> children;
    std::int32_t min = 0, max = 0;
    Rule rule = -1;
  };

  Node empty() { return bytes({}); }
  Node bytes(std::string_view text);
  Node set(CodePoints points);
  Node sequence(std::vector<Node> children);
  Node choice(std::vector<Node> children);  // at least one child
  Node repeat(Node child, std::int32_t min, std::int32_t max);
  Node optional(Node child) { return repeat(child, 0, 1); }
  Node rule(Rule rule);
  Node until(std::string_view bytes);    // not empty
  Node without(std::string_view bytes);  // not empty

  // False once it has cost too much; whoever reads a long text asks now and then.
  bool spend(std::size_t steps) const { return effort_ == nullptr || effort_->spend(steps); }
  bool spent() const { return effort_ != nullptr && effort_->spent(); }
  Effort* effort() const { return effort_; }

  // A rule may be used before it is defined; each must be defined once in the end.
  Rule declare(std::string name);
  void define(Rule rule, Node body);
  Rule add_rule(std::string name, Node body);
  bool defined(Rule rule) const { return rules_[static_cast<std::size_t>(rule)].body >= 0; }

  void set_root(Rule rule) { root_ = rule; }
  Rule root() const { return root_; }

  struct Named {
    std::string name;
    Node body = -1;
  };
  const std::vector<Named>& rules() const { return rules_; }
  const Expression& expression(Node node) const { return nodes_[static_cast<std::size_t>(node)]; }
  std::size_t size() const { return nodes_.size(); }

 private:
  Node add(Expression expression);
  Effort* effort_ = nullptr;
  Node add(Kind kind, std::string_view bytes);
  std::vector<Expression> nodes_;
  std::vector<Named> rules_;
  Rule root_ = -1;
};

}  // namespace qw::sampling::grammar
