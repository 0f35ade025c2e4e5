// A MODEL opened from disk, and loaded into an engine: what most commands begin with.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "api/model_facts.h"
#include "api/tasks.h"
#include "chat/template.h"
#include "engine/loaded_model.h"
#include "formats/adapter.h"
#include "formats/generation_config.h"
#include "formats/model_file.h"
#include "formats/recipe.h"
#include "models/adapter.h"
#include "models/model.h"
#include "sampling/constraint.h"
#include "sampling/params.h"
#include "tokenizer/tokenizer.h"

namespace qw::app {

// Configuration and tensor views; nothing is read but headers.
struct OpenedModel {
  std::string path;
  formats::ModelSource source;
  std::unique_ptr<models::Model> model;
  formats::GenerationConfig generation;  // how its makers want it sampled
};
Result<OpenedModel> open_model(const std::string& name);
// The model's own chat template; ChatML for a vocabulary with ChatML's tokens and no template; else "".
std::string chat_template_of(const tokenizer::TokenizerSpec& spec);
// The format most elements of the matrices have.
tensor::DType weight_dtype(const OpenedModel& opened);
// The format of each parameter, for engine::estimate_memory.
std::vector<tensor::DType> formats_of(std::span<const tensor::ConstView> weights);

// What recipes want to know of a model.
formats::RecipeModel recipe_model(const models::Model& model, bool importance);

// What guesses tokens ahead (engine/drafter.h).
struct DraftChoice {
  std::string source = "off";            // "off"; "lookup"; "mtp"; "auto": all that costs no other model; else a MODEL
  std::int64_t most = 8;                 // tokens at once
};
// --draft and --draft-tokens.
void add_draft_options(CLI::App& cmd, DraftChoice& choice);

// What clients call a MODEL: the last part of its path.
std::string served_name(const std::string& model);

// Weights, engine and the text side, ready to answer.
struct ReadyModel {
  std::string name;                      // as clients know it
  std::unique_ptr<engine::LoadedModel> draft_model;  // of a drafter; both outlive `loaded`
  std::unique_ptr<engine::ModelDrafter> drafter;
  std::unique_ptr<engine::LoadedModel> loaded;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;
  std::unique_ptr<sampling::VocabularyMask> mask;
  std::optional<chat::Template> chat_template;
  std::string template_sha256;           // of its text; "": there is none
  sampling::ToolDialect tool_dialect = sampling::ToolDialect::kHermes;
  bool thinks = false;                   // its template knows thinking blocks
  std::unique_ptr<sampling::ConstraintCompiler> constraints;
  std::optional<api::EmbeddingTask> embedding;  // what it can do beside or in place of generating
  std::optional<api::RankTask> ranking;
  sampling::SamplingParams defaults;     // of the generation config; stop ids included
  std::int32_t adapter = -1;             // what requests name to have the one adapter of load_adapted_model
  api::ModelFacts facts;
  double load_ms = 0;
};
// --cache-type of the commands that run a model: how numbers of keys and values are kept.
void add_cache_type_option(CLI::App& cmd, std::string& name);
std::optional<tensor::DType> cache_dtype(const std::string& name);  // of a name that the option takes

// Refuses with kResource before loading when the memory would not be enough.
// `adapters` (PEFT folders or GGUF files): requests choose them by index. kUsage for one that cannot be applied beside
// others.
Result<ReadyModel> load_model(const std::string& name, engine::LoadOptions options,
                              const std::vector<std::string>& adapters = {}, const DraftChoice& drafts = {});
// How serve and chat load a model that nobody says more about than its context, with a cache for one such sequence.
engine::LoadOptions usual_options(const models::Model& model, std::int64_t context);
// What a loaded model takes beside the engine's (engine::MemoryNeed): its vocabulary, in all forms it is held in.
std::int64_t text_bytes(const models::Model& model);
// What the program takes beside models: its own pages and those of libraries, and what both allocate.
inline constexpr std::int64_t kProgramBytes = 33'000'000;  // measured: 25 MB of file pages, 8 MB of heap

// Bytes that load_model would take, from headers alone.
Result<std::int64_t> memory_need(const std::string& name, const engine::LoadOptions& options,
                                 const std::vector<std::string>& adapters, const DraftChoice& drafts);
// Bytes a loaded model holds.
std::int64_t memory_of(const ReadyModel& ready);

// An adapter for LoadedModel::load_adapter of the model `name`, and the bytes it will take. Errors as load_model's.
struct ReadyAdapter {
  ops::LowRankAdapter adapter;
  std::int64_t bytes = 0;
};
Result<ReadyAdapter> read_adapter(const std::string& name, const std::string& path, int threads);
// With one adapter that is always in use: requests name ReadyModel::adapter. What cannot be applied while running is put
// into the weights as they are loaded. An empty path: no adapter.
Result<ReadyModel> load_adapted_model(const std::string& name, engine::LoadOptions options, const std::string& adapter,
                                      const DraftChoice& drafts = {});

// The weights of an opened model by parameter id, with an adapter in them if one was named.
struct ModelWeights {
  std::vector<tensor::ConstView> views;
  std::vector<tensor::DType> stored;     // as the base has them
  std::unique_ptr<formats::Adapter> file;                // these three keep the views of merged weights alive
  std::unique_ptr<models::FittedAdapter> fitted;
  std::unique_ptr<models::MergedWeights> merged;
};
// An empty path: no adapter. opened.model becomes one whose head is its own where the adapter treats table and head of a
// tied model differently.
Result<ModelWeights> weights_of(OpenedModel& opened, const std::string& adapter);

}  // namespace qw::app
