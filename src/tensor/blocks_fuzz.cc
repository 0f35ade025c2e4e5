// Any bytes decode as any block format, and any finite values encode, with and without weights; nothing is undefined.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tensor/blocks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw::tensor;
  if (size < 2) return 0;
  const auto type = static_cast<DType>(data[0] % kDTypeCount);
  const bool weighed = data[1] % 2 != 0;
  if (!is_quantised(type)) return 0;
  const std::int64_t n = info(type).block_elements;
  std::vector<std::uint8_t> block(static_cast<std::size_t>(row_bytes(type, n)));
  std::vector<float> values(static_cast<std::size_t>(n)), weights(values.size());
  data += 2;
  size -= 2;
  std::memcpy(block.data(), data, std::min(size, block.size()));
  decode_row(type, block.data(), n, values.data());
  std::memcpy(values.data(), data, std::min(size, values.size() * 4));
  for (float& v : values) v = std::isfinite(v) ? v : 0;
  for (std::size_t i = 0; i < weights.size() && i < size; ++i) weights[i] = static_cast<float>(data[i]);
  if (!can_encode(type)) return 0;
  encode_row(type, values.data(), n, block.data(), weighed ? weights.data() : nullptr);
  decode_row(type, block.data(), n, values.data());
  return 0;
}
