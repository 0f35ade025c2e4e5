#include "sampling/constraint.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "sampling/grammar/ebnf.h"
#include "sampling/grammar/grammar.h"
#include "sampling/grammar/json_schema.h"
#include "sampling/grammar/matcher.h"
#include "sampling/grammar/regex.h"
#include "sampling/grammar/token_classes.h"
#include "sampling/grammar/token_table.h"
#include "sampling/grammar/tool_calls.h"

namespace qw::sampling {
namespace {

using grammar::Node;
using grammar::Source;

// Grammars kept by a compiler. A server sees few kinds of request at a time; each may hold some megabytes.
constexpr std::size_t kMaxKept = 64;
constexpr std::string_view kThinkOpen = "<think>", kThinkClose = "</think>";

constexpr std::string_view kTooManyWays =
    "the grammar can be read in too many ways at once: fewer alternatives should begin alike";

// Two specs with the same key describe the same outputs.
std::string key_of(const ConstraintSpec& spec) {
  json::Array tools;
  for (const ToolShape& t : spec.tools) tools.push_back(json::Array{t.name, t.parameters});
  json::Array choices(spec.choices.begin(), spec.choices.end());
  return json::dump(json::Array{static_cast<int>(spec.form), spec.schema, spec.text, std::move(choices),
                                static_cast<int>(spec.tool_use), static_cast<int>(spec.dialect), std::move(tools),
                                spec.parallel_calls, static_cast<int>(spec.reasoning)},
                    json::WriteStyle::compact());
}

// The answer's form without tools. An EBNF grammar is a source of its own, to which the rest is added.
Result<Node> form_of(const ConstraintSpec& spec, Source& source) {
  using Form = ConstraintSpec::Form;
  switch (spec.form) {
    case Form::kFree:
      break;
    case Form::kJsonObject:
      return source.rule(grammar::add_json_object(source));
    case Form::kJsonSchema: {
      QW_ASSIGN(const grammar::Rule rule, grammar::add_json_schema(spec.schema, source));
      return source.rule(rule);
    }
    case Form::kRegex:
      return grammar::parse_regex(spec.text, source);
    case Form::kEbnf: {
      QW_ASSIGN(source, grammar::parse_ebnf(spec.text, source.effort()));
      return source.rule(source.root());
    }
    case Form::kChoice: {
      std::vector<Node> choices;
      for (const std::string& c : spec.choices) choices.push_back(source.bytes(c));
      if (choices.empty()) return fail(ErrorKind::kBadInput, "a choice among no texts");
      return source.choice(std::move(choices));
    }
  }
  return fail(ErrorKind::kUsage, "free text has no grammar");
}

Result<Node> answer_of(const ConstraintSpec& spec, Source& source) {
  using Use = ConstraintSpec::ToolUse;
  if (spec.tool_use == Use::kNone) return form_of(spec, source);
  if (spec.tool_use == Use::kRequired) return grammar::tool_calls(spec, source);
  if (spec.form == ConstraintSpec::Form::kFree) return grammar::text_with_tool_calls(spec, source);
  QW_ASSIGN(const Node form, form_of(spec, source));
  QW_ASSIGN(const Node calls, grammar::tool_calls(spec, source));
  return source.choice({form, calls});
}

Result<grammar::Grammar> grammar_of(const ConstraintSpec& spec, grammar::Effort& effort) {
  Source source(&effort);
  QW_ASSIGN(Node node, answer_of(spec, source));
  if (spec.reasoning != ConstraintSpec::Reasoning::kNone) {
    // Models put a blank line behind their thinking.
    const Node lines = source.repeat(source.bytes("\n"), 0, 2);
    Node thinking = source.sequence({source.until(kThinkClose), lines});
    if (spec.reasoning == ConstraintSpec::Reasoning::kPossible)
      thinking = source.optional(source.sequence({source.bytes(kThinkOpen), thinking}));
    node = source.sequence({thinking, node});
  }
  source.set_root(source.add_rule("output", node));
  return grammar::Grammar::compile(source);
}

class ConstraintProcessor final : public LogitsProcessor {
 public:
  ConstraintProcessor(std::shared_ptr<const grammar::TokenClasses> classes, std::vector<TokenId> stop_ids,
                      std::int64_t room)
      : vocab_(classes->table().vocab()),
        tokenizer_(classes->table().tokenizer()),
        stop_ids_(std::move(stop_ids)),
        room_(room),
        matcher_(std::move(classes)),
        allowed_(vocab_) {}

  Status prepare(const History&, std::int64_t) override { return {}; }

  bool works_ahead() const override { return true; }
  // Finds the tokens that may come next, as far as that is not done.
  bool work_ahead(std::size_t steps) override {
    if (found_ != Found::kGoesOn) return true;
    if (ended_) return true;
    if (search_ == nullptr) {
      allowed_.clear();
      search_ = matcher_.search(allowed_);
    }
    found_ = search_->run(steps);
    if (found_ != Found::kGoesOn) search_ = nullptr;
    return found_ != Found::kGoesOn;
  }

  Status apply(std::span<float> logits, const History&) override {
    if (ended_) allowed_.clear();
    (void)work_ahead(std::numeric_limits<std::size_t>::max());
    if (found_ == Found::kTooMuch) return fail(ErrorKind::kBadInput, std::string(kTooManyWays));
    if (matcher_.overflow()) return fail(ErrorKind::kBadInput, "the output is nested too deep for its grammar");
    if (ended_ || matcher_.may_end()) {
      if (!ended_ && longest_call_ > 0 && room_ - count_ <= longest_call_ && can_stop()) allowed_.clear();
      for (const TokenId id : stop_ids_)
        if (id >= 0 && id < vocab_) allowed_.add(id);
    }
    constexpr float kForbidden = -std::numeric_limits<float>::infinity();
    const std::span<const std::uint64_t> words = allowed_.words();
    for (std::size_t begin = 0; begin < logits.size(); begin += 64) {
      const std::uint64_t word = begin / 64 < words.size() ? words[begin / 64] : 0;
      if (word == ~std::uint64_t{0}) continue;
      const std::size_t end = std::min(begin + 64, logits.size());
      for (std::size_t i = begin; i < end; ++i)
        if (((word >> (i - begin)) & 1) == 0) logits[i] = kForbidden;
    }
    return {};
  }

  Status accept(TokenId id) override {
    search_ = nullptr;
    found_ = Found::kGoesOn;
    if (std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end()) {
      ended_ = true;
      return {};
    }
    if (ended_ || !matcher_.accept(tokenizer_.token_bytes(id)))
      return fail(ErrorKind::kFailed, "token " + std::to_string(id) + " is not what the grammar allows here");
    if (room_ > 0) measure(id);
    return {};
  }

 private:
  bool can_stop() const {
    return std::any_of(stop_ids_.begin(), stop_ids_.end(), [this](TokenId id) { return id >= 0 && id < vocab_; });
  }
  // How long calls are, in tokens: from the last to this one; the first from its tag on, which has a token a byte at
  // most.
  void measure(TokenId id) {
    ++count_;
    tail_ += tokenizer_.token_bytes(id);
    if (longest_call_ == 0 && tail_.ends_with(grammar::kCallOpen))
      call_begun_ = std::max<std::int64_t>(0, count_ - static_cast<std::int64_t>(grammar::kCallOpen.size()));
    if (tail_.size() > grammar::kCallOpen.size()) tail_.erase(0, tail_.size() - grammar::kCallOpen.size());
    if (!matcher_.may_end()) return;
    longest_call_ = std::max(longest_call_, count_ - std::exchange(call_begun_, count_));
  }

  std::int64_t vocab_;
  const tokenizer::Tokenizer& tokenizer_;
  std::vector<TokenId> stop_ids_;
  std::int64_t room_, count_ = 0, call_begun_ = 0, longest_call_ = 0;
  std::string tail_;  // of the output
  grammar::Matcher matcher_;
  using Found = grammar::TokenClasses::Search::State;
  grammar::TokenSet allowed_;                              // once it is found
  std::unique_ptr<grammar::TokenClasses::Search> search_;  // of it, as long as it goes on
  Found found_ = Found::kGoesOn;
  bool ended_ = false;  // a stop id was accepted
};

}  // namespace

ConstraintCompiler::ConstraintCompiler(const tokenizer::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
ConstraintCompiler::~ConstraintCompiler() = default;

std::shared_ptr<const grammar::TokenTable> ConstraintCompiler::table() {
  const std::lock_guard lock(mutex_);
  if (table_ == nullptr) table_ = std::make_shared<const grammar::TokenTable>(tokenizer_);
  return table_;
}

std::shared_ptr<const grammar::TokenClasses> ConstraintCompiler::kept(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto it = by_key_.find(key);
  if (it == by_key_.end()) return nullptr;
  kept_.splice(kept_.begin(), kept_, it->second);
  return it->second->classes;
}

Result<std::shared_ptr<const grammar::TokenClasses>> ConstraintCompiler::compile(const ConstraintSpec& spec) {
  grammar::Effort effort;
  return compile(spec, effort);
}

bool ConstraintCompiler::knows(const ConstraintSpec& spec) { return kept(key_of(spec)) != nullptr; }

Result<std::shared_ptr<const grammar::TokenClasses>> ConstraintCompiler::compile(const ConstraintSpec& spec,
                                                                                 grammar::Effort& effort) {
  std::string key = key_of(spec);
  if (auto known = kept(key)) return known;
  QW_ASSIGN(grammar::Grammar compiled, grammar_of(spec, effort));
  auto classes = std::make_shared<const grammar::TokenClasses>(std::move(compiled), table());
  if (!classes->warm(effort)) return effort.error();
  // The first tokens are found here, too: where that is too much, it is said before anything runs.
  grammar::Matcher matcher(classes);
  grammar::TokenSet first(classes->table().vocab());
  if (matcher.overflow() || !matcher.allowed(first)) return fail(ErrorKind::kBadInput, std::string(kTooManyWays));
  const std::lock_guard lock(mutex_);
  if (const auto it = by_key_.find(key); it != by_key_.end()) return it->second->classes;  // somebody was quicker
  kept_.push_front({key, classes});
  by_key_.emplace(std::move(key), kept_.begin());
  if (kept_.size() > kMaxKept) {
    by_key_.erase(kept_.back().key);
    kept_.pop_back();
  }
  return classes;
}

std::unique_ptr<LogitsProcessor> make_constraint(std::shared_ptr<const grammar::TokenClasses> classes,
                                                 std::vector<TokenId> stop_ids, std::int64_t room) {
  return std::make_unique<ConstraintProcessor>(std::move(classes), std::move(stop_ids), room);
}

bool matches(const std::shared_ptr<const grammar::TokenClasses>& classes, std::string_view output) {
  grammar::Matcher matcher(classes);
  return (output.empty() || matcher.accept(output)) && matcher.may_end();
}

}  // namespace qw::sampling
