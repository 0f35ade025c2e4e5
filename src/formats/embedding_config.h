// How a model folder says that it makes embeddings: modules.json and its neighbours, as sentence-transformers has them.
//
//   modules.json                       the stages: Transformer, Pooling, Normalize
//   1_Pooling/config.json              which rows are pooled: only the last token's is supported
//   config_sentence_transformers.json  prompts by name (may be absent)
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "base/result.h"
#include "formats/model_file.h"
#include "json/value.h"

namespace qw::formats {

struct EmbeddingConfig {
  bool normalise = false;    // to length 1
  std::string query_prompt;  // put before queries; "" if none is named
};

// Nothing if the source is no folder with modules.json. kBadInput naming the file for what is malformed or not supported.
Result<std::optional<EmbeddingConfig>> read_embedding_config(const ModelSource& source);

// Writes modules.json and its neighbours into a folder: what read_embedding_config gives is `config` again. `width` is
// that of an embedding, `context` the longest text.
Status write_embedding_config(const EmbeddingConfig& config, std::int64_t width, std::int64_t context,
                              const std::filesystem::path& folder);

// The parts, on their own: `modules` is modules.json; `folder_of_pooling` is set to the Pooling stage's, relative.
Result<EmbeddingConfig> read_modules(const json::Value& modules, std::string& folder_of_pooling);
Status check_pooling(const json::Value& config);
Result<std::string> query_prompt(const json::Value& config);

}  // namespace qw::formats
