#include "train/internal/tensor_file.h"

#include <algorithm>

#include "tensor/blocks.h"

namespace qw::train {
namespace {

constexpr std::int64_t kBlock = 1 << 16;  // floats converted at once: 128 KiB of bfloat16 on the way to the file

Status write_bf16(formats::SafetensorsWriter& writer, const NamedTensor& t) {
  std::vector<std::uint16_t> block(static_cast<std::size_t>(kBlock));
  const std::int64_t n = t.shape.elements();
  for (std::int64_t at = 0; at < n; at += kBlock) {
    const auto count = static_cast<std::size_t>(std::min(n - at, kBlock));
    for (std::size_t i = 0; i < count; ++i) block[i] = tensor::f32_to_bf16(t.data[at + static_cast<std::int64_t>(i)]);
    QW_TRY(writer.append(std::as_bytes(std::span(block.data(), count))));
  }
  return {};
}

}  // namespace

Status write_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                     const json::Object& metadata) {
  std::vector<formats::TensorInfo> infos;
  for (const auto& t : tensors) infos.push_back({t.name, t.stored_as, t.shape});
  QW_ASSIGN(auto writer, formats::SafetensorsWriter::create(path, std::move(infos), metadata));
  for (const auto& t : tensors) {
    if (t.made) {
      std::vector<std::byte> bytes;
      QW_TRY(t.made(bytes));
      QW_TRY(writer.append(bytes));
    } else if (!t.raw.empty()) QW_TRY(writer.append(t.raw));
    else if (t.stored_as == tensor::DType::kBF16) QW_TRY(write_bf16(writer, t));
    else QW_TRY(writer.append(std::as_bytes(std::span(t.data, static_cast<std::size_t>(t.shape.elements())))));
  }
  return writer.commit();
}

Status read_tensor(const formats::Safetensors& file, const std::string& name, const tensor::Shape& shape, float* out) {
  QW_ASSIGN(const tensor::ConstView view, file.tensor(name));
  if (view.shape != shape)
    return fail(ErrorKind::kBadInput, file.path().string() + ": " + name + " has shape " + view.shape.to_string() +
                                          ", expected " + shape.to_string());
  switch (view.dtype) {
    case tensor::DType::kF32:
    case tensor::DType::kF16:
    case tensor::DType::kBF16: break;
    default:
      return fail(ErrorKind::kBadInput, file.path().string() + ": " + name + " is stored as " +
                                            std::string(tensor::name(view.dtype)) + ", expected f32, f16 or bf16");
  }
  tensor::decode(view, out);
  return {};
}

}  // namespace qw::train
