#include <algorithm>
#include <cstdio>

#include "base/utf8.h"
#include "formats/internal/safetensors_parse.h"
#include "formats/internal/text.h"
#include "formats/safetensors.h"

namespace qw::formats {
namespace {

using internal::quote;

Status check_tensors(const std::vector<TensorInfo>& tensors) {
  std::vector<std::string_view> names;
  for (const TensorInfo& t : tensors) {
    if (internal::safetensors_from_dtype(t.dtype).empty()) {
      return fail(ErrorKind::kUsage,
                  "tensor " + quote(t.name) + ": safetensors has no dtype for " + std::string(tensor::name(t.dtype)));
    }
    if (t.name == "__metadata__" || !base::is_valid_utf8(t.name)) {
      return fail(ErrorKind::kUsage, "tensor " + quote(t.name) + ": not a name safetensors can hold");
    }
    names.push_back(t.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return fail(ErrorKind::kUsage, "tensor " + quote(*twice) + " is announced twice");
  return {};
}

Result<std::string> make_header(const std::vector<TensorInfo>& tensors, const json::Object& metadata) {
  json::Object root;
  for (const auto& [key, value] : metadata) {
    if (!value.is_string()) return fail(ErrorKind::kUsage, "__metadata__ " + quote(key) + " is not a string");
  }
  if (!metadata.empty()) root.set("__metadata__", metadata);
  std::int64_t at = 0;
  for (const TensorInfo& t : tensors) {
    json::Array shape;
    for (int i = 0; i < t.shape.rank(); ++i) shape.emplace_back(t.shape[i]);
    root.set(t.name, json::Object{{"dtype", std::string(internal::safetensors_from_dtype(t.dtype))},
                                  {"shape", std::move(shape)},
                                  {"data_offsets", json::Array{at, at + t.bytes()}}});
    at += t.bytes();
  }
  std::string text = json::dump(root, json::WriteStyle::compact());
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins aligned for every element type
  return text;
}

std::string shard_name(std::size_t number, std::size_t count) {
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", number, count);
  return name;
}

// Cuts the list where the next tensor would pass the limit.
std::vector<std::vector<TensorInfo>> cut_shards(std::vector<TensorInfo> tensors, std::uint64_t max_bytes) {
  std::vector<std::vector<TensorInfo>> shards(1);
  std::uint64_t bytes = 0;
  for (TensorInfo& t : tensors) {
    const auto size = static_cast<std::uint64_t>(t.bytes());
    if (max_bytes > 0 && !shards.back().empty() && bytes + size > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += size;
    shards.back().push_back(std::move(t));
  }
  return shards;
}

}  // namespace

Result<SafetensorsWriter> SafetensorsWriter::create(const std::filesystem::path& path, std::vector<TensorInfo> tensors,
                                                    const json::Object& metadata) {
  if (auto ok = check_tensors(tensors); !ok) return in_context(path.string(), std::move(ok).error());
  auto header = make_header(tensors, metadata);
  if (!header) return in_context(path.string(), std::move(header).error());
  QW_ASSIGN(auto file, base::AtomicFile::create(path));
  const std::uint64_t length = header->size();
  QW_TRY(file.write(std::as_bytes(std::span(&length, 1))));
  QW_TRY(file.write(*header));
  SafetensorsWriter writer(std::move(file), std::move(tensors));
  writer.skip_finished();
  return writer;
}

void SafetensorsWriter::skip_finished() {
  while (current_ < tensors_.size() && written_ == tensors_[current_].bytes()) {
    ++current_;
    written_ = 0;
  }
}

Status SafetensorsWriter::write(const tensor::ConstView& view) {
  if (view.bytes() == 0) return {};  // passed over already
  QW_CHECK(!complete() && written_ == 0);
  QW_CHECK(view.dtype == tensors_[current_].dtype && view.shape == tensors_[current_].shape);
  return append({view.data, static_cast<std::size_t>(view.bytes())});
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  QW_CHECK(!complete());
  const auto n = static_cast<std::int64_t>(bytes.size());
  QW_CHECK(written_ + n <= tensors_[current_].bytes());
  QW_TRY(file_.write(bytes));
  written_ += n;
  skip_finished();
  return {};
}

Status SafetensorsWriter::commit() {
  if (!complete()) {
    return fail(ErrorKind::kFailed,
                "safetensors file not finished: no data for tensor " + quote(tensors_[current_].name));
  }
  return file_.commit();
}

Result<SafetensorsFolderWriter> SafetensorsFolderWriter::create(const std::filesystem::path& folder,
                                                                std::vector<TensorInfo> tensors,
                                                                std::uint64_t max_shard_bytes,
                                                                const json::Object& metadata) {
  SafetensorsFolderWriter writer;
  writer.folder_ = folder;
  if (auto ok = check_tensors(tensors); !ok) return in_context(folder.string(), std::move(ok).error());
  auto shards = cut_shards(std::move(tensors), max_shard_bytes);
  json::Object map;
  std::int64_t total_bytes = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shards.size() == 1 ? "model.safetensors" : shard_name(i + 1, shards.size());
    for (const TensorInfo& t : shards[i]) {
      map.set(t.name, name);
      total_bytes += t.bytes();
    }
    QW_ASSIGN(auto shard, SafetensorsWriter::create(folder / name, std::move(shards[i]), metadata));
    writer.shards_.push_back(std::move(shard));
  }
  if (writer.shards_.size() > 1) {
    writer.index_ =
        json::dump(json::Object{{"metadata", json::Object{{"total_size", total_bytes}}}, {"weight_map", map}},
                   {.indent = 2}) +
        "\n";
  }
  return writer;
}

// The shard that takes the next bytes.
SafetensorsWriter& SafetensorsFolderWriter::shard() {
  while (current_ + 1 < shards_.size() && shards_[current_].complete()) ++current_;
  return shards_[current_];
}

Status SafetensorsFolderWriter::write(const tensor::ConstView& view) { return shard().write(view); }
Status SafetensorsFolderWriter::append(std::span<const std::byte> bytes) { return shard().append(bytes); }

Status SafetensorsFolderWriter::commit() {
  for (const SafetensorsWriter& s : shards_) {
    if (!s.complete()) return fail(ErrorKind::kFailed, folder_.string() + ": tensors without data");
  }
  for (SafetensorsWriter& s : shards_) QW_TRY(s.commit());
  // A reader that finds both prefers the single file, so a stale one must not outlive the index.
  std::error_code ignored;
  const auto index = folder_ / "model.safetensors.index.json";
  if (index_.empty()) {
    std::filesystem::remove(index, ignored);
    return {};
  }
  QW_TRY(base::write_file_atomically(index, index_));
  std::filesystem::remove(folder_ / "model.safetensors", ignored);
  return {};
}

}  // namespace qw::formats
