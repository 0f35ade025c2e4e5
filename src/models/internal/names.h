// Names of tensors that the room treats apart from the architectures' own tables.
#pragma once

#include <string_view>

namespace qw::models {

inline constexpr std::string_view kGgufTokenTable = "token_embd.weight", kGgufHead = "output.weight",
                                  kHfHead = "lm_head.weight", kHfBody = "model.",
                                  kHfTextBody = "model.language_model.";  // beside the towers of other senses

}  // namespace qw::models
