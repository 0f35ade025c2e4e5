// A model as the protocols see it: a name, an engine, and the text side. Owned by the composition root.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/exchange.h"
#include "api/tasks.h"
#include "chat/template.h"
#include "engine/engine.h"
#include "sampling/constraint.h"
#include "sampling/params.h"
#include "tokenizer/tokenizer.h"

namespace qw::api {

struct ServedModel;
using ModelLease = std::shared_ptr<const ServedModel>;  // a model that stays loaded while this is held

struct ServedModel {
  std::string id;            // what clients write in "model"
  std::string alias;         // or this; "" none
  std::int64_t created = 0;  // Unix seconds, for listings
  engine::Engine* engine = nullptr;
  std::int32_t adapter = -1;  // of the engine's adapters; -1: none
  const tokenizer::Tokenizer* tokenizer = nullptr;
  const chat::Template* chat_template = nullptr;    // null: no chat with this model
  sampling::ConstraintCompiler* constraints = nullptr;  // outputs of a given form; null: not with this model
  sampling::ToolDialect tool_dialect = sampling::ToolDialect::kHermes;
  bool thinks = false;                              // its answers may begin with a thinking block
  std::optional<EmbeddingTask> embedding;           // absent: it makes no embeddings
  std::optional<RankTask> ranking;                  // absent: it ranks no documents
  // Of a model that is loaded when somebody asks for it, and has nothing but its names and age until then: calls back
  // once, at once or from another thread. Absent: it is always there.
  std::function<void(std::function<void(Result<ModelLease>)>)> acquire;
  sampling::SamplingParams defaults;                // of the model's generation config; stop ids included
};

// The models of a server, in order; the first answers requests that name none.
using ModelList = std::vector<ServedModel>;

// nullptr if there is none of that name.
const ServedModel* find_model(const ModelList& models, const std::string& name);

// Calls `then` with the model, loaded, now or later; or answers why it cannot be had. `model` must outlive the
// exchange.
void with_model(const ServedModel& model, const std::shared_ptr<Exchange>& exchange,
                std::function<void(const ModelLease& model)> then);

}  // namespace qw::api
