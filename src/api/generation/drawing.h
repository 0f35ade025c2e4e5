// What decides which tokens an answer has, beside the model: the request as the engine gets it, and the same as JSON,
// so that an audited answer can be drawn again (api/replay.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/generation/output_rules.h"
#include "api/served_model.h"
#include "engine/request.h"

namespace qw::governance {
struct MarkKey;
}

namespace qw::api {

struct Drawing {
  sampling::SamplingParams params;  // choice i has its seed plus i
  std::vector<std::vector<engine::TokenId>> prompts;
  std::vector<std::int64_t> limits;  // output tokens of a choice, by prompt
  std::int64_t n = 1;                // choices of each prompt
  std::shared_ptr<const OutputRules> rules;
  std::shared_ptr<const governance::MarkKey> mark;  // null: tokens are not marked
};

// Whether the mark says which tokens are drawn: greedy answers cannot be marked, their tokens are no matter of choice.
bool marks(const Drawing& drawing);

// The request of choice `choice` of prompt `prompt`, without what says whose it is, and without its sink; `loops` is
// what its sink has to ask, or null.
engine::Request request_of(const Drawing& drawing, const ServedModel& model, std::size_t prompt, std::int64_t choice,
                           std::shared_ptr<sampling::LoopWatch>& loops);

// As it is kept
// ------------------------------------------------------------------------------------------------------

// What the output must look like, as JSON; and its rules made again from that. An error is kBadInput.
json::Object kept_rules(const ConstraintRequest& request);
Result<OutputRules> rules_from(const ServedModel& model, const json::Value& kept);

// Everything but rules and mark. `kept`: the rules' JSON, which becomes a part of it.
json::Object kept_drawing(const Drawing& drawing, const tokenizer::Tokenizer& tokenizer, json::Object kept);
// Without a mark, and with rules for this model. kBadInput: it is no such JSON, or nothing that this model can draw.
Result<Drawing> drawing_from(const ServedModel& model, const json::Value& kept);

}  // namespace qw::api
