#include "train/internal/start.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/rng.h"
#include "base/sha256.h"
#include "formats/embedding_config.h"
#include "formats/hf_folder.h"
#include "formats/model_file.h"
#include "models/load.h"
#include "tensor/blocks.h"

namespace qw::train {
namespace {

bool same_head(const models::HeadTraits& a, const models::HeadTraits& b) {
  return a.kind == b.kind && a.outputs == b.outputs;
}

void initialise_one(const models::ParameterSpec& spec, std::size_t p, std::uint64_t seed, std::span<float> out) {
  if (const float top = spec.init_rate; top > 0) {
    constexpr double kLeast = 0.01;  // as the reference: the logarithm of a rate near 0 would be far from all others
    base::Rng rng(seed, kInitStream + p);
    for (float& w : out)
      w = static_cast<float>(std::log(kLeast + rng.next_double() * (static_cast<double>(top) - kLeast)));
    return;
  }
  if (spec.is_norm || spec.is_bias) {
    std::fill(out.begin(), out.end(), spec.is_norm ? 1.0f : 0.0f);
    return;
  }
  base::Rng rng(seed, kInitStream + p);
  for (float& w : out) w = static_cast<float>(rng.next_normal() * static_cast<double>(spec.init_std));
}

// Has `make` write a whole parameter, and keeps of it what this process holds.
template <class Make>
void fill(const TensorGroup* group, ops::ParameterBuffer& weights, std::size_t p, const Make& make) {
  if (group == nullptr || !group->cuts(p)) return make(weights.tensor(p));
  std::vector<float> whole(static_cast<std::size_t>(group->whole(p).elements()));
  make(std::span(whole));
  group->take(p, whole.data(), weights.data(p));
}

// The model a folder describes, with the head it has.
Result<std::unique_ptr<models::Model>> model_of(const std::string& path) {
  QW_ASSIGN(const auto source, formats::ModelSource::open(path));
  QW_ASSIGN(const auto embedding, formats::read_embedding_config(source));
  if (embedding) return models::model_from_source(source);
  QW_ASSIGN(const auto folder, formats::HfFolder::open(path));
  auto model = models::model_from_hf_config(folder.config(), 0);
  if (!model) return in_context(path + "/config.json", std::move(model).error());
  return model;
}

}  // namespace

std::string fingerprint_of(const models::Model& model, const std::vector<tensor::ConstView>& views) {
  constexpr std::int64_t kRows = 16;  // of each tensor, evenly spaced: enough to tell any two checkpoints apart
  base::Sha256 hash;
  for (std::size_t i = 0; i < views.size(); ++i) {
    hash.update(model.parameters()[i].own_name() + " " + std::string(tensor::name(views[i].dtype)) + " " +
                views[i].shape.to_string() + "\n");
    const std::int64_t rows = views[i].shape.rows(), taken = std::min(rows, kRows);
    for (std::int64_t r = 0; r < taken; ++r) {
      tensor::ConstView row = views[i];
      if (row.shape.rank() > 1) row = tensor::rows_of(row, taken == 1 ? 0 : r * (rows - 1) / (taken - 1), 1);
      tensor::Buffer room;
      const tensor::ConstView bytes = tensor::in_memory(row, room);
      hash.update(std::span(bytes.data, static_cast<std::size_t>(bytes.bytes())));
    }
  }
  return hash.hex();
}

Result<std::unique_ptr<models::Model>> make_model(const TrainConfig& config, const data::Dataset& dataset) {
  if (config.init_from.empty()) return models::model_from_hf_config(config.model, 0);
  QW_ASSIGN(auto model, model_of(config.init_from));
  const models::HeadTraits& head = model->traits().head;
  if (config.embedding) {
    if (head.kind == models::HeadKind::kEmbedding) return model;
    if (head.kind == models::HeadKind::kLanguage) return models::model_with_embeddings(*model);
    return fail(ErrorKind::kBadInput, config.init_from + ": has a head, which embeddings have not");
  }
  if (!judges(config)) return model;
  const std::vector<std::string> labels = config.classes ? dataset.labels : std::vector<std::string>();
  if (head.kind == models::HeadKind::kLanguage) return models::model_with_scores(*model, labels);
  const auto wanted = static_cast<std::int32_t>(std::max<std::size_t>(1, labels.size()));
  if (head.kind != models::HeadKind::kClasses || head.outputs != wanted ||
      (!head.labels.empty() && head.labels != labels))
    return fail(ErrorKind::kBadInput, config.init_from + ": has another head than the data have labels for");
  return model;
}

Status check_length(const TrainConfig& config, const models::Model& model) {
  const std::int64_t longest = model.traits().context;
  if (!config.grpo || config.sequence_length < longest) return {};
  return fail(ErrorKind::kBadInput, "[grpo] writes answers up to sequence_length = " + std::to_string(config.sequence_length) +
                                        ", which must be less than the model's max_position_embeddings, " + std::to_string(longest));
}

void initialise(const models::Model& model, std::uint64_t seed, const TensorGroup* group,
                ops::ParameterBuffer& weights) {
  for (std::size_t p = 0; p < model.parameters().size(); ++p)
    fill(group, weights, p, [&](std::span<float> out) { initialise_one(model.parameters()[p], p, seed, out); });
}

Status load_weights(const TrainConfig& config, const models::Model& model, const TensorGroup* group,
                    ops::ParameterBuffer& weights) {
  const auto decode = [&](std::size_t p, const tensor::ConstView& view) {
    fill(group, weights, p, [&](std::span<float> out) { tensor::decode(view, out.data()); });
  };
  const std::string& path = config.init_from;
  QW_ASSIGN(const auto source, formats::ModelSource::open(path));
  if (const formats::HfFolder* opened = source.hf_folder(); opened != nullptr && opened->quantised() != nullptr)
    return fail(ErrorKind::kBadInput, path + ": training starts from plain weights, these are " +
                                          opened->quantised()->config().describe() + "; convert them to bf16 first");
  QW_ASSIGN(const auto body, model_of(path));
  if (same_head(body->traits().head, model.traits().head)) {
    QW_ASSIGN(const auto views, models::load_weights(model, source));
    for (std::size_t i = 0; i < weights.size(); ++i) decode(i, views[i]);
    return {};
  }
  QW_ASSIGN(const auto views, models::load_weights(*body, source));
  std::map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < views.size(); ++i) places.emplace(body->parameters()[i].own_name(), i);
  for (std::size_t p = 0; p < weights.size(); ++p) {
    const models::ParameterSpec& spec = model.parameters()[p];
    const auto there = places.find(spec.own_name());
    if (there == places.end())
      fill(group, weights, p, [&](std::span<float> out) { initialise_one(spec, p, config.seed, out); });
    else
      decode(p, views[there->second]);
  }
  return {};
}

Status inherit_generation(TrainConfig& config) {
  if (!config.generation.empty()) return {};
  QW_ASSIGN(const auto source, formats::ModelSource::open(config.init_from));
  QW_ASSIGN(config.generation, formats::read_generation_config(source));
  return {};
}

}  // namespace qw::train
