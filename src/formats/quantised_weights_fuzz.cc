// Any bytes as quantization_config and as the tensors it speaks of: a reading that is accepted makes all its rows.
// Input: u16 length of a JSON text, the text, then a safetensors file.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "formats/internal/safetensors_parse.h"
#include "formats/quantised_weights.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  std::uint16_t length = 0;
  if (size < sizeof(length)) return 0;
  std::memcpy(&length, data, sizeof(length));
  data += sizeof(length);
  size -= sizeof(length);
  if (length > size) return 0;
  const auto config = json::parse({reinterpret_cast<const char*>(data), length});
  if (!config || !config->is_object()) return 0;
  const auto quant = formats::read_quant_config(config->as_object());
  if (!quant || !*quant) return 0;
  (void)(*quant)->describe();
  const auto part = formats::internal::parse_safetensors({reinterpret_cast<const std::byte*>(data + length), size - length});
  if (!part) return 0;
  std::vector<formats::TensorInfo> infos;
  std::vector<tensor::Buffer> buffers;  // aligned, as the file reader gives them
  for (const auto& e : part->entries) {
    if (!e.unsupported.empty()) continue;
    infos.push_back(e.info);
    buffers.emplace_back(e.end - e.begin);
    if (e.end > e.begin) std::memcpy(buffers.back().data(), data + length + e.begin, e.end - e.begin);
  }
  const auto weights = formats::QuantisedWeights::create(**quant, infos, [&](std::string_view name) -> Result<tensor::ConstView> {
    for (std::size_t i = 0; i < infos.size(); ++i)
      if (infos[i].name == name) return tensor::ConstView{infos[i].dtype, infos[i].shape, buffers[i].data()};
    return fail(ErrorKind::kBadInput, "no such tensor");
  });
  if (!weights) return 0;
  for (const formats::TensorInfo& t : weights->tensors()) {
    const auto view = weights->made(t.name);
    tensor::Buffer own;
    if (view) (void)tensor::in_memory(*view, own);
  }
  return 0;
}
