#include "formats/internal/gguf_parse.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/utf8.h"
#include "formats/internal/byte_reader.h"
#include "formats/internal/text.h"

namespace qw::formats::internal {
namespace {

// Bytes that the shortest possible key-value pair and tensor description take: bounds for the counts in the header.
constexpr std::uint64_t kLeastEntryBytes = 8 + 1 + 4 + 1, kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;
// Longest key and tensor name (with a terminating zero, 64 bytes) that the format's own library accepts.
constexpr std::uint64_t kMaxKeyBytes = 65535, kMaxNameBytes = 63;
// Data is viewed in place, so it must be aligned for 8-byte elements; more than 1 MiB between tensors is no alignment.
constexpr std::uint64_t kLeastAlignment = 8, kMaxAlignment = 1 << 20;

// Names by ggml type id, for telling which format a file needs. Empty: an id that is retired or unknown.
constexpr std::string_view kGgmlNames[] = {
    "F32",   "F16",    "Q4_0",  "Q4_1", "",     "",        "Q5_0",   "Q5_1",    "Q8_0",  "Q8_1",   "Q2_K",
    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
    "IQ2_S", "IQ4_XS", "I8",    "I16",  "I32",  "I64",     "F64",    "IQ1_M",   "BF16",  "",       "",
    "",      "TQ1_0",  "TQ2_0", "",     "",     "",        "MXFP4",  "NVFP4",   "Q1_0",  "Q2_0"};

struct Header {
  std::uint32_t version;
  std::uint64_t tensors, entries;
};

Result<Header> read_header(ByteReader& in) {
  QW_ASSIGN(const auto magic, in.take(4, "the magic number"));
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) return fail(ErrorKind::kBadInput, "byte 0: not a GGUF file");
  Header header{};
  QW_ASSIGN(header.version, in.read<std::uint32_t>("the version"));
  if (__builtin_bswap32(header.version) == 2 || __builtin_bswap32(header.version) == 3) {
    return fail(ErrorKind::kBadInput, "byte 4: big-endian GGUF is not supported");
  }
  if (header.version != 2 && header.version != 3) {
    return fail(ErrorKind::kBadInput, "byte 4: GGUF version " + std::to_string(header.version) + " is not supported");
  }
  QW_ASSIGN(header.tensors, in.read<std::uint64_t>("the tensor count"));
  QW_ASSIGN(header.entries, in.read<std::uint64_t>("the metadata count"));
  if (header.tensors > in.remaining() / kLeastTensorBytes) {
    return fail(ErrorKind::kBadInput, "byte 8: " + std::to_string(header.tensors) + " tensors do not fit the file");
  }
  if (header.entries > in.remaining() / kLeastEntryBytes) {
    return fail(ErrorKind::kBadInput,
                "byte 16: " + std::to_string(header.entries) + " metadata keys do not fit the file");
  }
  return header;
}

Result<GgufType> read_type(ByteReader& in, std::string_view key) {
  QW_ASSIGN(const std::uint32_t id, in.read<std::uint32_t>("a metadata type"));
  if (id > static_cast<std::uint32_t>(GgufType::kF64)) {
    return in.error("metadata " + quote(key) + ": unknown type id " + std::to_string(id));
  }
  return static_cast<GgufType>(id);
}

// Moves over `count` values of a type and checks them.
Status skip_values(ByteReader& in, GgufType type, std::uint64_t count, std::string_view key) {
  if (type != GgufType::kString) {
    const std::uint64_t size = type_bytes(type);
    if (count > in.remaining() / size) return in.error("metadata " + quote(key) + " is longer than the file");
    QW_ASSIGN(const auto values, in.take(count * size, "a metadata value"));
    if (type == GgufType::kBool &&
        std::any_of(values.begin(), values.end(), [](std::byte b) { return b > std::byte{1}; })) {
      return in.error("metadata " + quote(key) + ": a boolean is neither 0 nor 1");
    }
    return {};
  }
  if (count > in.remaining() / 8) return in.error("metadata " + quote(key) + " is longer than the file");
  for (std::uint64_t i = 0; i < count; ++i) {
    QW_ASSIGN(const std::string_view text, in.read_string("a string"));
    if (!base::is_valid_utf8(text)) return in.error("metadata " + quote(key) + ": a string is not UTF-8");
  }
  return {};
}

Result<GgufEntry> read_entry(ByteReader& in, std::span<const std::byte> bytes) {
  GgufEntry entry;
  QW_ASSIGN(entry.key, in.read_string("a metadata key"));
  const bool ascii = std::all_of(entry.key.begin(), entry.key.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (entry.key.empty() || entry.key.size() > kMaxKeyBytes || !ascii) {
    return in.error("metadata key " + quote(entry.key) + " is empty, too long or not ASCII");
  }
  QW_ASSIGN(entry.type, read_type(in, entry.key));
  entry.element = entry.type;
  if (entry.type == GgufType::kArray) {
    QW_ASSIGN(entry.element, read_type(in, entry.key));
    if (entry.element == GgufType::kArray)
      return in.error("metadata " + quote(entry.key) + ": nested arrays are not supported");
    QW_ASSIGN(entry.count, in.read<std::uint64_t>("an array length"));
  }
  const std::uint64_t begin = in.position();
  QW_TRY(skip_values(in, entry.element, entry.count, entry.key));
  entry.bytes = bytes.subspan(begin, in.position() - begin);
  return entry;
}

Result<TensorInfo> read_tensor(ByteReader& in) {
  TensorInfo info;
  QW_ASSIGN(const std::string_view name, in.read_string("a tensor name"));
  if (name.empty() || name.size() > kMaxNameBytes || !base::is_valid_utf8(name)) {
    return in.error("tensor name " + quote(name) + " is empty, longer than 63 bytes or not UTF-8");
  }
  info.name = name;
  const std::string where = "tensor " + quote(name) + ": ";
  QW_ASSIGN(const std::uint32_t rank, in.read<std::uint32_t>("a tensor's rank"));
  if (rank < 1 || rank > tensor::Shape::kMaxRank) return in.error(where + std::to_string(rank) + " dimensions");
  std::array<std::int64_t, tensor::Shape::kMaxRank> dims{};
  for (std::uint32_t i = 0; i < rank; ++i) {
    QW_ASSIGN(dims[rank - 1 - i], in.read<std::int64_t>("a tensor's dimensions"));  // stored innermost first
    if (dims[rank - 1 - i] <= 0) return in.error(where + "dimension " + std::to_string(dims[rank - 1 - i]));
  }
  const std::span<const std::int64_t> shape(dims.data(), rank);
  if (!tensor::checked_elements(shape)) return in.error(where + "size out of range");
  info.shape = tensor::Shape(shape);
  QW_ASSIGN(const std::uint32_t id, in.read<std::uint32_t>("a tensor's type"));
  const auto dtype = dtype_from_ggml(id);
  if (!dtype) {
    const bool named = id < std::size(kGgmlNames) && !kGgmlNames[id].empty();
    return in.error(where + (named ? std::string(kGgmlNames[id]) : "type id " + std::to_string(id)) +
                    " is not supported");
  }
  info.dtype = *dtype;
  if (info.shape.back() % tensor::info(*dtype).block_elements != 0) {
    return in.error(where + "rows of " + std::to_string(info.shape.back()) + " elements are no whole blocks of " +
                    std::string(tensor::name(*dtype)));
  }
  return info;
}

// The first name that occurs twice, or nullopt.
template <class Items, class Name>
std::optional<std::string_view> first_duplicate(const Items& items, Name name) {
  std::vector<std::string_view> names(items.size());
  std::transform(items.begin(), items.end(), names.begin(), name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice == names.end()) return std::nullopt;
  return *twice;
}

Result<std::uint64_t> find_alignment(const std::vector<GgufEntry>& entries) {
  for (const GgufEntry& e : entries) {
    if (e.key != "general.alignment") continue;
    if (e.type != GgufType::kU32) return fail(ErrorKind::kBadInput, "general.alignment is not a u32");
    std::uint32_t alignment;
    std::memcpy(&alignment, e.bytes.data(), sizeof(alignment));
    if (!std::has_single_bit(alignment) || alignment < kLeastAlignment || alignment > kMaxAlignment) {
      return fail(ErrorKind::kBadInput,
                  "general.alignment is " + std::to_string(alignment) + ", not a power of two from 8 to 1048576");
    }
    return alignment;
  }
  return kGgufDefaultAlignment;
}

// Turns offsets from the start of the data into offsets in the file; data inside the file, aligned, no overlaps.
Status place_tensors(GgufPart& part, std::uint64_t data_start, std::uint64_t file_bytes, std::uint64_t alignment) {
  std::vector<std::size_t> order(part.tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (const std::size_t i : order) {
    const std::string where = "tensor " + quote(part.tensors[i].name) + ": ";
    const std::uint64_t offset = part.offsets[i];
    if (offset % alignment != 0) {
      return fail(ErrorKind::kBadInput,
                  where + "offset " + std::to_string(offset) + " is not aligned to " + std::to_string(alignment));
    }
    const auto size = static_cast<std::uint64_t>(part.tensors[i].bytes());
    if (data_start > file_bytes || offset > file_bytes - data_start || size > file_bytes - data_start - offset) {
      return fail(ErrorKind::kBadInput,
                  where + "data at offset " + std::to_string(offset) + " runs past the end of the file");
    }
    part.offsets[i] = data_start + offset;
  }
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return part.offsets[a] < part.offsets[b]; });
  for (std::size_t k = 1; k < order.size(); ++k) {
    const std::size_t before = order[k - 1], after = order[k];
    if (part.offsets[before] + static_cast<std::uint64_t>(part.tensors[before].bytes()) > part.offsets[after]) {
      return fail(ErrorKind::kBadInput, "tensors " + quote(part.tensors[before].name) + " and " +
                                            quote(part.tensors[after].name) + " overlap");
    }
  }
  return {};
}

}  // namespace

Result<GgufPart> parse_gguf(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  GgufPart part;
  QW_ASSIGN(const Header header, read_header(in));
  part.version = header.version;
  for (std::uint64_t i = 0; i < header.entries; ++i) {
    QW_ASSIGN(auto entry, read_entry(in, bytes));
    part.entries.push_back(entry);
  }
  if (const auto twice = first_duplicate(part.entries, [](const GgufEntry& e) { return e.key; })) {
    return fail(ErrorKind::kBadInput, "metadata " + quote(*twice) + " occurs twice");
  }
  QW_ASSIGN(const std::uint64_t alignment, find_alignment(part.entries));
  for (std::uint64_t i = 0; i < header.tensors; ++i) {
    QW_ASSIGN(auto info, read_tensor(in));
    QW_ASSIGN(const std::uint64_t offset, in.read<std::uint64_t>("a tensor's offset"));
    part.tensors.push_back(std::move(info));
    part.offsets.push_back(offset);
  }
  if (const auto twice =
          first_duplicate(part.tensors, [](const TensorInfo& t) -> std::string_view { return t.name; })) {
    return fail(ErrorKind::kBadInput, "tensor " + quote(*twice) + " occurs twice");
  }
  const std::uint64_t data_start = (in.position() + alignment - 1) / alignment * alignment;
  QW_TRY(place_tensors(part, data_start, bytes.size(), alignment));
  return part;
}

}  // namespace qw::formats::internal
