// The fields of OpenAI's bodies (and of servers like it) that say what the output must look like.
#pragma once

#include "api/field_reader.h"
#include "api/generation/output_rules.h"

namespace qw::api::openai {

// response_format; structured_outputs and guided_* as vLLM has them; thinking_budget as DashScope has it. More than one
// form is an error of the request.
OutputForm read_output_form(FieldReader& in);
// tool_choice, also as {"type": "allowed_tools"} refused by name. `tools` null: none were given.
ToolChoice read_tool_choice(FieldReader& in, const json::Value* tools);

}  // namespace qw::api::openai
