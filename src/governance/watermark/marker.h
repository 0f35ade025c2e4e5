// Marks what a model writes, as a processor that takes part in each draw.
//
// The mark of a token is said by the key and the `context` tokens of the output before it; the first ones have none.
// Where the same context came up among the last 1024, the draw is the ordinary one, so that no phrase is repeated
// because it was marked once. Where only one token can be drawn (greedy, a grammar that leaves one), there is no mark.
//
// A draw stays a pure function of what the sampler says it is: the tokens so far alone decide, so that a request gives
// the same tokens alone or in a batch, with drafts or without.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "governance/watermark/mark_key.h"
#include "sampling/logits_processor.h"

namespace qw::governance {

inline constexpr std::size_t kContextsRemembered = 1024;  // as the published SynthID code has it

// For one request. `restart`: a token after which a text of its own begins (the end of thinking), whose mark must not
// depend on what came before.
std::unique_ptr<sampling::LogitsProcessor> make_marker(std::shared_ptr<const MarkKey> key,
                                                       std::optional<tokenizer::TokenId> restart);

// SynthID's tournament over candidates: their weights become those of its winners, up to a common factor. `bits`: of
// each candidate; `weights`: memory that is used again.
void synthid_tournament(std::span<sampling::Candidate> candidates, std::span<const std::uint32_t> bits,
                        std::int32_t layers, std::int32_t leaves, std::vector<double>& weights);

}  // namespace qw::governance
