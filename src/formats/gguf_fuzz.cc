// A GGUF file that is accepted can be read to its last byte, and decodes.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "formats/internal/gguf_parse.h"
#include "tensor/blocks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  // Aligned as a mapped file is.
  std::vector<std::uint64_t> words((size + 7) / 8);
  if (size > 0) std::memcpy(words.data(), data, size);
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(words.data()), size);
  const auto part = formats::internal::parse_gguf(bytes);
  if (!part) return 0;
  std::size_t sum = 0;
  for (const auto& entry : part->entries) sum += json::dump(formats::internal::entry_value(entry)).size();
  for (std::size_t i = 0; i < part->tensors.size(); ++i) {
    const formats::TensorInfo& info = part->tensors[i];
    const std::byte* at = bytes.data() + part->offsets[i];
    QW_CHECK(part->offsets[i] + static_cast<std::uint64_t>(info.bytes()) <= size);
    const bool floats = tensor::is_quantised(info.dtype) || info.dtype == tensor::DType::kF32 ||
                        info.dtype == tensor::DType::kF16 || info.dtype == tensor::DType::kBF16;
    if (!floats || info.shape.elements() == 0) continue;
    std::vector<float> row(static_cast<std::size_t>(info.shape.back()));
    const std::int64_t last = info.shape.rows() - 1;
    tensor::decode_row(info.dtype, at + last * tensor::row_bytes(info.dtype, info.shape.back()), info.shape.back(),
                       row.data());
    sum += row[0] > 0;
  }
  return sum == static_cast<std::size_t>(-1);
}
