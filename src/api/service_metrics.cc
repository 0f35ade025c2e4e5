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
  const std::string_view route = route_of(path);
  const std::lock_guard lock(mutex_);
  base::Counter*& counter = answers_[{route.data(), status}];
  if (counter == nullptr)
    counter = &metrics_.counter("qianwen_http_requests_total", "Answers by route and status.",
                                {{"route", std::string(route)}, {"code", std::to_string(status)}});
  counter->add();
}

void ServiceMetrics::refused(store::Refusal refusal) {
  metrics_
      .counter("qianwen_refusals_total", "Requests that a limit or a budget refused.", {{"by", refusal_name(refusal)}})
      .add();
}

void ServiceMetrics::found(const char* side, const GuardCounts& counts, bool blocked) {
  for (const GuardCount& one : counts)
    metrics_
        .counter("qianwen_guard_findings_total", "What guards found.",
                 {{"side", side}, {"kind", one.kind}, {"action", name_of(one.action)}})
        .add(one.count);
  if (blocked)
    metrics_.counter("qianwen_guard_blocked_total", "Requests and choices that guards ended.", {{"side", side}}).add();
}

ServiceMetrics::ModelSeries& ServiceMetrics::series_of(const std::string& model) {
  const auto known = models_.find(model);
  return known != models_.end() ? known->second : models_[model];
}

void ServiceMetrics::finished(const std::string& model, const engine::Finished& finished) {
  const std::lock_guard lock(mutex_);
  ModelSeries& series = series_of(model);
  base::Counter*& ended = series.ended[static_cast<std::size_t>(finished.reason)];
  if (ended == nullptr)
    ended = &metrics_.counter("qianwen_finished_total", "Requests that ended, by reason.",
                              {{"model", model}, {"reason", std::string(engine::finish_reason_name(finished.reason))}});
  ended->add();
  const auto& usage = finished.usage;
  if (usage.completion_tokens == 0) return;
  const auto observe = [&](base::Histogram*& histogram, const char* name, const char* help,
                           const std::vector<double>& bounds, double value) {
    if (histogram == nullptr) histogram = &metrics_.histogram(name, help, bounds, {{"model", model}});
    histogram->observe(value);
  };
  const auto& t = finished.timings;
  observe(series.queue, "qianwen_queue_seconds", "From arrival to the first step.", seconds(), t.queued_ms / 1e3);
  observe(series.first_token, "qianwen_first_token_seconds", "From arrival to the first token.", seconds(),
          t.first_token_ms / 1e3);
  if (usage.completion_tokens > 1)
    observe(series.inter_token, "qianwen_inter_token_seconds", "Between tokens, the mean of each request.",
            token_seconds(), t.predict_ms / 1e3 / static_cast<double>(usage.completion_tokens - 1));
}

void ServiceMetrics::used(const std::string& model, const std::string& tenant, const store::Tokens& tokens) {
  static constexpr std::array<const char*, 4> kKinds = {"prompt", "cached", "reasoning", "output"};
  const std::array<std::int64_t, 4> counts = {tokens.prompt, tokens.cached, tokens.reasoning, tokens.output};
  const std::lock_guard lock(mutex_);
  auto& by_tenant = series_of(model).tokens;
  const auto known = by_tenant.find(tenant);
  TokenSeries& series = known != by_tenant.end() ? known->second : by_tenant[tenant];
  for (std::size_t k = 0; k < counts.size(); ++k) {
    if (counts[k] <= 0) continue;
    if (series.kinds[k] == nullptr)
      series.kinds[k] = &metrics_.counter("qianwen_tokens_total",
                                          "Tokens by tenant; cached ones are part of prompt, reasoning of output.",
                                          {{"model", model}, {"project", tenant}, {"kind", kKinds[k]}});
    series.kinds[k]->add(counts[k]);
  }
}

void ServiceMetrics::rolled_out(const std::string& project, const std::string& rollout, bool candidate, const std::string& model) {
  metrics_
      .counter("qianwen_rollout_requests_total", "Requests that a rollout sent to a version of its model.",
               {{"project", project}, {"rollout", rollout}, {"version", candidate ? "candidate" : "stable"}, {"model", model}})
      .add();
}

}  // namespace qw::api
