// Safetensors: reader (one file, or shards named by an index) and writers (one file, or a sharded folder).
//
// The reader maps the files and checks them whole before it hands anything out: header length, JSON, shapes against
// sizes, and that the tensors tile the data without gaps or overlaps. Tensors are viewed in place; one whose data is
// not aligned for its element type is copied once when asked for. See docs/formats/safetensors.md.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
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

class Safetensors {
 public:
  // `path` is a .safetensors file, or an index (*.index.json) whose shards lie in the same folder.
  static Result<Safetensors> open(const std::filesystem::path& path);
  Safetensors(Safetensors&&) noexcept;
  Safetensors& operator=(Safetensors&&) noexcept;
  ~Safetensors();

  const std::filesystem::path& path() const { return path_; }
  // __metadata__ of the (first) file: strings only.
  const json::Object& metadata() const { return metadata_; }
  // In the order of the data, shards one after the other. Tensors that we cannot hold (formats such as F8_E5M2, more
  // than four dimensions) are not listed; asking for one by name says why.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // Name and reason of a tensor that is not listed, for those who must have all.
  std::optional<std::string> first_unsupported() const {
    if (unsupported_.empty()) return std::nullopt;
    return unsupported_.begin()->first + ": " + unsupported_.begin()->second;
  }
  const TensorInfo* find(std::string_view name) const;  // nullptr if absent
  // Valid as long as this object (moving it keeps the view). kBadInput if there is none. Any thread.
  Result<tensor::ConstView> tensor(std::string_view name) const;

 private:
  struct Copies;  // of misaligned tensors
  Safetensors();
  struct Index;
  Status add_file(const std::filesystem::path& path, Index* index);
  Status open_index();
  void index_names();

  std::filesystem::path path_;
  std::vector<base::MappedFile> files_;
  json::Object metadata_;
  std::vector<TensorInfo> tensors_;
  std::vector<const std::byte*> data_;                           // of tensors_[i]
  std::vector<std::uint32_t> by_name_;                           // indices of tensors_, sorted by name
  std::map<std::string, std::string, std::less<>> unsupported_;  // name -> reason
  std::unique_ptr<Copies> copies_;
};

// Writes one file in constant memory: tensors are announced first, then their data comes in the same order in pieces of
// any size. Nothing is at `path` before commit(), and what was there before stays until then: a training checkpoint is
// either the old one or the new one.
class SafetensorsWriter {
 public:
  // `metadata` becomes __metadata__ (strings only). kUsage: a dtype the format has no name for, a name used twice.
  static Result<SafetensorsWriter> create(const std::filesystem::path& path, std::vector<TensorInfo> tensors,
                                          const json::Object& metadata = {{"format", "pt"}});
  // The next whole tensor; QW_CHECKs that dtype and shape are the announced ones.
  Status write(const tensor::ConstView& view);
  // The next bytes of the current tensor; a piece must not cross into the next tensor.
  Status append(std::span<const std::byte> bytes);
  // Bytes of a tensor of size zero need no append. kFailed if data is missing.
  Status commit();

 private:
  friend class SafetensorsFolderWriter;
  SafetensorsWriter(base::AtomicFile file, std::vector<TensorInfo> tensors)
      : file_(std::move(file)), tensors_(std::move(tensors)) {}
  void skip_finished();
  bool complete() const { return current_ == tensors_.size(); }

  base::AtomicFile file_;
  std::vector<TensorInfo> tensors_;
  std::size_t current_ = 0;
  std::int64_t written_ = 0;  // bytes of tensors_[current_]
};

// The same for a model folder: model.safetensors when everything fits into max_shard_bytes, otherwise
// model-00001-of-000NN.safetensors and model.safetensors.index.json. Files appear at commit(), the index last; each
// file is atomic, the set of shards is not.
class SafetensorsFolderWriter {
 public:
  // max_shard_bytes counts tensor data; a tensor is never cut. 0: never shard.
  static Result<SafetensorsFolderWriter> create(const std::filesystem::path& folder, std::vector<TensorInfo> tensors,
                                                std::uint64_t max_shard_bytes,
                                                const json::Object& metadata = {{"format", "pt"}});
  Status write(const tensor::ConstView& view);
  Status append(std::span<const std::byte> bytes);
  Status commit();

 private:
  SafetensorsWriter& shard();

  std::filesystem::path folder_;
  std::vector<SafetensorsWriter> shards_;
  std::size_t current_ = 0;
  std::string index_;  // text of the index, empty for a single file
};

}  // namespace qw::formats
