// Any bytes as an importance matrix in the older layout: an error or finite weights.
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "formats/imatrix.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto read = qw::formats::ImportanceMatrix::parse_dat({reinterpret_cast<const std::byte*>(data), size});
  if (!read) return 0;
  for (const float w : read->find("a")) QW_CHECK(std::isfinite(w) && w >= 0);
  return 0;
}
