// What names the weights of a model for good: a SHA-256 over the hashes of the files that hold them. Configuration,
// tokenizer and notes are not part of it: who changes a template still has the same weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace qw::formats {

struct WeightsFile {
  std::string name, sha256;
  std::uint64_t bytes = 0;
};
struct WeightsDigest {
  std::string sha256;              // of the lines "<sha256>  <name>\n", by name
  std::vector<WeightsFile> files;  // by name
};

// Of a folder: its .safetensors files; of a file: itself. Reads all of them (a second or two for each gigabyte).
// kBadInput: there are none.
Result<WeightsDigest> weights_digest(const std::filesystem::path& model);

}  // namespace qw::formats
