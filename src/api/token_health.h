// Whether the engines do their work: what GET /health/tokens tells. A service that accepts connections and answers its
// health page, but whose model makes no tokens, is found by this alone. No names: everybody may ask.
#pragma once

#include <cstdint>
#include <optional>

#include "api/served_model.h"
#include "json/value.h"

namespace qw::api {

struct TokenHealth {
  std::int64_t running = 0, waiting = 0;      // requests of all loaded models
  std::optional<double> seconds_since_token;  // of any; absent: none was made yet
  bool stalled = false;                       // one of them has work, and none of its steps ended for long
};

TokenHealth token_health(const ModelList& models, engine::Clock::time_point now);
json::Value health_body(const TokenHealth& health);

}  // namespace qw::api
