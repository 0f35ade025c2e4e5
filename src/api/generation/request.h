// What is asked of a model, whichever protocol asked: every protocol's bodies become one of these, and start() in
// launch.h does the rest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/generation/output_rules.h"
#include "json/value.h"
#include "sampling/params.h"

namespace qw::api {

// Fields a client left out stay empty, so that the model's own defaults can fill them.
struct SamplingFields {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<std::int64_t> top_k, seed, min_tokens;
  std::vector<std::pair<sampling::TokenId, float>> logit_bias;
  std::vector<std::string> stop;
  std::vector<sampling::TokenId> stop_token_ids;
  std::vector<std::vector<sampling::TokenId>> stop_sequences;  // of token ids; their text stops
  bool ignore_eos = false;
};

struct GenerationRequest {
  std::string model;  // "" = the server's only or first model
  SamplingFields sampling;
  std::optional<std::int64_t> max_tokens;  // of output; not said: as many as there is room for; 0: of texts with `echo`
  std::int64_t n = 1;                      // choices of each prompt
  std::string cache_salt;                  // cached prefixes are found only by requests of the same salt
  bool stream = false;
  bool logprobs = false;
  std::int32_t top_logprobs = 0;
  OutputForm output;                 // what the output must look like
  bool timings = false;  // the answer says how long its parts took
  std::vector<std::string> ignored;  // unknown fields, for the X-Ignored-Params header
};

struct ChatRequest : GenerationRequest {
  json::Array messages;              // in OpenAI's form; chat/messages checks and converts them
  std::optional<json::Value> tools;  // in OpenAI's form
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;
  bool tools_allowed() const { return tools.has_value() && tool_choice.mode != ToolChoice::Mode::kNone; }
  json::Object template_variables;  // enable_thinking and others of the template's own
  bool opens_answer = true;         // the template writes what an answer begins with
  bool leaves_out_oldest = false;   // of a conversation that is too long, rather than refusing it
  std::string prefix;               // the answer begins with this, which is not repeated
  bool thinking_on() const;         // it was not switched off
};

struct TextRequest : GenerationRequest {
  std::vector<std::string> prompts;                        // text prompts, or
  std::vector<std::vector<sampling::TokenId>> prompt_ids;  // token prompts (exactly one of the two is filled)
  bool echo = false;  // the prompt stands before each answer, its log-probabilities before the answer's
  std::optional<std::string> suffix;  // what comes after what is asked for, of models that fill in the middle
};

// Fills what the client left out from `defaults` (temperature 1 and so on if the model states none).
sampling::SamplingParams sampling_params(const GenerationRequest& request, const sampling::SamplingParams& defaults);

}  // namespace qw::api
