// What a model is and what it needs, as `show` and `models` tell it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "json/value.h"
#include "open_model.h"

namespace qw::app {

// Architecture, sizes, formats, template, licence, and memory at each of `contexts` (empty: some up to the model's own).
// kBadInput if a tensor is missing or has another shape than the configuration says.
Result<json::Object> describe_model(const OpenedModel& opened, const std::vector<std::int64_t>& contexts);
void print_description(const json::Object& description, bool as_json);

}  // namespace qw::app
