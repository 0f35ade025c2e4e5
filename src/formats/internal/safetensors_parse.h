// The checks of one safetensors file in memory, apart from files and maps so that tests and fuzzers reach them
// directly.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/tensor_info.h"
#include "json/value.h"

namespace qw::formats::internal {

struct SafetensorsPart {
  json::Object metadata;
  struct Entry {
    TensorInfo info;          // dtype and shape are set only if `unsupported` is empty
    std::uint64_t begin = 0;  // from the start of the file
    std::uint64_t end = 0;
    std::string unsupported;  // why we cannot hold it
  };
  std::vector<Entry> entries;  // in order of data; they tile the rest of the file
};

Result<SafetensorsPart> parse_safetensors(std::span<const std::byte> bytes);

// The format's name of a dtype; empty if it has none.
std::string_view safetensors_from_dtype(tensor::DType dtype);

}  // namespace qw::formats::internal
