#include "formats/internal/safetensors_parse.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "formats/internal/byte_reader.h"
#include "formats/internal/text.h"

namespace qw::formats::internal {
namespace {

using tensor::DType;

// The format's own limit on the header.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
// header -> tensor -> shape; nothing nests deeper.
constexpr int kHeaderDepth = 4;
// More dimensions than any framework writes; bounds the loop over foreign bytes.
constexpr std::size_t kMaxFileRank = 64;

struct DTypeRow {
  std::string_view name;
  int bits;
  std::optional<DType> dtype;  // nullopt: known to the format, not to us
};
constexpr DTypeRow kDTypes[] = {
    {"F64", 64, DType::kF64}, {"F32", 32, DType::kF32},  {"F16", 16, DType::kF16}, {"BF16", 16, DType::kBF16},
    {"I64", 64, DType::kI64}, {"I32", 32, DType::kI32},  {"I16", 16, DType::kI16}, {"I8", 8, DType::kI8},
    {"U8", 8, DType::kU8},    {"BOOL", 8, DType::kBool}, {"U64", 64, {}},          {"U32", 32, {}},
    {"U16", 16, {}},          {"F8_E4M3", 8, DType::kF8_E4M3},        {"F8_E5M2", 8, {}},       {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},   {"F8_E5M2FNUZ", 8, {}},    {"C64", 64, {}},          {"F4", 4, {}},
    {"F6_E2M3", 6, {}},       {"F6_E3M2", 6, {}}};

tl::unexpected<Error> wrong(std::string_view name, const std::string& why) {
  return fail(ErrorKind::kBadInput, "tensor " + quote(name) + ": " + why);
}

Result<std::uint64_t> read_count(std::string_view name, const json::Value& value, const char* what) {
  if (!value.is_int() || value.as_int() < 0) return wrong(name, std::string(what) + " is no non-negative integer");
  return static_cast<std::uint64_t>(value.as_int());
}

// Checks the shape against the byte size and sets info.shape, or entry.unsupported if we cannot hold it.
Status read_shape(SafetensorsPart::Entry& entry, const json::Value* shape, const DTypeRow& row) {
  const std::string& name = entry.info.name;
  if (shape == nullptr || !shape->is_array()) return wrong(name, "no shape");
  if (shape->as_array().size() > kMaxFileRank) return wrong(name, "too many dimensions");
  std::vector<std::int64_t> dims;
  for (const json::Value& v : shape->as_array()) {
    QW_ASSIGN(const std::uint64_t n, read_count(name, v, "a dimension"));
    dims.push_back(static_cast<std::int64_t>(n));
  }
  const auto elements = tensor::checked_elements(dims);
  if (!elements) return wrong(name, elements.error().message);
  const std::uint64_t bits = static_cast<std::uint64_t>(*elements) * static_cast<std::uint64_t>(row.bits);
  if (bits % 8 != 0 || bits / 8 != entry.end - entry.begin) {
    return wrong(name, "shape and dtype " + std::string(row.name) + " make " + std::to_string(bits / 8) +
                           " bytes, data_offsets " + std::to_string(entry.end - entry.begin));
  }
  if (!row.dtype) {
    entry.unsupported = "dtype " + std::string(row.name) + " is not supported";
  } else if (dims.size() > tensor::Shape::kMaxRank) {
    entry.unsupported = std::to_string(dims.size()) + " dimensions are not supported";
  } else {
    entry.info.dtype = *row.dtype;
    entry.info.shape = tensor::Shape(dims);
  }
  return {};
}

Result<SafetensorsPart::Entry> read_entry(const json::Member& member) {
  SafetensorsPart::Entry entry;
  entry.info.name = member.first;
  const std::string& name = member.first;
  if (!member.second.is_object()) return wrong(name, "its description is no object");
  const json::Value* dtype = member.second.find("dtype");
  if (dtype == nullptr || !dtype->is_string()) return wrong(name, "no dtype");
  const auto row = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                [&](const DTypeRow& r) { return r.name == dtype->as_string(); });
  if (row == std::end(kDTypes)) return wrong(name, "unknown dtype " + quote(dtype->as_string()));
  const json::Value* offsets = member.second.find("data_offsets");
  if (offsets == nullptr || !offsets->is_array() || offsets->as_array().size() != 2)
    return wrong(name, "no data_offsets");
  QW_ASSIGN(entry.begin, read_count(name, offsets->as_array()[0], "data_offsets"));
  QW_ASSIGN(entry.end, read_count(name, offsets->as_array()[1], "data_offsets"));
  if (entry.end < entry.begin) return wrong(name, "data_offsets end before they begin");
  QW_TRY(read_shape(entry, member.second.find("shape"), *row));
  return entry;
}

Status read_metadata(SafetensorsPart& part, const json::Value& value) {
  const bool strings = value.is_object() && std::all_of(value.as_object().begin(), value.as_object().end(),
                                                        [](const json::Member& m) { return m.second.is_string(); });
  if (!strings) return fail(ErrorKind::kBadInput, "__metadata__ is not an object of strings");
  part.metadata = value.as_object();
  return {};
}

// Sorts by offset and checks that the entries tile [0, data_bytes).
Status check_tiling(std::vector<SafetensorsPart::Entry>& entries, std::uint64_t data_bytes) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::uint64_t at = 0;
  for (const auto& e : entries) {
    if (e.begin < at) return wrong(e.info.name, "its data overlaps the tensor before it");
    if (e.begin > at) return wrong(e.info.name, "there is a gap before its data");
    if (e.end > data_bytes) return wrong(e.info.name, "its data runs past the end of the file");
    at = e.end;
  }
  if (at != data_bytes) {
    return fail(ErrorKind::kBadInput, std::to_string(data_bytes - at) + " bytes at the end belong to no tensor");
  }
  return {};
}

}  // namespace

Result<SafetensorsPart> parse_safetensors(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  QW_ASSIGN(const std::uint64_t length, in.read<std::uint64_t>("the header length"));
  if (length > kMaxHeaderBytes)
    return fail(ErrorKind::kBadInput, "byte 0: header of " + std::to_string(length) + " bytes");
  QW_ASSIGN(const auto header, in.take(length, "the header"));
  const std::string_view text(reinterpret_cast<const char*>(header.data()), header.size());
  if (!text.starts_with('{')) return fail(ErrorKind::kBadInput, "byte 8: the header is no JSON object");
  QW_ASSIGN(const json::Value root, json::parse(text, {.max_bytes = kMaxHeaderBytes, .max_depth = kHeaderDepth}));
  SafetensorsPart part;
  for (const json::Member& member : root.as_object()) {
    if (member.first == "__metadata__") {
      QW_TRY(read_metadata(part, member.second));
      continue;
    }
    QW_ASSIGN(auto entry, read_entry(member));
    part.entries.push_back(std::move(entry));
  }
  QW_TRY(check_tiling(part.entries, in.remaining()));
  for (auto& e : part.entries) {
    e.begin += in.position();
    e.end += in.position();
  }
  return part;
}

std::string_view safetensors_from_dtype(DType dtype) {
  for (const DTypeRow& row : kDTypes) {
    if (row.dtype == dtype) return row.name;
  }
  return {};
}

}  // namespace qw::formats::internal
