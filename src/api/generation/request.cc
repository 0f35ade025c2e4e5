#include "api/generation/request.h"

#include <algorithm>

namespace qw::api {

bool ChatRequest::thinking_on() const {
  const json::Value* on = template_variables.find("enable_thinking");
  return on == nullptr || !(*on == json::Value(false));
}

sampling::SamplingParams sampling_params(const GenerationRequest& request, const sampling::SamplingParams& defaults) {
  const SamplingFields& f = request.sampling;
  sampling::SamplingParams p = defaults;
  const auto set = [](float& to, const std::optional<double>& from) {
    if (from) to = static_cast<float>(*from);
  };
  set(p.temperature, f.temperature);
  set(p.top_p, f.top_p);
  set(p.min_p, f.min_p);
  set(p.repetition_penalty, f.repetition_penalty);
  set(p.presence_penalty, f.presence_penalty);
  set(p.frequency_penalty, f.frequency_penalty);
  if (f.top_k) p.top_k = static_cast<std::int32_t>(std::max<std::int64_t>(0, *f.top_k));
  if (f.seed) p.seed = static_cast<std::uint64_t>(*f.seed);
  if (f.min_tokens) p.min_tokens = static_cast<std::int32_t>(*f.min_tokens);
  p.logit_bias = f.logit_bias;
  p.stop = f.stop;
  if (f.ignore_eos) p.stop_ids.clear();
  p.stop_ids.insert(p.stop_ids.end(), f.stop_token_ids.begin(), f.stop_token_ids.end());
  p.logprobs = request.logprobs;
  p.top_logprobs = request.top_logprobs;
  return p;
}

}  // namespace qw::api
