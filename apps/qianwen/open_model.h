// A MODEL opened from disk, and loaded into an engine: what most commands begin with.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "chat/template.h"
#include "engine/loaded_model.h"
#include "formats/generation_config.h"
#include "formats/model_file.h"
#include "models/model.h"
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

// Weights, engine and the text side, ready to answer.
struct ReadyModel {
  std::string name;                      // as clients know it
  std::unique_ptr<engine::LoadedModel> loaded;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer;
  std::unique_ptr<sampling::VocabularyMask> mask;
  std::optional<chat::Template> chat_template;
  sampling::SamplingParams defaults;     // of the generation config; stop ids included
  double load_ms = 0;
};
// Refuses with kResource before loading when the memory would not be enough.
Result<ReadyModel> load_model(const std::string& name, engine::LoadOptions options);

}  // namespace qw::app
