// Answers with tool calls as expressions.
#pragma once

#include <string_view>

#include "base/result.h"
#include "sampling/constraint.h"
#include "sampling/grammar/source.h"

namespace qw::sampling::grammar {

inline constexpr std::string_view kCallOpen = "<tool_call>";

// One or (if allowed) several calls, from <tool_call> to </tool_call>. kBadInput naming the tool whose schema is at
// fault.
Result<Node> tool_calls(const ConstraintSpec& spec, Source& source);
// Free text, or free text and then calls.
Result<Node> text_with_tool_calls(const ConstraintSpec& spec, Source& source);

}  // namespace qw::sampling::grammar
