// Importance matrices: how much each input of each matrix is used, from a calibration run, to weigh quantisation errors.
// Read from GGUF files as other tools write them: tensors NAME.in_sum2 (sums of squared activations) and NAME.counts.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::formats {

class ImportanceMatrix {
 public:
  // kBadInput: no GGUF file, nothing in it, values that are negative or not finite.
  static Result<ImportanceMatrix> open(const std::filesystem::path& path);
  // Mean squares of the inputs of the tensor called `gguf_name`; empty if the calibration never met it.
  std::span<const float> find(std::string_view gguf_name) const;
  std::size_t size() const { return weights_.size(); }

 private:
  std::map<std::string, std::vector<float>, std::less<>> weights_;
};

}  // namespace qw::formats
