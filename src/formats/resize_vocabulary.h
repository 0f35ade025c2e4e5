// Gives a model's embedding, and its output matrix where it has one of its own, rows for new tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/result.h"
#include "formats/hf_folder.h"

namespace qw::formats {

struct VocabularyRows {
  struct Fresh {
    std::int64_t row;
    std::vector<std::int64_t> mean_of;  // old rows, at least one
  };
  std::int64_t rows = 0;     // at least; a model that has more keeps them
  std::vector<Fresh> fresh;  // in order of rows; every row that the model does not have yet must be among them
};

// Writes config.json and the weights of `model` to the folder `out`, which must exist and not be the model's own. Rows
// that are fresh become the mean of old ones (of each matrix its own), computed in double precision and rounded to the
// matrix's format; everything else is copied bit by bit. Returns the rows there are now. kBadInput: quantised weights,
// no embedding of vocab_size rows among the tensors, a row to take the mean of that is not there.
Result<std::int64_t> write_resized_vocabulary(const HfFolder& model, const VocabularyRows& plan,
                                              const std::filesystem::path& out);

}  // namespace qw::formats
