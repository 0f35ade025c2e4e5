// Which number format each tensor of a model gets: the plain types, and the mixes known from GGUF files ("q4_k_m"), which
// spend more bits where errors cost most.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tensor/tensor.h"

namespace qw::formats {

struct Recipe {
  std::string_view name;    // lower case
  tensor::DType base;       // of most matrices
  std::int32_t file_type;   // general.file_type of a GGUF file
};

// nullptr for an unknown name. "q3_k", "q4_k" and "q5_k" mean their _m mixes. Case does not matter.
const Recipe* find_recipe(std::string_view name);
std::string recipe_names();  // "f32, f16, ..."

struct RecipeModel {
  std::int64_t layers = 0, heads = 0, kv_heads = 0;
  bool tied = false;        // the token table is the head as well
  bool importance = false;  // a calibration weighs the errors
};

// The format of one tensor, `gguf_name` as in GGUF files. Vectors, norms, routers and convolutions are F32. Rows that are
// no whole blocks fall back to a format of blocks of 32, and to F16 if those do not fit either.
tensor::DType recipe_type(const Recipe& recipe, std::string_view gguf_name, const tensor::Shape& shape,
                          const RecipeModel& model);

}  // namespace qw::formats
