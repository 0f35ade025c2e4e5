// What an output must look like, from a request's words to a logits processor.
//
//   QW_ASSIGN(auto classes, compiler.compile(spec));                       // once a kind of request; kept and shared
//   request.processors.push_back(make_constraint(classes, stop_ids));
//
// The constraint holds for the whole output, thinking blocks apart: those are free text up to their end.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "json/value.h"
#include "sampling/grammar/effort.h"
#include "sampling/logits_processor.h"
#include "sampling/params.h"
#include "tokenizer/tokenizer.h"

namespace qw::sampling {

namespace grammar {
class TokenClasses;
class TokenTable;
}  // namespace grammar

struct ToolShape {
  std::string name;
  json::Value parameters;  // JSON Schema of the arguments; null: any object
};

// How a model writes a call. Both stand between <tool_call> and </tool_call>.
enum class ToolDialect : std::uint8_t {
  kHermes,  // {"name": "f", "arguments": {"a": 1}}
  kXml,     // <function=f><parameter=a>1</parameter></function>, each on a line of its own
};

struct ConstraintSpec {
  enum class Form : std::uint8_t { kFree, kJsonObject, kJsonSchema, kRegex, kEbnf, kChoice };
  Form form = Form::kFree;
  json::Value schema;                // kJsonSchema
  std::string text;                  // kRegex, kEbnf
  std::vector<std::string> choices;  // kChoice

  enum class ToolUse : std::uint8_t { kNone, kAllowed, kRequired };
  ToolUse tool_use = ToolUse::kNone;
  ToolDialect dialect = ToolDialect::kHermes;
  std::vector<ToolShape> tools;
  bool parallel_calls = true;  // more than one call in an answer

  enum class Reasoning : std::uint8_t {
    kNone,
    kPossible,  // the output may begin with <think>
    kOpen,      // the prompt ends inside a thinking block
  };
  Reasoning reasoning = Reasoning::kNone;

  bool restricts() const { return form != Form::kFree || tool_use != ToolUse::kNone; }
};

// Compiles constraints for one tokenizer and keeps the latest. Thread-safe; compiling does not block others.
class ConstraintCompiler {
 public:
  // `tokenizer` must outlive the compiler and what it gave.
  explicit ConstraintCompiler(const tokenizer::Tokenizer& tokenizer);
  ~ConstraintCompiler();
  // kBadInput saying what cannot be read, is not supported or is too much (grammar/effort.h). The expensive part
  // happens here, not in steps of the engine: as long as `effort` lasts, seconds.
  Result<std::shared_ptr<const grammar::TokenClasses>> compile(const ConstraintSpec& spec, grammar::Effort& effort);
  Result<std::shared_ptr<const grammar::TokenClasses>> compile(const ConstraintSpec& spec);
  // Whether compile would give what is kept, at once.
  bool knows(const ConstraintSpec& spec);

 private:
  struct Kept {
    std::string key;
    std::shared_ptr<const grammar::TokenClasses> classes;
  };
  std::shared_ptr<const grammar::TokenTable> table();
  std::shared_ptr<const grammar::TokenClasses> kept(const std::string& key);  // null: it is not
  const tokenizer::Tokenizer& tokenizer_;
  std::mutex mutex_;
  std::shared_ptr<const grammar::TokenTable> table_;  // made when first needed
  std::list<Kept> kept_;                              // most recently used first
  std::unordered_map<std::string, std::list<Kept>::iterator> by_key_;
};

// Allows what the grammar reads; `stop_ids` where it may end. An output that breaks it (tokens forced by others) is an
// error that ends the request. `room`: tokens of an output that is a list of tool calls: it ends rather than begin a
// call, as long as the longest so far, that would be cut off; 0: it goes on as it likes.
std::unique_ptr<LogitsProcessor> make_constraint(std::shared_ptr<const grammar::TokenClasses> classes,
                                                 std::vector<TokenId> stop_ids, std::int64_t room = 0);

// Whether `output` is what the grammar describes, whole. For tests and tools.
bool matches(const std::shared_ptr<const grammar::TokenClasses>& classes, std::string_view output);

}  // namespace qw::sampling
