#include "api/generation/output_rules.h"

#include "api/field_reader.h"
#include "sampling/thinking_budget.h"

namespace qw::api {
namespace {

using Form = sampling::ConstraintSpec::Form;
using ToolUse = sampling::ConstraintSpec::ToolUse;

const json::Value* function_of(const json::Value& tool) { return tool.find("function"); }

std::string name_of(const json::Value& tool) { return function_of(tool)->find("name")->as_string(); }

bool is_strict(const json::Value& tool) {
  const json::Value* strict = function_of(tool)->find("strict");
  return strict != nullptr && *strict == json::Value(true);
}

sampling::ToolShape shape_of(const json::Value& tool) {
  const json::Value* parameters = function_of(tool)->find("parameters");
  return {name_of(tool), parameters != nullptr ? *parameters : json::Value()};
}

// Text as it comes, whatever the rest says.
bool is_free(const ConstraintRequest& request) { return !request.output->form.restricts() && request.tools == nullptr; }

// All that the output must be, thinking included.
sampling::ConstraintSpec spec_of(const ServedModel& model, const ConstraintRequest& request) {
  sampling::ConstraintSpec spec = request.output->form;
  using Mode = ToolChoice::Mode;
  const bool must_call = request.choice.mode == Mode::kRequired || request.choice.mode == Mode::kNamed;
  if (request.tools != nullptr && request.choice.mode != Mode::kNone) {
    spec.tool_use = must_call ? ToolUse::kRequired : ToolUse::kAllowed;
    spec.dialect = model.tool_dialect;
    spec.parallel_calls = request.parallel_calls;
    for (const json::Value& tool : request.tools->as_array())
      if (request.choice.mode != Mode::kNamed || name_of(tool) == request.choice.name)
        spec.tools.push_back(shape_of(tool));
  }
  if (!spec.restricts()) return spec;
  using Reasoning = sampling::ConstraintSpec::Reasoning;
  if (request.opens_reasoning)
    spec.reasoning = Reasoning::kOpen;
  else if (model.thinks && request.may_think)
    spec.reasoning = Reasoning::kPossible;
  return spec;
}

}  // namespace

void check_tool_choice(FieldReader& in, const ToolChoice& choice, const json::Value* tools) {
  using Mode = ToolChoice::Mode;
  if (choice.mode == Mode::kRequired && (tools == nullptr || tools->as_array().empty()))
    in.reject("tool_choice", "'tool_choice' asks for a tool, and there are none.");
  if (choice.mode != Mode::kNamed) return;
  if (tools != nullptr)
    for (const json::Value& tool : tools->as_array())
      if (const json::Value* function = tool.find("function");
          function != nullptr && text_member(*function, "name") == choice.name)
        return;
  in.reject("tool_choice", "'tool_choice' names `" + choice.name + "`, which is not among the tools.");
}

ApiResult<OutputRules> OutputRules::make(const ServedModel& model, const ConstraintRequest& request,
                                         sampling::grammar::GivenUp given_up) {
  OutputRules out;
  out.tokenizer_ = model.tokenizer;
  out.thinking_budget_ = request.output->thinking_budget;
  out.opens_reasoning_ = request.opens_reasoning;
  if (request.breaks_loops) out.loops_ = model.loops;
  if (is_free(request)) return out;
  sampling::ConstraintSpec spec = spec_of(model, request);
  if (!spec.restricts()) return out;
  if (model.constraints == nullptr)
    return tl::unexpected(bad_request("response_format", "This model's output cannot be constrained."));

  const char* param = request.output->form.form != Form::kFree ? "response_format" : "tools";
  sampling::grammar::Effort effort(std::move(given_up));  // of all that is tried here together
  auto classes = model.constraints->compile(spec, effort);
  if (!classes && spec.tool_use == ToolUse::kAllowed) {
    for (std::size_t i = 0; i < spec.tools.size() && !effort.spent(); ++i) {  // which of them is it?
      sampling::ConstraintSpec one;
      one.tool_use = ToolUse::kRequired;
      one.dialect = spec.dialect;
      one.tools = {spec.tools[i]};
      if (is_strict(request.tools->as_array()[i]) || model.constraints->compile(one, effort)) continue;
      spec.tools[i].parameters = {};
      out.unchecked_.push_back(spec.tools[i].name);
    }
    if (!effort.spent()) classes = model.constraints->compile(spec, effort);
  }
  if (!classes) return tl::unexpected(bad_request(param, classes.error().message));
  out.classes_ = std::move(*classes);
  return out;
}

bool OutputRules::made_at_once(const ServedModel& model, const ConstraintRequest& request) {
  if (is_free(request)) return true;
  const sampling::ConstraintSpec spec = spec_of(model, request);
  return !spec.restricts() || model.constraints == nullptr || model.constraints->knows(spec);
}

std::shared_ptr<sampling::LoopWatch> OutputRules::loop_watch() const {
  return loops_ ? std::make_shared<sampling::LoopWatch>(*loops_) : nullptr;
}

std::vector<std::unique_ptr<sampling::LogitsProcessor>> OutputRules::processors(
    const std::vector<sampling::TokenId>& stop_ids, std::shared_ptr<sampling::LoopWatch> loops) const {
  std::vector<std::unique_ptr<sampling::LogitsProcessor>> out;
  if (classes_ != nullptr) out.push_back(sampling::make_constraint(classes_, stop_ids));
  if (thinking_budget_ || loops != nullptr)
    out.push_back(sampling::make_thinking_watch(*tokenizer_, thinking_budget_, opens_reasoning_, std::move(loops)));
  return out;
}

}  // namespace qw::api
