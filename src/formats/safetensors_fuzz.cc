// A safetensors file that is accepted is tiled by its tensors.
#include <cstddef>
#include <cstdint>

#include "formats/internal/safetensors_parse.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  const auto part = formats::internal::parse_safetensors({reinterpret_cast<const std::byte*>(data), size});
  if (!part || part->entries.empty()) return 0;
  for (std::size_t i = 0; i < part->entries.size(); ++i) {
    const auto& e = part->entries[i];
    QW_CHECK(e.begin <= e.end && e.end <= size);
    QW_CHECK(i == 0 || part->entries[i - 1].end == e.begin);
    if (e.unsupported.empty()) QW_CHECK(static_cast<std::uint64_t>(e.info.bytes()) == e.end - e.begin);
  }
  QW_CHECK(part->entries.back().end == size);
  return 0;
}
