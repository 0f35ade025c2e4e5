// What a smaller number format costs: the same text under a model and under its quantised forms.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::app {

struct QualityOptions {
  std::string model, adapter, imatrix;   // MODEL; "" or a LoRA adapter to merge first; "" or an importance matrix
  std::string text;
  std::vector<std::string> types;        // names of recipes to compare
  int threads = 0;
  bool rounding = false;                 // tell what rounding activations costs apart from what the weights cost
};

// {"tokens", "ppl_source", "kl_allowed", "types": [{"type", "bytes", "ppl", "kl_mean", "kl_max", "same_top"}, ...],
// "recommended": the smallest type within kl_allowed, or null}. Divergences in nats, of the quantised model's next-token
// distribution from the source's; same_top: share of positions whose most likely token is the same. With `rounding` each
// type has "ppl_float" and "kl_rounding" as well: the same quantised weights with activations that are not rounded, and the
// divergence from that of how the type is computed here. It holds the weights in float32 meanwhile.
Result<json::Object> quality_report(const QualityOptions& options);

}  // namespace qw::app
