#include "api/token_health.h"

#include <algorithm>
#include <set>

namespace qw::api {
namespace {

// A step takes milliseconds to a few seconds, with the largest models and prompts on slow machines too.
constexpr std::chrono::seconds kStall{60};

}  // namespace

TokenHealth token_health(const ModelList& models, engine::Clock::time_point now) {
  TokenHealth out;
  std::set<const engine::Engine*> seen;
  for (const ModelEntry& entry : models.all()) {
    const ModelLease model = loaded_now(entry);
    if (model == nullptr || !seen.insert(model->engine).second) continue;
    const engine::EngineStats stats = model->engine->stats();
    out.running += stats.running;
    out.waiting += stats.waiting;
    if (stats.last_token != engine::Clock::time_point()) {
      const double since = std::chrono::duration<double>(now - stats.last_token).count();
      out.seconds_since_token = std::min(since, out.seconds_since_token.value_or(since));
    }
    if (stats.running + stats.waiting > 0 && now - stats.last_progress > kStall) out.stalled = true;
  }
  return out;
}

json::Value health_body(const TokenHealth& health) {
  const bool working = health.running + health.waiting > 0;
  return json::Object{
      {"status", health.stalled ? "stalled" : working ? "working" : "idle"},
      {"running", health.running},
      {"waiting", health.waiting},
      {"seconds_since_token", health.seconds_since_token ? json::Value(*health.seconds_since_token) : json::Value()}};
}

}  // namespace qw::api
