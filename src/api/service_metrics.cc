#include "api/service_metrics.h"

#include <set>

#include "api/auth.h"

namespace qw::api {
namespace {

// From a cached answer on a fast machine to a long prompt on a slow one.
const std::vector<double>& seconds() {
  static const std::vector<double> bounds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120};
  return bounds;
}
// Between tokens: 1000 to half a token a second.
const std::vector<double>& token_seconds() {
  static const std::vector<double> bounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2};
  return bounds;
}

const char* refusal_name(store::Refusal refusal) {
  switch (refusal) {
    case store::Refusal::kRequests:
      return "requests";
    case store::Refusal::kTokens:
      return "tokens";
    case store::Refusal::kConcurrency:
      return "concurrency";
    case store::Refusal::kBudget:
      return "budget";
    case store::Refusal::kNoPrice:
      return "no_price";
    case store::Refusal::kNone:
      break;
  }
  return "none";
}

void engine_samples(const std::string& name, const engine::EngineStats& s, base::Samples& out) {
  const base::Labels model = {{"model", name}};
  const auto number = [](std::int64_t n) { return static_cast<double>(n); };
  out.gauge("qianwen_requests_running", "Requests that are computed.", model, number(s.running));
  out.gauge("qianwen_requests_waiting", "Requests that wait for room.", model, number(s.waiting));
  out.gauge("qianwen_cache_blocks", "Blocks of the cache of keys and values.", model, number(s.total_blocks));
  out.gauge("qianwen_cache_blocks_free", "Of these, free ones.", model, number(s.free_blocks));
  out.gauge("qianwen_cache_blocks_idle", "Of the free ones, those whose contents may be found again.", model,
            number(s.idle_blocks));
  out.counter("qianwen_steps_total", "Steps of the engine.", model, number(s.steps));
  out.counter("qianwen_computed_tokens_total", "Tokens that went through the model.", model, number(s.computed_tokens));
  out.counter("qianwen_output_tokens_total", "Tokens that were drawn.", model, number(s.output_tokens));
  out.counter("qianwen_cached_prompt_tokens_total", "Tokens of prompts that were found in the cache.", model,
              number(s.cached_tokens));
  out.counter("qianwen_drafted_tokens_total", "Tokens guessed ahead.", model, number(s.drafted_tokens));
  out.counter("qianwen_accepted_tokens_total", "Of these, those that were right.", model, number(s.accepted_tokens));
  out.counter("qianwen_preemptions_total", "Requests whose cache was given to others.", model, number(s.preemptions));
}

}  // namespace

ServiceMetrics::ServiceMetrics(const ModelList& models) {
  metrics_.collect([&models](base::Samples& out) {
    std::set<const engine::Engine*> told;
    for (const ModelEntry& entry : models.all()) {
      const ModelLease model = loaded_now(entry);
      if (entry->base.empty())
        out.gauge("qianwen_model_loaded", "Whether the model is in memory.", {{"model", entry->id}}, model != nullptr);
      if (model != nullptr && told.insert(model->engine).second) engine_samples(entry->id, model->engine->stats(), out);
    }
  });
}

void ServiceMetrics::answered(const std::string& path, int status) {
  // Paths that are no routes share one label: clients must not be able to fill the memory.
  metrics_
      .counter("qianwen_http_requests_total", "Answers by route and status.",
               {{"route", std::string(route_of(path))}, {"code", std::to_string(status)}})
      .add();
}

void ServiceMetrics::refused(store::Refusal refusal) {
  metrics_
      .counter("qianwen_refusals_total", "Requests that a limit or a budget refused.", {{"by", refusal_name(refusal)}})
      .add();
}

void ServiceMetrics::finished(const std::string& model, const engine::Finished& finished) {
  const base::Labels labels = {{"model", model}};
  metrics_
      .counter("qianwen_finished_total", "Requests that ended, by reason.",
               {{"model", model}, {"reason", std::string(engine::finish_reason_name(finished.reason))}})
      .add();
  const auto& usage = finished.usage;
  if (usage.completion_tokens == 0) return;
  const auto& t = finished.timings;
  metrics_.histogram("qianwen_queue_seconds", "From arrival to the first step.", seconds(), labels)
      .observe(t.queued_ms / 1e3);
  metrics_.histogram("qianwen_first_token_seconds", "From arrival to the first token.", seconds(), labels)
      .observe(t.first_token_ms / 1e3);
  if (usage.completion_tokens > 1)
    metrics_
        .histogram("qianwen_inter_token_seconds", "Between tokens, the mean of each request.", token_seconds(), labels)
        .observe(t.predict_ms / 1e3 / static_cast<double>(usage.completion_tokens - 1));
}

void ServiceMetrics::used(const std::string& model, const std::string& tenant, const store::Tokens& tokens) {
  const auto add = [&](const char* kind, std::int64_t n) {
    if (n > 0)
      metrics_
          .counter("qianwen_tokens_total", "Tokens by tenant; cached ones are part of prompt, reasoning of output.",
                   {{"model", model}, {"project", tenant}, {"kind", kind}})
          .add(n);
  };
  add("prompt", tokens.prompt);
  add("cached", tokens.cached);
  add("reasoning", tokens.reasoning);
  add("output", tokens.output);
}

}  // namespace qw::api
