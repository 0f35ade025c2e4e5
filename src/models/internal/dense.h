// What the dense decoders (grouped-query attention, SwiGLU, RMS norms before each half) have in common: the numbers of
// their configuration and how these are read, checked and written. What differs stands in each architecture's folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"
#include "models/model.h"
#include "ops/executor.h"

namespace qw::models {

struct DenseConfig {
  ModelTraits traits;
  float eps = 1e-6f;
  ops::RopeSpec rope;
  float init_std = 0.02f;
  bool head_hidden_layer = false;  // a head of scores with a layer before its last
  std::int32_t guard_width = 0;    // of a guard's branches
  std::int64_t window = 0;         // tokens that the layers in `windowed` see, themselves included
  std::vector<bool> windowed;      // by layer; empty: all see everything
  std::int64_t window_of(int layer) const { return windowed.empty() || !windowed[static_cast<std::size_t>(layer)] ? 0 : window; }
};

// Which of an architecture's layers have the sliding window where a configuration has one and no layer_types: those from
// max_window_layers on; every other one of those before it, the first included; all, whatever else is said.
enum class Windows : std::uint8_t { kRefused, kFromLayer, kEveryOtherBefore, kAll };

// Reads config.json keys. `default_head_dim`: for a config without "head_dim"; 0 = width / heads.
Result<DenseConfig> read_dense_hf(const json::Object& config, std::string_view architecture,
                                  std::int32_t default_head_dim, Windows windows = Windows::kRefused);
// Reads GGUF keys "<architecture>.*". Vocabulary and tying come from the tensors of the file.
Result<DenseConfig> read_dense_gguf(const json::Object& metadata, std::string_view architecture, bool has_output_weight,
                                    std::int64_t vocab, Windows windows = Windows::kRefused);

// The common keys; each architecture adds its own.
json::Object write_dense_hf(const DenseConfig& config, std::string_view class_name);
json::Object write_dense_gguf(const DenseConfig& config);

// Parameter table with the common names. Each function appends and returns the new parameter's id.
class ParameterTable {
 public:
  explicit ParameterTable(float init_std) : init_std_(init_std) {}
  ops::Weight matrix(std::string hf, std::string gguf, std::int64_t out, std::int64_t in);
  ops::Weight norm(std::string hf, std::string gguf, std::int64_t n);
  ops::Weight bias(std::string hf, std::string gguf, std::int64_t n);
  // For what is particular about where a parameter stands in files.
  ParameterSpec& spec(ops::Weight w) { return specs_[static_cast<std::size_t>(w.id)]; }
  const std::vector<ParameterSpec>& specs() const { return specs_; }

 private:
  ops::Weight push(ParameterSpec spec);
  float init_std_;
  std::vector<ParameterSpec> specs_;
};

}  // namespace qw::models
