// A model as the protocols see it: a name, an engine, and the text side. Owned by the composition root.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/tasks.h"
#include "chat/template.h"
#include "engine/engine.h"
#include "sampling/constraint.h"
#include "sampling/params.h"
#include "tokenizer/tokenizer.h"

namespace qw::api {

struct ServedModel {
  std::string id;                                   // what clients write in "model"
  std::int64_t created = 0;                         // Unix seconds, for listings
  engine::Engine* engine = nullptr;
  std::int32_t adapter = -1;                        // of the engine's adapters; -1: none
  const tokenizer::Tokenizer* tokenizer = nullptr;
  const chat::Template* chat_template = nullptr;    // null: no chat with this model
  sampling::ConstraintCompiler* constraints = nullptr;  // outputs of a given form; null: not with this model
  sampling::ToolDialect tool_dialect = sampling::ToolDialect::kHermes;
  bool thinks = false;                              // its answers may begin with a thinking block
  std::optional<EmbeddingTask> embedding;           // absent: it makes no embeddings
  std::optional<RankTask> ranking;                  // absent: it ranks no documents
  sampling::SamplingParams defaults;                // of the model's generation config; stop ids included
};

// The models of a server, in order; the first answers requests that name none.
using ModelList = std::vector<ServedModel>;

// nullptr if there is none of that name.
const ServedModel* find_model(const ModelList& models, const std::string& name);

}  // namespace qw::api
