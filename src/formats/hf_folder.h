// A Hugging Face model folder: config.json, generation_config.json, and the weights in safetensors.
//
// Tokenizer files of the folder are the tokenizer room's business.
#pragma once

#include <filesystem>
#include <optional>

#include "base/result.h"
#include "formats/quantised_weights.h"
#include "formats/safetensors.h"
#include "json/value.h"

namespace qw::formats {

class HfFolder {
 public:
  // Needs config.json and model.safetensors, or model.safetensors.index.json with its shards, or exactly one other
  // .safetensors file. kBadInput names what is missing, or the pickle (.bin, .pth, ...) that is there instead. Quantised
  // weights (quantization_config, or a quantize_config.json beside it) are seen as ordinary tensors.
  static Result<HfFolder> open(const std::filesystem::path& folder);

  const std::filesystem::path& path() const { return path_; }
  const json::Object& config() const { return config_; }
  const json::Object& generation_config() const { return generation_config_; }  // empty if the file is absent
  // The files as they are.
  const Safetensors& weights() const { return weights_; }
  // nullptr: the weights are plain.
  const QuantisedWeights* quantised() const { return quantised_ ? &*quantised_ : nullptr; }
  // What the files mean: with quantised weights as ordinary tensors.
  const std::vector<TensorInfo>& tensors() const { return quantised_ ? quantised_->tensors() : weights_.tensors(); }
  const TensorInfo* find(std::string_view name) const { return quantised_ ? quantised_->find(name) : weights_.find(name); }
  // Valid as long as this object (moving it keeps the view). kBadInput if there is none.
  Result<tensor::ConstView> tensor(std::string_view name) const;

 private:
  Status find_quantisation();
  explicit HfFolder(Safetensors weights) : weights_(std::move(weights)) {}

  std::filesystem::path path_;
  json::Object config_, generation_config_;
  Safetensors weights_;
  std::optional<QuantisedWeights> quantised_;
};

// What is said of a file of weights as PyTorch pickles them.
tl::unexpected<Error> refuse_pickle(const std::filesystem::path& file);

// Reads a JSON file that must hold an object.
Result<json::Object> read_json_object(const std::filesystem::path& path);

}  // namespace qw::formats
