// Names of tensors that the room treats apart from the architectures' own tables.
#pragma once

#include <string_view>

namespace qw::models {

inline constexpr std::string_view kGgufTokenTable = "token_embd.weight", kGgufHead = "output.weight",
                                  kHfHead = "lm_head.weight", kHfBody = "model.",
                                  kHfTextBody = "model.language_model.";  // beside the towers of other senses

// The beginnings that the language model's names have, beside its own, in checkpoints of several senses.
inline constexpr std::string_view kHfOuterBodies[] = {kHfTextBody, "thinker.model.", "language_model.model."};
inline constexpr std::string_view kHfOuterHeads[] = {"thinker.lm_head.weight", "language_model.lm_head.weight"};

// Layers that draft: the key of the configuration that counts them, and the beginning of their tensors' names.
inline constexpr std::string_view kHfDraftLayers = "mtp_num_hidden_layers", kHfDraftLayer = "mtp.layers.";

// Set beside a folder's own keys: its small tensors of whole numbers, by name; and by a GGUF file's: rows of its tables.
inline constexpr std::string_view kHfIntegers = "tensors of whole numbers", kGgufRows = "rows of ";

// Set by senses.cc for kinds of checkpoints whose fused experts stand transposed: [E, in, out].
inline constexpr std::string_view kTransposedExperts = "experts are transposed";

}  // namespace qw::models
