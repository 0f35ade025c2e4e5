// The fields of OpenAI's bodies (and of servers like it) that say what the output must look like.
#pragma once

#include "api/field_reader.h"
#include "api/generation/output_rules.h"
#include "api/generation/request.h"

namespace qw::api::openai {

// response_format; structured_outputs and guided_* as vLLM has them; thinking_budget as DashScope has it. More than one
// form is an error of the request.
OutputForm read_output_form(FieldReader& in);
// tool_choice, also as {"type": "allowed_tools"}. `tools` null: none were given.
ToolChoice read_tool_choice(FieldReader& in, const json::Value* tools);

// Of {"mode": ..., "tools": [...]}, whose tools are named by `name_of`.
void read_allowed_tools(FieldReader& in, const json::Value& allowed, std::string (*name_of)(const json::Value& tool),
                        ToolChoice& out);
void read_logit_bias(FieldReader& in, SamplingFields& out);
// Words for how much is to be thought, and what one does.
inline constexpr std::initializer_list<const char*> kEfforts = {"none", "minimal", "low", "medium",
                                                                "high", "xhigh",   "max"};
void set_effort(const std::string& effort, ChatRequest& out);

}  // namespace qw::api::openai
