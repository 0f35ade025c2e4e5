#include "train/internal/tensor_file.h"

#include <algorithm>
#include <cstring>

#include "json/value.h"

namespace qw::train {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100 << 20;  // the limit of the safetensors format itself

const char* format_name(tensor::DType type) { return type == tensor::DType::kBF16 ? "BF16" : "F32"; }

std::string header_of(const std::vector<NamedTensor>& tensors, const Metadata& metadata) {
  json::Object header, texts;
  for (const auto& [key, value] : metadata) texts.set(key, value);
  header.set("__metadata__", std::move(texts));
  std::int64_t at = 0;
  for (const auto& t : tensors) {
    json::Array shape;
    for (int i = 0; i < t.shape.rank(); ++i) shape.emplace_back(t.shape[i]);
    const std::int64_t bytes = t.shape.elements() * (t.stored_as == tensor::DType::kBF16 ? 2 : 4);
    json::Object entry;
    entry.set("dtype", format_name(t.stored_as));
    entry.set("shape", std::move(shape));
    entry.set("data_offsets", json::Array{json::Value(at), json::Value(at + bytes)});
    header.set(t.name, std::move(entry));
    at += bytes;
  }
  std::string text = json::dump(json::Value(std::move(header)), json::WriteStyle::compact());
  text.append((8 - text.size() % 8) % 8, ' ');  // the data begins on an 8-byte boundary
  return text;
}

Status write_bf16(base::AtomicFile& file, const NamedTensor& t) {
  std::vector<std::uint16_t> block(1 << 16);
  const std::int64_t n = t.shape.elements();
  for (std::int64_t at = 0; at < n; at += static_cast<std::int64_t>(block.size())) {
    const auto count = static_cast<std::size_t>(std::min<std::int64_t>(n - at, static_cast<std::int64_t>(block.size())));
    for (std::size_t i = 0; i < count; ++i) block[i] = tensor::f32_to_bf16(t.data[at + static_cast<std::int64_t>(i)]);
    QW_TRY(file.write(std::as_bytes(std::span(block.data(), count))));
  }
  return {};
}

struct Entry {
  tensor::DType type;
  tensor::Shape shape;
  std::int64_t begin;
};

Result<Entry> read_entry(const json::Value& value, std::int64_t data_bytes) {
  const json::Value *dtype = value.find("dtype"), *shape = value.find("shape"), *offsets = value.find("data_offsets");
  if (dtype == nullptr || !dtype->is_string() || shape == nullptr || !shape->is_array() || offsets == nullptr ||
      !offsets->is_array() || offsets->as_array().size() != 2)
    return fail(ErrorKind::kBadInput, "malformed entry");
  Entry e{};
  if (dtype->as_string() == "F32") e.type = tensor::DType::kF32;
  else if (dtype->as_string() == "BF16") e.type = tensor::DType::kBF16;
  else return fail(ErrorKind::kBadInput, "stored as " + dtype->as_string() + ", expected F32 or BF16");
  std::vector<std::int64_t> dims;
  for (const auto& d : shape->as_array()) {
    if (!d.is_int()) return fail(ErrorKind::kBadInput, "malformed shape");
    dims.push_back(d.as_int());
  }
  if (dims.size() > tensor::Shape::kMaxRank) return fail(ErrorKind::kBadInput, "too many dimensions");
  QW_ASSIGN(const std::int64_t elements, tensor::checked_elements(dims));
  e.shape = tensor::Shape(dims);
  const auto &from = offsets->as_array()[0], &to = offsets->as_array()[1];
  if (!from.is_int() || !to.is_int() || from.as_int() < 0 || to.as_int() < from.as_int() || to.as_int() > data_bytes)
    return fail(ErrorKind::kBadInput, "data lies outside the file");
  const std::int64_t width = e.type == tensor::DType::kF32 ? 4 : 2;
  if ((to.as_int() - from.as_int()) % width != 0 || (to.as_int() - from.as_int()) / width != elements ||
      from.as_int() % width != 0)
    return fail(ErrorKind::kBadInput, "data does not fit the shape");
  e.begin = from.as_int();
  return e;
}

}  // namespace

Status write_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                     const Metadata& metadata) {
  QW_ASSIGN(auto file, base::AtomicFile::create(path));
  const std::string header = header_of(tensors, metadata);
  const std::uint64_t size = header.size();
  QW_TRY(file.write(std::as_bytes(std::span(&size, 1))));
  QW_TRY(file.write(header));
  for (const auto& t : tensors) {
    if (t.stored_as == tensor::DType::kBF16) QW_TRY(write_bf16(file, t));
    else QW_TRY(file.write(std::as_bytes(std::span(t.data, static_cast<std::size_t>(t.shape.elements())))));
  }
  return file.commit();
}

Result<TensorFile> TensorFile::open(const std::filesystem::path& path) {
  TensorFile out;
  QW_ASSIGN(out.file_, base::MappedFile::open(path));
  const auto bytes = out.file_.bytes();
  const auto bad = [&](const std::string& why) { return fail(ErrorKind::kBadInput, path.string() + ": " + why); };
  std::uint64_t size = 0;
  if (bytes.size() < sizeof(size)) return bad("not a safetensors file (too short)");
  std::memcpy(&size, bytes.data(), sizeof(size));
  if (size > kMaxHeaderBytes || size > bytes.size() - sizeof(size)) return bad("safetensors header does not fit the file");
  auto header = json::parse({reinterpret_cast<const char*>(bytes.data()) + sizeof(size), static_cast<std::size_t>(size)});
  if (!header) return bad("safetensors header: " + header.error().message);
  if (!header->is_object()) return bad("safetensors header is not an object");
  const std::byte* data = bytes.data() + sizeof(size) + size;
  const auto data_bytes = static_cast<std::int64_t>(bytes.size() - sizeof(size) - size);
  for (const auto& [name, value] : header->as_object()) {
    if (name == "__metadata__") {
      if (!value.is_object()) return bad("metadata is not an object");
      for (const auto& [key, text] : value.as_object())
        if (text.is_string()) out.metadata_[key] = text.as_string();
      continue;
    }
    auto entry = read_entry(value, data_bytes);
    if (!entry) return bad(name + ": " + entry.error().message);
    out.tensors_[name] = {entry->type, entry->shape, data + entry->begin};
  }
  return out;
}

Status TensorFile::read(const std::string& name, const tensor::Shape& shape, float* out) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return fail(ErrorKind::kBadInput, file_.path().string() + ": no tensor " + name);
  const tensor::ConstView& view = found->second;
  if (view.shape != shape)
    return fail(ErrorKind::kBadInput, file_.path().string() + ": " + name + " has shape " + view.shape.to_string() +
                                          ", expected " + shape.to_string());
  const std::int64_t n = shape.elements();
  if (view.dtype == tensor::DType::kF32) {
    std::memcpy(out, view.data, static_cast<std::size_t>(n) * sizeof(float));
    return {};
  }
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint16_t half;
    std::memcpy(&half, view.data + 2 * i, sizeof(half));
    out[i] = tensor::bf16_to_f32(half);
  }
  return {};
}

}  // namespace qw::train
