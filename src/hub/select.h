// Which files of a repository are needed to run the model in it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "hub/listing.h"

namespace qw::hub {

struct Selection {
  std::vector<RemoteFile> files;
  std::string gguf;  // the file to open (of a split model the first part); empty: the folder is the model
};

// With a pattern, or where there are no safetensors: one GGUF model, all parts of it. Otherwise the safetensors with
// configuration, tokenizer, template and licence. kUsage listing the choices if the pattern fits several models or none;
// kBadInput if there are only weights that are not read (PyTorch's pickle files can run code when opened).
Result<Selection> select_files(const std::vector<RemoteFile>& files, const std::string& pattern);

// "Q4_K_M" of "Qwen3-0.6B-Q4_K_M.gguf": a part of the name, whichever case; with '*' or '?' a glob over all of it.
bool matches(const std::string& path, const std::string& pattern);
// The name without ".gguf" and without "-00001-of-00003": the same for all parts of a model.
std::string gguf_stem(const std::string& path);

}  // namespace qw::hub
