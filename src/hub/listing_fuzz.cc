// Any bytes as an answer of either service: an error, or files whose paths stay in their folder.
#include <cstdint>
#include <string_view>

#include "hub/listing.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  qw::hub::next_page(text);
  for (const auto& files : {qw::hub::parse_huggingface_tree(text), qw::hub::parse_modelscope_files(text)}) {
    if (!files) continue;
    for (const auto& file : *files) {
      QW_CHECK(qw::hub::safe_path(file.path));
      QW_CHECK(file.path.front() != '/' && file.path != "..");
      QW_CHECK(file.sha256.empty() || file.sha256.size() == 64);
    }
  }
  return 0;
}
