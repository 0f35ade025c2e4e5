// The checks of one GGUF file in memory, apart from files and maps so that tests and fuzzers reach them directly.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "formats/gguf.h"

namespace qw::formats::internal {

struct GgufPart {
  std::uint32_t version = 0;
  std::vector<GgufEntry> entries;  // views into the bytes
  std::vector<TensorInfo> tensors;
  std::vector<std::uint64_t> offsets;  // of tensors[i] from the start of the file; data lies inside the file
};

Result<GgufPart> parse_gguf(std::span<const std::byte> bytes);

// The value as JSON; arrays whole.
json::Value entry_value(const GgufEntry& entry);
// Bytes of one value of a fixed-size type; 0 for strings and arrays.
std::uint64_t type_bytes(GgufType type);
const char* type_name(GgufType type);

// ggml type ids of the tensor formats we hold.
std::optional<tensor::DType> dtype_from_ggml(std::uint32_t id);
std::optional<std::uint32_t> ggml_from_dtype(tensor::DType dtype);

// Alignment of tensor data when general.alignment is absent.
inline constexpr std::uint64_t kGgufDefaultAlignment = 32;

}  // namespace qw::formats::internal
