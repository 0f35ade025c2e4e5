// NumPy's .npy files (versions 1 to 3 read, 1 written), C order, little-endian: float32, float64, float16, integers of
// 8 to 64 bits, uint8 and bool.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tensor/tensor.h"

namespace qw::formats {

// An array as read: the tensor owns a copy. At most Shape::kMaxRank dimensions.
Result<tensor::Tensor> read_npy(const std::filesystem::path& path);
// The same from memory (the error does not name a file).
Result<tensor::Tensor> parse_npy(std::span<const std::byte> bytes);

// Writes atomically. kUsage: bf16 and block formats, which numpy does not have.
Status write_npy(const std::filesystem::path& path, const tensor::ConstView& view);

// Writes row after row, for arrays larger than memory. Nothing is at `path` before commit().
class NpyWriter {
 public:
  static Result<NpyWriter> create(const std::filesystem::path& path, tensor::DType dtype, tensor::Shape shape);
  Status append(std::span<const std::byte> bytes);
  Status append(std::span<const float> row) { return append(std::as_bytes(row)); }
  // kFailed if fewer bytes came than the shape needs.
  Status commit();

 private:
  NpyWriter(base::AtomicFile file, std::int64_t missing) : file_(std::move(file)), missing_bytes_(missing) {}
  base::AtomicFile file_;
  std::int64_t missing_bytes_;
};

}  // namespace qw::formats
