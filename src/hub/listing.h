// What the services say a repository holds. These are foreign bytes: every path is checked before anything uses it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace qw::hub {

struct RemoteFile {
  std::string path;        // relative, '/' between folders, never a way out of the folder
  std::uint64_t bytes = 0;
  std::string sha256;      // 64 lower-case hex digits; empty where the service does not say (small files)
};

// One page of GET /api/models/ID/tree/REVISION?recursive=1.
Result<std::vector<RemoteFile>> parse_huggingface_tree(std::string_view answer);
// GET /api/v1/models/ID/repo/files?Revision=R&Recursive=true.
Result<std::vector<RemoteFile>> parse_modelscope_files(std::string_view answer);

// True for "config.json" and "1_Pooling/config.json"; false for what could leave the folder or be hidden in it.
bool safe_path(std::string_view path);

// The address of the next page in a Link header, "" if there is none: <https://…>; rel="next".
std::string next_page(std::string_view link_header);

}  // namespace qw::hub
