// What is told of a model beside its answers.
#pragma once

#include <cstdint>
#include <string>

namespace qw::api {

struct ModelFacts {
  std::string format;           // of its files: "gguf", "safetensors"; "": not known (nor is the rest)
  std::string architecture;     // "qwen3"
  std::string weights;          // the format of most of them: "q8_0"
  std::int64_t bytes = 0;       // of the files' tensors
  std::int64_t parameters = 0;  // numbers
  std::string fingerprint;      // "fp_...": another one where the same seed may give another answer
};

}  // namespace qw::api
