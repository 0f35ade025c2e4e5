// Tables of the GGUF format: metadata types and tensor types.
#include <array>

#include "formats/internal/byte_reader.h"
#include "formats/internal/gguf_parse.h"

namespace qw::formats::internal {
namespace {

using tensor::DType;

struct TypeRow {
  const char* name;
  std::uint64_t bytes;
};
constexpr std::array<TypeRow, 13> kTypes = {{{"u8", 1},
                                             {"i8", 1},
                                             {"u16", 2},
                                             {"i16", 2},
                                             {"u32", 4},
                                             {"i32", 4},
                                             {"f32", 4},
                                             {"bool", 1},
                                             {"string", 0},
                                             {"array", 0},
                                             {"u64", 8},
                                             {"i64", 8},
                                             {"f64", 8}}};

struct GgmlRow {
  DType dtype;
  std::uint32_t id;
};
constexpr GgmlRow kGgml[] = {{DType::kF32, 0},  {DType::kF16, 1},  {DType::kQ4_0, 2}, {DType::kQ8_0, 8},
                             {DType::kI8, 24},  {DType::kI16, 25}, {DType::kI32, 26}, {DType::kI64, 27},
                             {DType::kF64, 28}, {DType::kBF16, 30},
                             {DType::kQ4_1, 3}, {DType::kQ5_0, 6}, {DType::kQ5_1, 7}, {DType::kQ2_K, 10},
                             {DType::kQ3_K, 11}, {DType::kQ4_K, 12}, {DType::kQ5_K, 13}, {DType::kQ6_K, 14},
                             {DType::kIQ4_NL, 20}, {DType::kIQ4_XS, 23}, {DType::kMXFP4, 39}};

template <class T>
json::Value number_at(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof(v));
  if constexpr (std::is_floating_point_v<T>) return json::Value(static_cast<double>(v));
  if constexpr (std::is_same_v<T, std::uint64_t>) return json::Value(v);
  return json::Value(static_cast<std::int64_t>(v));
}

json::Value scalar_at(GgufType type, const std::byte* p) {
  switch (type) {
    case GgufType::kU8:
      return number_at<std::uint8_t>(p);
    case GgufType::kI8:
      return number_at<std::int8_t>(p);
    case GgufType::kU16:
      return number_at<std::uint16_t>(p);
    case GgufType::kI16:
      return number_at<std::int16_t>(p);
    case GgufType::kU32:
      return number_at<std::uint32_t>(p);
    case GgufType::kI32:
      return number_at<std::int32_t>(p);
    case GgufType::kF32:
      return number_at<float>(p);
    case GgufType::kBool:
      return json::Value(*p != std::byte{0});
    case GgufType::kU64:
      return number_at<std::uint64_t>(p);
    case GgufType::kI64:
      return number_at<std::int64_t>(p);
    case GgufType::kF64:
      return number_at<double>(p);
    default:
      break;
  }
  QW_CHECK(!"scalar_at: strings and arrays have no fixed size");
  return {};
}

}  // namespace

std::uint64_t type_bytes(GgufType type) { return kTypes[static_cast<std::size_t>(type)].bytes; }
const char* type_name(GgufType type) { return kTypes[static_cast<std::size_t>(type)].name; }

std::optional<DType> dtype_from_ggml(std::uint32_t id) {
  for (const GgmlRow& row : kGgml) {
    if (row.id == id) return row.dtype;
  }
  return std::nullopt;
}

std::optional<std::uint32_t> ggml_from_dtype(DType dtype) {
  for (const GgmlRow& row : kGgml) {
    if (row.dtype == dtype) return row.id;
  }
  return std::nullopt;
}

json::Value entry_value(const GgufEntry& entry) {
  json::Array items;
  const std::byte* p = entry.bytes.data();
  for (std::uint64_t i = 0; i < entry.count; ++i) {
    if (entry.element == GgufType::kString) {
      std::uint64_t length;  // checked by parse_gguf
      std::memcpy(&length, p, sizeof(length));
      items.emplace_back(std::string(reinterpret_cast<const char*>(p) + sizeof(length), length));
      p += sizeof(length) + length;
    } else {
      items.push_back(scalar_at(entry.element, p));
      p += type_bytes(entry.element);
    }
  }
  if (entry.type == GgufType::kArray) return json::Value(std::move(items));
  return std::move(items.front());
}

}  // namespace qw::formats::internal
