// GGUF model files: reader (versions 2 and 3, little-endian, split files) and writer (version 3).
//
// The reader maps the file and checks everything in it before it hands anything out: counts and lengths against the
// file's size, products against overflow, tensors inside the file, aligned and without overlap, no duplicate keys or
// names, known type ids. Tensor data is viewed in place and read by the system when touched. See docs/formats/gguf.md.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/tensor_info.h"
#include "json/value.h"
#include "tensor/tensor.h"

namespace qw::formats {

// Types of metadata values, numbered as in the file.
enum class GgufType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

// One metadata value as it lies in the mapped file; lives as long as the GgufFile.
struct GgufEntry {
  std::string_view key;
  GgufType type = GgufType::kU32;
  GgufType element = GgufType::kU32;  // of an array; otherwise equal to type
  std::uint64_t count = 1;            // elements of an array; otherwise 1
  std::span<const std::byte> bytes;   // the values one after the other (strings with their lengths)
};

class GgufFile {
 public:
  // Arrays longer than this are left out of metadata(): a vocabulary is read by strings() without a value per token.
  static constexpr std::uint64_t kLongArray = 4096;

  // Opens one file, or all parts when `path` is the first of a split model (NAME-00001-of-000NN.gguf).
  static Result<GgufFile> open(const std::filesystem::path& path);

  std::uint32_t version() const { return version_; }
  const std::filesystem::path& path() const { return path_; }
  // Keys in file order. u64 above 2^63-1 and floats become double; f32 is widened exactly.
  const json::Object& metadata() const { return metadata_; }
  // Every entry of the first part in file order, arrays included.
  const std::vector<GgufEntry>& entries() const { return entries_; }
  const GgufEntry* entry(std::string_view key) const;

  // Array values. kBadInput if the key is missing or the array's type differs.
  Result<std::vector<std::string_view>> strings(std::string_view key) const;
  Result<std::vector<std::int64_t>> integers(std::string_view key) const;  // any integer type, bool
  Result<std::vector<double>> numbers(std::string_view key) const;         // any integer or float type

  // In file order, parts one after the other.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find(std::string_view name) const;  // nullptr if absent
  // Views the mapped file; valid as long as this object (moving it keeps the view). kBadInput if there is none.
  Result<tensor::ConstView> tensor(std::string_view name) const;

 private:
  Status add_part(const std::filesystem::path& path, int number, int count);
  std::size_t index_of(std::string_view name) const;

  std::filesystem::path path_;
  std::uint32_t version_ = 0;
  std::vector<base::MappedFile> files_;
  std::vector<GgufEntry> entries_;
  json::Object metadata_;
  std::vector<TensorInfo> tensors_;
  std::vector<const std::byte*> data_;  // of tensors_[i]
  std::vector<std::uint32_t> by_name_;  // indices of tensors_, sorted by name
  std::vector<std::uint32_t> entry_by_key_;
};

// Metadata to be written: ordered, typed, a key at most once.
class GgufMetadata {
 public:
  struct Item {
    std::string key;
    GgufType type = GgufType::kU32;
    GgufType element = GgufType::kU32;  // of an array
    json::Value value;
    std::string raw = {};         // in place of `value` for what copy_of() took over: the bytes of the file,
    std::uint64_t raw_count = 0;  // because JSON has no u64 and needs no part in copying a vocabulary
  };

  // Infers the type: bool; integer -> u32, or i32/i64/u64 when it does not fit; number -> f32; string; array -> string,
  // bool, i32 (i64 when it does not fit) or f32. Replaces a key in its place.
  void set(std::string key, json::Value value);
  // With a stated type; for an array, the element type.
  void set_typed(std::string key, GgufType type, json::Value value);
  void set_array(std::string key, GgufType element, json::Array values);
  void place(Item item);  // as it is; replaces a key in its place
  bool erase(std::string_view key);
  const Item* find(std::string_view key) const;
  const std::vector<Item>& items() const { return items_; }

  // Everything of a file, types kept, except general.alignment and split.*, which belong to the file itself.
  static GgufMetadata copy_of(const GgufFile& file);
  // Every member of an object, by set().
  static GgufMetadata from_object(const json::Object& object);

 private:
  std::vector<Item> items_;
};

// Writes one GGUF file in constant memory: the tensors are announced first, then their data comes in the same order in
// pieces of any size. Nothing is at `path` before commit(), and what was there before stays until then.
class GgufWriter {
 public:
  // kUsage: a value or shape the format cannot hold (null, object, mixed array, out of its type's range, a dtype
  // outside GGUF, duplicate names, rank 0, empty tensors).
  static Result<GgufWriter> create(const std::filesystem::path& path, const GgufMetadata& metadata,
                                   std::vector<TensorInfo> tensors);
  // The next whole tensor; QW_CHECKs that dtype and shape are the announced ones.
  Status write(const tensor::ConstView& view);
  // The next bytes of the current tensor; a piece must not cross into the next tensor.
  Status append(std::span<const std::byte> bytes);
  // kFailed if data is missing.
  Status commit();

 private:
  GgufWriter(base::AtomicFile file, std::vector<TensorInfo> tensors)
      : file_(std::move(file)), tensors_(std::move(tensors)) {}
  Status finish_tensor();

  base::AtomicFile file_;
  std::vector<TensorInfo> tensors_;
  std::size_t current_ = 0;
  std::int64_t written_ = 0;  // bytes of tensors_[current_]
};

}  // namespace qw::formats
