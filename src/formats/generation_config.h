// How a model's makers want it sampled: generation_config.json of a folder, general.sampling.* of a GGUF file.
//
//   this                 generation_config.json    GGUF
//   temperature          temperature               general.sampling.temp
//   top_k                top_k                     general.sampling.top_k
//   top_p                top_p                     general.sampling.top_p
//   min_p                min_p                     general.sampling.min_p
//   repetition_penalty   repetition_penalty        general.sampling.penalty_repeat
// "do_sample": false is temperature 0, and the reverse. Token ids of that file are the tokenizer room's business.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "formats/gguf.h"
#include "formats/model_file.h"
#include "json/value.h"

namespace qw::formats {

struct GenerationConfig {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;  // what is not stated is absent
  std::optional<std::int64_t> top_k;                                    // 0: all tokens
  bool empty() const { return !temperature && !top_p && !min_p && !repetition_penalty && !top_k; }
};

// kBadInput naming file and key if a value is no number or cannot be meant; null counts as absent.
Result<GenerationConfig> read_generation_config(const ModelSource& source);
// The same of an object: generation_config.json, or the metadata of a GGUF file. Errors name the key alone.
Result<GenerationConfig> parse_generation_config(const json::Object& object, bool gguf);
// Sets the keys that are stated; others of `metadata` stay.
void write_generation_config(const GenerationConfig& config, GgufMetadata& metadata);
// The keys of generation_config.json.
json::Object generation_config_json(const GenerationConfig& config);

}  // namespace qw::formats
