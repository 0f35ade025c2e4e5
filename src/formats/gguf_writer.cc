#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/gguf.h"
#include "formats/internal/gguf_parse.h"
#include "formats/internal/text.h"

namespace qw::formats {
namespace {

using internal::quote;

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
void put_string(std::string& out, std::string_view text) {
  put(out, static_cast<std::uint64_t>(text.size()));
  out.append(text);
}

bool fits(std::int64_t i, std::int64_t low, std::int64_t high) { return i >= low && i <= high; }

template <class T>
bool put_integer(std::string& out, const json::Value& value) {
  if (!value.is_int()) return false;
  const std::int64_t i = value.as_int();
  if constexpr (sizeof(T) < 8) {
    if (!fits(i, std::numeric_limits<T>::min(), std::numeric_limits<T>::max())) return false;
  } else if constexpr (std::is_unsigned_v<T>) {
    if (i < 0) return false;
  }
  put(out, static_cast<T>(i));
  return true;
}

bool put_u64(std::string& out, const json::Value& value) {
  if (value.is_int()) return put_integer<std::uint64_t>(out, value);
  // Above 2^63-1 an integer is held as a double; 2^64 itself does not fit.
  const double d = value.is_double() ? value.as_double() : -1;
  if (!(d >= 0x1.0p63 && d < 0x1.0p64)) return false;
  put(out, static_cast<std::uint64_t>(d));
  return true;
}

bool put_float(std::string& out, const json::Value& value) {
  if (!value.is_number()) return false;
  const double d = value.as_double();
  if (std::isfinite(d) && std::abs(d) > std::numeric_limits<float>::max()) return false;
  put(out, static_cast<float>(d));
  return true;
}

// False if the value does not have, or does not fit, the type.
bool put_scalar(std::string& out, GgufType type, const json::Value& value) {
  switch (type) {
    case GgufType::kU8:
      return put_integer<std::uint8_t>(out, value);
    case GgufType::kI8:
      return put_integer<std::int8_t>(out, value);
    case GgufType::kU16:
      return put_integer<std::uint16_t>(out, value);
    case GgufType::kI16:
      return put_integer<std::int16_t>(out, value);
    case GgufType::kU32:
      return put_integer<std::uint32_t>(out, value);
    case GgufType::kI32:
      return put_integer<std::int32_t>(out, value);
    case GgufType::kU64:
      return put_u64(out, value);
    case GgufType::kI64:
      return put_integer<std::int64_t>(out, value);
    case GgufType::kF32:
      return put_float(out, value);
    case GgufType::kF64:
      if (!value.is_number()) return false;
      put(out, value.as_double());
      return true;
    case GgufType::kBool:
      if (!value.is_bool()) return false;
      put(out, static_cast<std::uint8_t>(value.as_bool()));
      return true;
    case GgufType::kString:
      if (!value.is_string()) return false;
      put_string(out, value.as_string());
      return true;
    case GgufType::kArray:
      return false;
  }
  return false;
}

Status put_item(std::string& out, const GgufMetadata::Item& item) {
  const auto refuse = [&](const json::Value& value) {
    const GgufType wanted = item.type == GgufType::kArray ? item.element : item.type;
    return fail(ErrorKind::kUsage, "metadata " + quote(item.key) + ": a value of kind " + value.type_name() +
                                       " cannot be written as " + internal::type_name(wanted));
  };
  put_string(out, item.key);
  put(out, static_cast<std::uint32_t>(item.type));
  if (item.raw_count > 0 || !item.raw.empty()) {
    if (item.type == GgufType::kArray) {
      put(out, static_cast<std::uint32_t>(item.element));
      put(out, item.raw_count);
    }
    out += item.raw;
    return {};
  }
  if (item.type != GgufType::kArray) {
    if (!put_scalar(out, item.type, item.value)) return refuse(item.value);
    return {};
  }
  if (!item.value.is_array()) return refuse(item.value);
  put(out, static_cast<std::uint32_t>(item.element));
  put(out, static_cast<std::uint64_t>(item.value.as_array().size()));
  for (const json::Value& v : item.value.as_array()) {
    if (!put_scalar(out, item.element, v)) return refuse(v);
  }
  return {};
}

GgufType infer_scalar(const json::Value& value) {
  if (value.is_bool()) return GgufType::kBool;
  if (value.is_string()) return GgufType::kString;
  if (!value.is_int()) return GgufType::kF32;
  const std::int64_t i = value.as_int();
  if (fits(i, 0, std::numeric_limits<std::uint32_t>::max())) return GgufType::kU32;
  return fits(i, std::numeric_limits<std::int32_t>::min(), -1) ? GgufType::kI32 : GgufType::kI64;
}

GgufType infer_element(const json::Array& values) {
  GgufType type = GgufType::kI32;
  for (const json::Value& v : values) {
    if (v.is_bool()) return GgufType::kBool;
    if (v.is_string()) return GgufType::kString;
    if (!v.is_int()) return GgufType::kF32;
    if (!fits(v.as_int(), std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()))
      type = GgufType::kI64;
  }
  return type;
}

Status check_tensors(const std::vector<TensorInfo>& tensors) {
  std::vector<std::string_view> names;
  for (const TensorInfo& t : tensors) {
    const std::string where = "tensor " + quote(t.name) + ": ";
    if (t.name.empty() || t.name.size() > 63) return fail(ErrorKind::kUsage, where + "GGUF names have 1 to 63 bytes");
    if (!internal::ggml_from_dtype(t.dtype)) {
      return fail(ErrorKind::kUsage, where + "GGUF has no type " + std::string(tensor::name(t.dtype)));
    }
    if (t.shape.rank() < 1 || t.shape.elements() < 1)
      return fail(ErrorKind::kUsage, where + "shape " + t.shape.to_string());
    if (t.shape.back() % tensor::info(t.dtype).block_elements != 0) {
      return fail(ErrorKind::kUsage, where + "rows of " + std::to_string(t.shape.back()) +
                                         " elements are no whole blocks of " + std::string(tensor::name(t.dtype)));
    }
    names.push_back(t.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return fail(ErrorKind::kUsage, "tensor " + quote(*twice) + " is announced twice");
  return {};
}

std::uint64_t padded(std::uint64_t n, std::uint64_t alignment) { return (n + alignment - 1) / alignment * alignment; }

Result<std::uint64_t> alignment_of(const GgufMetadata& metadata) {
  const auto* item = metadata.find("general.alignment");
  if (item == nullptr) return internal::kGgufDefaultAlignment;
  if (!item->value.is_int() || item->value.as_int() != static_cast<std::int64_t>(internal::kGgufDefaultAlignment)) {
    return fail(ErrorKind::kUsage, "general.alignment: files are written with an alignment of 32");
  }
  return internal::kGgufDefaultAlignment;
}

}  // namespace

void GgufMetadata::set(std::string key, json::Value value) {
  if (value.is_array()) {
    const GgufType element = infer_element(value.as_array());
    return set_array(std::move(key), element, std::move(value.as_array()));
  }
  const GgufType type = infer_scalar(value);
  set_typed(std::move(key), type, std::move(value));
}

void GgufMetadata::set_typed(std::string key, GgufType type, json::Value value) {
  QW_CHECK(type != GgufType::kArray);
  place(Item{std::move(key), type, type, std::move(value)});
}

void GgufMetadata::set_array(std::string key, GgufType element, json::Array values) {
  QW_CHECK(element != GgufType::kArray);
  place(Item{std::move(key), GgufType::kArray, element, json::Value(std::move(values))});
}

void GgufMetadata::place(Item item) {
  for (Item& old : items_) {
    if (old.key != item.key) continue;
    old = std::move(item);
    return;
  }
  items_.push_back(std::move(item));
}

bool GgufMetadata::erase(std::string_view key) {
  return std::erase_if(items_, [&](const Item& item) { return item.key == key; }) > 0;
}

const GgufMetadata::Item* GgufMetadata::find(std::string_view key) const {
  for (const Item& item : items_) {
    if (item.key == key) return &item;
  }
  return nullptr;
}

GgufMetadata GgufMetadata::copy_of(const GgufFile& file) {
  GgufMetadata metadata;
  for (const GgufEntry& e : file.entries()) {
    if (e.key == "general.alignment" || e.key.starts_with("split.")) continue;
    metadata.items_.push_back({std::string(e.key), e.type, e.element, json::Array{},
                               std::string(reinterpret_cast<const char*>(e.bytes.data()), e.bytes.size()), e.count});
  }
  return metadata;
}

GgufMetadata GgufMetadata::from_object(const json::Object& object) {
  GgufMetadata metadata;
  for (const auto& [key, value] : object) metadata.set(key, value);
  return metadata;
}

Result<GgufWriter> GgufWriter::create(const std::filesystem::path& path, const GgufMetadata& metadata,
                                      std::vector<TensorInfo> tensors) {
  if (auto ok = check_tensors(tensors); !ok) return in_context(path.string(), std::move(ok).error());
  QW_ASSIGN(const std::uint64_t alignment, alignment_of(metadata));
  std::string header = "GGUF";
  put(header, std::uint32_t{3});
  put(header, static_cast<std::uint64_t>(tensors.size()));
  put(header, static_cast<std::uint64_t>(metadata.items().size()));
  for (const auto& item : metadata.items()) {
    if (auto ok = put_item(header, item); !ok) return in_context(path.string(), std::move(ok).error());
  }
  std::uint64_t offset = 0;
  for (const TensorInfo& t : tensors) {
    put_string(header, t.name);
    put(header, static_cast<std::uint32_t>(t.shape.rank()));
    for (int i = t.shape.rank() - 1; i >= 0; --i) put(header, t.shape[i]);  // innermost first
    put(header, *internal::ggml_from_dtype(t.dtype));
    put(header, offset);
    offset += padded(static_cast<std::uint64_t>(t.bytes()), alignment);
  }
  header.resize(padded(header.size(), alignment), '\0');
  QW_ASSIGN(auto file, base::AtomicFile::create(path));
  QW_TRY(file.write(header));
  return GgufWriter(std::move(file), std::move(tensors));
}

Status GgufWriter::write(const tensor::ConstView& view) {
  QW_CHECK(current_ < tensors_.size() && written_ == 0);
  QW_CHECK(view.dtype == tensors_[current_].dtype && view.shape == tensors_[current_].shape);
  return append({view.data, static_cast<std::size_t>(view.bytes())});
}

Status GgufWriter::append(std::span<const std::byte> bytes) {
  QW_CHECK(current_ < tensors_.size());
  const auto n = static_cast<std::int64_t>(bytes.size());
  QW_CHECK(written_ + n <= tensors_[current_].bytes());
  QW_TRY(file_.write(bytes));
  written_ += n;
  return written_ == tensors_[current_].bytes() ? finish_tensor() : Status{};
}

Status GgufWriter::finish_tensor() {
  static constexpr std::byte kZeros[internal::kGgufDefaultAlignment] = {};
  const std::uint64_t size = file_.size();
  QW_TRY(file_.write(std::span(kZeros, padded(size, internal::kGgufDefaultAlignment) - size)));
  ++current_;
  written_ = 0;
  return {};
}

Status GgufWriter::commit() {
  if (current_ != tensors_.size()) {
    return fail(ErrorKind::kFailed, "GGUF file not finished: no data for tensor " + quote(tensors_[current_].name));
  }
  return file_.commit();
}

}  // namespace qw::formats
