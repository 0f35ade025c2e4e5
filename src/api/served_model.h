// A model as the protocols see it: a name, an engine, and the text side. Owned by the composition root.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/error.h"
#include "api/exchange.h"
#include "api/model_facts.h"
#include "api/tasks.h"
#include "chat/template.h"
#include "engine/engine.h"
#include "sampling/constraint.h"
#include "sampling/loop_watch.h"
#include "sampling/params.h"
#include "tokenizer/tokenizer.h"

namespace qw::api {

struct ServedModel;
using ModelEntry = std::shared_ptr<const ServedModel>;  // as it is listed
using ModelLease = std::shared_ptr<const ServedModel>;  // of a model that stays loaded while this is held

// Which model it is, for records: SHA-256s in hexadecimal.
struct ModelIdentity {
  std::string model, adapter;  // of all files; adapter "": there is none
  std::string chat_template;   // "": there is none
  std::string compute;         // in which form it is computed: of the cache, and the processor's instructions
};

struct ServedModel {
  std::string id;            // what clients write in "model"
  std::string base;          // of an adapter: the id of the model it changes; "": it is a model itself
  std::string project;       // whose keys alone may use it; "": all that their own rights let
  std::int64_t created = 0;  // Unix seconds, for listings
  engine::Engine* engine = nullptr;
  std::int32_t adapter = -1;  // of the engine's adapters; -1: none
  const tokenizer::Tokenizer* tokenizer = nullptr;
  const chat::Template* chat_template = nullptr;        // null: no chat with this model
  sampling::ConstraintCompiler* constraints = nullptr;  // outputs of a given form; null: not with this model
  sampling::ToolDialect tool_dialect = sampling::ToolDialect::kHermes;
  bool thinks = false;                     // its answers may begin with a thinking block
  bool breaks_loops = true;                // ends what repeats itself, where a request does not say
  sampling::LoopLimits loops;              // what that is
  std::optional<EmbeddingTask> embedding;  // absent: it makes no embeddings
  std::optional<RankTask> ranking;         // absent: it ranks no documents
  sampling::SamplingParams defaults;       // of the model's generation config; stop ids included
  ModelFacts facts;
  std::shared_ptr<const ModelIdentity> identity;  // null: nobody keeps records
  // Of a model that is loaded when somebody asks for it, and is listed with nothing but its name, base and age. Both
  // may be called from any thread. The first calls back once, at once or from another thread; the second gives null
  // unless the model is loaded now. Absent: what is listed is the model, and it is always there.
  std::function<void(std::function<void(Result<ModelLease>)>)> acquire;
  std::function<ModelLease()> peek;
};

// The models of a server, in order; the first answers requests that name none. They come and go while it runs: who
// found one keeps it. Any thread.
class ModelList {
 public:
  Status add(ServedModel model);  // kUsage: there is one of that name
  bool remove(const std::string& id);
  ModelEntry find(const std::string& name) const;  // null: none of that name; "": the first
  std::vector<ModelEntry> all() const;

 private:
  mutable std::mutex mutex_;
  std::vector<ModelEntry> entries_;
};

// The model if it is loaded now, else null.
ModelLease loaded_now(const ModelEntry& entry);

// Calls `then` with the model, loaded, now or later, unless the client left meanwhile; or answers why it cannot be had.
void with_model(const ModelEntry& entry, const std::shared_ptr<Exchange>& exchange,
                std::function<void(const ModelLease& model)> then);

// What it means to the client that the engine did not take a request for this model: an adapter that was unloaded after
// it was found is a model that does not exist.
ApiError not_taken(const ServedModel& model, const Error& error);

}  // namespace qw::api
