// A Hugging Face model folder: config.json, generation_config.json, and the weights in safetensors.
//
// Tokenizer files of the folder are the tokenizer room's business.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "formats/safetensors.h"
#include "json/value.h"

namespace qw::formats {

class HfFolder {
 public:
  // Needs config.json and model.safetensors, or model.safetensors.index.json with its shards, or exactly one other
  // .safetensors file. kBadInput names what is missing; PyTorch .bin weights are told apart and refused.
  static Result<HfFolder> open(const std::filesystem::path& folder);

  const std::filesystem::path& path() const { return path_; }
  const json::Object& config() const { return config_; }
  const json::Object& generation_config() const { return generation_config_; }  // empty if the file is absent
  const Safetensors& weights() const { return weights_; }

 private:
  explicit HfFolder(Safetensors weights) : weights_(std::move(weights)) {}

  std::filesystem::path path_;
  json::Object config_, generation_config_;
  Safetensors weights_;
};

// Reads a JSON file that must hold an object.
Result<json::Object> read_json_object(const std::filesystem::path& path);

}  // namespace qw::formats
