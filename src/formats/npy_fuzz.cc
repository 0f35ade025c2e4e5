// An array that is accepted holds exactly the bytes that follow its header.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "formats/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto array = qw::formats::parse_npy({reinterpret_cast<const std::byte*>(data), size});
  if (!array) return 0;
  const auto bytes = static_cast<std::size_t>(array->view().bytes());
  QW_CHECK(bytes < size);
  if (bytes > 0) QW_CHECK(std::memcmp(array->view().data, data + size - bytes, bytes) == 0);
  return 0;
}
