#include "api/generation/output_rules.h"

#include <algorithm>

#include "api/field_reader.h"
#include "sampling/thinking_budget.h"

namespace qw::api {
namespace {

using Form = sampling::ConstraintSpec::Form;
using ToolUse = sampling::ConstraintSpec::ToolUse;

const json::Value* function_of(const json::Value& tool) { return tool.find("function"); }

std::string name_of(const json::Value& tool) { return function_of(tool)->find("name")->as_string(); }

bool is_strict(const json::Value& tools, const std::string& name) {
  return std::any_of(tools.as_array().begin(), tools.as_array().end(), [&](const json::Value& tool) {
    const json::Value* strict = function_of(tool)->find("strict");
    return name_of(tool) == name && strict != nullptr && *strict == json::Value(true);
  });
}

sampling::ToolShape shape_of(const json::Value& tool) {
  const json::Value* parameters = function_of(tool)->find("parameters");
  return {name_of(tool), parameters != nullptr ? *parameters : json::Value()};
}

// Text as it comes, whatever the rest says.
bool is_free(const ConstraintRequest& request) { return !request.output->form.restricts() && request.tools == nullptr; }

bool may_be_called(const ToolChoice& choice, const std::string& name) {
  if (choice.mode == ToolChoice::Mode::kNamed) return name == choice.name;
  return choice.among.empty() || std::find(choice.among.begin(), choice.among.end(), name) != choice.among.end();
}

// All that the output must be, thinking included.
sampling::ConstraintSpec spec_of(const ServedModel& model, const ConstraintRequest& request) {
  sampling::ConstraintSpec spec = request.output->form;
  using Mode = ToolChoice::Mode;
  const bool must_call = request.choice.mode == Mode::kRequired || request.choice.mode == Mode::kNamed;
  if (request.tools != nullptr && request.choice.mode != Mode::kNone) {
    spec.tool_use = must_call ? ToolUse::kRequired : ToolUse::kAllowed;
    spec.dialect = model.tool_dialect;
    spec.parallel_calls = request.parallel_calls && request.choice.mode != Mode::kNamed;
    for (const json::Value& tool : request.tools->as_array())
      if (may_be_called(request.choice, name_of(tool))) spec.tools.push_back(shape_of(tool));
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
  const auto offered = [tools](const std::string& name) {
    if (tools == nullptr) return false;
    return std::any_of(tools->as_array().begin(), tools->as_array().end(), [&](const json::Value& tool) {
      const json::Value* function = tool.find("function");
      return function != nullptr && text_member(*function, "name") == name;
    });
  };
  const std::vector<std::string> named = choice.mode == Mode::kNamed ? std::vector{choice.name} : choice.among;
  for (const std::string& name : named)
    if (!offered(name)) in.reject("tool_choice", "'tool_choice' names `" + name + "`, which is not among the tools.");
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
    return tl::unexpected(bad_request(request.output->place, "This model's output cannot be constrained."));

  const std::string param = request.output->form.form != Form::kFree ? request.output->place : "tools";
  sampling::grammar::Effort effort(std::move(given_up));  // of all that is tried here together
  auto classes = model.constraints->compile(spec, effort);
  if (!classes && spec.tool_use == ToolUse::kAllowed) {
    for (std::size_t i = 0; i < spec.tools.size() && !effort.spent(); ++i) {  // which of them is it?
      sampling::ConstraintSpec one;
      one.tool_use = ToolUse::kRequired;
      one.dialect = spec.dialect;
      one.tools = {spec.tools[i]};
      if (is_strict(*request.tools, one.tools[0].name) || model.constraints->compile(one, effort)) continue;
      spec.tools[i].parameters = {};
      out.unchecked_.push_back(spec.tools[i].name);
    }
    if (!effort.spent()) classes = model.constraints->compile(spec, effort);
  }
  if (!classes) return tl::unexpected(bad_request(param, classes.error().message));
  out.classes_ = std::move(*classes);
  out.lists_calls_ = spec.tool_use == ToolUse::kRequired && spec.parallel_calls;
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
    const std::vector<sampling::TokenId>& stop_ids, std::int64_t room,
    std::shared_ptr<sampling::LoopWatch> loops) const {
  std::vector<std::unique_ptr<sampling::LogitsProcessor>> out;
  if (classes_ != nullptr) out.push_back(sampling::make_constraint(classes_, stop_ids, lists_calls_ ? room : 0));
  if (thinking_budget_ || loops != nullptr)
    out.push_back(sampling::make_thinking_watch(*tokenizer_, thinking_budget_, opens_reasoning_, std::move(loops)));
  return out;
}

}  // namespace qw::api
