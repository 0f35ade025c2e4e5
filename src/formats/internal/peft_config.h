// What adapter_config.json says about scales, apart from files so that tests and fuzzers reach it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::formats::internal {

struct PeftConfig {
  double alpha = 8;
  bool rank_stabilised = false, dora = false;
  std::vector<std::pair<std::string, double>> alpha_pattern;  // suffixes of module paths, in order

  // s of the module at `path` ("model.layers.0.self_attn.q_proj").
  float scale(std::string_view path, std::int64_t rank) const;
};

// kBadInput naming the key.
Result<PeftConfig> read_peft_config(const json::Object& config);

}  // namespace qw::formats::internal
