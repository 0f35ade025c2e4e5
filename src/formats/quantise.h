// Converts tensors between float and block formats, row by row and in parallel, and says how much was lost.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "base/thread_pool.h"
#include "formats/tensor_info.h"
#include "tensor/tensor.h"

namespace qw::formats {

// Differences between the source, decoded to f32, and what the converted tensor decodes to.
struct ConversionError {
  double rms = 0;       // root of the mean squared difference
  double max = 0;       // greatest absolute difference
  double relative = 0;  // rms of the difference / rms of the source; 0 for a source of zeros
};

// Takes converted rows in order; a piece holds whole rows.
using RowSink = base::FunctionRef<Status(std::span<const std::byte>)>;

// Converts `source` (a float or block format) to `type` and hands the bytes to `sink` in order, in pieces of a few MiB.
// The bytes and the statistics do not depend on the number of threads. kBadInput: a value that is not finite where
// `type` cannot hold it, or that leaves the range of `type`; kUsage: rows that are no whole blocks, formats without a
// codec (integers).
Result<ConversionError> convert(const tensor::ConstView& source, tensor::DType type, base::ThreadPool& pool,
                                RowSink sink, std::span<const float> importance = {});
// `importance`: one weight >= 0 per input, or empty (see tensor::encode_row).
// The same into memory.
Result<tensor::Tensor> convert(const tensor::ConstView& source, tensor::DType type, base::ThreadPool& pool,
                               ConversionError* error = nullptr);

// The format in which a GGUF file holds values of `type` without loss.
tensor::DType file_type(tensor::DType type);

// The format a tensor gets when a model is written as `wanted`; `gguf_name` as in GGUF files. Vectors, norms, routers
// and convolutions stay F32 (they are small and errors in them reach every element); the token table and the head keep
// Q8_0 when the rest is Q4_0; rows that are no whole blocks become F16.
tensor::DType storage_type(std::string_view gguf_name, const tensor::Shape& shape, tensor::DType wanted);

}  // namespace qw::formats
