// The parts of a request that say what the output must look like, and what becomes of them for a model.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/error.h"
#include "api/served_model.h"
#include "sampling/constraint.h"
#include "sampling/loop_watch.h"

namespace qw::api {

struct ToolChoice {
  enum class Mode : std::uint8_t { kNone, kAuto, kRequired, kNamed };
  Mode mode = Mode::kAuto;
  std::string name;                // kNamed
  std::vector<std::string> among;  // kAuto, kRequired: no others may be called; empty: all
};

class FieldReader;
// Of a choice that asks for a tool, or names some: they are there. `tools`: in OpenAI's form; null: none were given.
void check_tool_choice(FieldReader& in, const ToolChoice& choice, const json::Value* tools);

struct OutputForm {
  sampling::ConstraintSpec form;                // form, schema, text, choices; the rest is filled in later
  std::string place = "response_format";        // the request's field that says so
  std::optional<std::int64_t> thinking_budget;  // tokens
  std::optional<bool> breaks_loops;             // what repeats itself is ended; not said: as the service is told
};

struct ConstraintRequest {
  const OutputForm* output = nullptr;
  const json::Value* tools = nullptr;  // null: none may be called
  ToolChoice choice;
  bool parallel_calls = true;
  bool opens_reasoning = false;  // the prompt ends inside a thinking block
  bool may_think = true;         // thinking was not switched off
  bool breaks_loops = false;
};

// Everything that one request's choices need; made once, used for each of them.
class OutputRules {
 public:
  // An error of the request if its form or a tool's schema cannot be honoured. A tool that the model may, but need not
  // call, and that is not `strict`, is left without a check of its arguments where its schema is not supported:
  // unchecked() names it.
  // May take seconds where a grammar must be made; less if `given_up` says that nobody waits any more.
  static ApiResult<OutputRules> make(const ServedModel& model, const ConstraintRequest& request,
                                     sampling::grammar::GivenUp given_up = {});
  // Whether make does nothing long: nothing restricts the output, or what does was asked for lately.
  static bool made_at_once(const ServedModel& model, const ConstraintRequest& request);
  bool restricts() const { return classes_ != nullptr; }
  const std::vector<std::string>& unchecked() const { return unchecked_; }
  // For one choice: finds that it repeats itself; null: nobody asked for that.
  std::shared_ptr<sampling::LoopWatch> loop_watch() const;
  // One choice's processors. `room`: the most tokens it may have.
  std::vector<std::unique_ptr<sampling::LogitsProcessor>> processors(const std::vector<sampling::TokenId>& stop_ids,
                                                                     std::int64_t room,
                                                                     std::shared_ptr<sampling::LoopWatch> loops) const;

 private:
  std::shared_ptr<const sampling::grammar::TokenClasses> classes_;  // null: free text
  std::vector<std::string> unchecked_;
  bool lists_calls_ = false;  // the output must be tool calls, one or several
  const tokenizer::Tokenizer* tokenizer_ = nullptr;
  std::optional<std::int64_t> thinking_budget_;
  bool opens_reasoning_ = false;
  std::optional<sampling::LoopLimits> loops_;
};

}  // namespace qw::api
