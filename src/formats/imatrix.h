// Importance matrices: how much each input of each matrix is used, from a calibration run, to weigh quantisation errors.
//
// Two layouts are read and written, as other tools have them: GGUF (general.type "imatrix"; tensors NAME.in_sum2, sums of
// squared activations [matrices, in], and NAME.counts [matrices, 1]; a stack of experts has a row for each), and the older
// .dat (i32 entries; each: i32 length, name, i32 calls, i32 values, f32 values times calls; then chunks and data set).
#pragma once

#include <cstdint>
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
  // kBadInput: neither layout, nothing in it, values that are negative or not finite.
  static Result<ImportanceMatrix> open(const std::filesystem::path& path);
  // The older layout from memory.
  static Result<ImportanceMatrix> parse_dat(std::span<const std::byte> bytes);
  // Mean squares of the inputs of the tensor called `gguf_name`, of a stack one expert after the other (an expert the
  // calibration never met: all 1); empty if the calibration never met the tensor.
  std::span<const float> find(std::string_view gguf_name) const;
  // Those of one of the stacked matrices of `columns` inputs; where there is one set only, it serves all.
  std::span<const float> find_part(std::string_view gguf_name, std::size_t part, std::int64_t columns) const;
  std::size_t size() const { return weights_.size(); }

 private:
  std::map<std::string, std::vector<float>, std::less<>> weights_;
};

// What a calibration sums up.
class ImportanceSums {
 public:
  struct Entry {
    std::int64_t in = 0;
    std::vector<double> sums;            // [matrices, in]
    std::vector<std::int64_t> counts;    // rows met, by matrix
  };
  // Room for a tensor; all its matrices at once.
  void add(const std::string& gguf_name, std::int64_t matrices, std::int64_t in);
  // Rows x [rows, in] of matrix `matrix` of the tensor.
  void meet(std::string_view gguf_name, std::int64_t matrix, const float* x, std::int64_t rows);
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }

  // `data_set` names the text; it was read in `chunks` pieces of `chunk_tokens`. A path that ends in .dat gets the older
  // layout. Tensors that were never met are left out. kFailed if none was.
  Status write(const std::filesystem::path& path, const std::string& data_set, std::int64_t chunks,
               std::int64_t chunk_tokens) const;

 private:
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace qw::formats
