#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>

#include "formats/internal/safetensors_parse.h"
#include "formats/internal/text.h"

namespace qw::formats {

using internal::quote;

struct Safetensors::Copies {
  std::mutex mutex;
  std::map<std::size_t, tensor::Buffer> buffers;  // by index in tensors_
};

// Of a sharded folder, while it is read.
struct Safetensors::Index {
  const json::Object& weight_map;
  std::set<std::string> seen = {};  // names that stood in a shard, whether the map sends them there or not
};

Safetensors::Safetensors() : copies_(std::make_unique<Copies>()) {}
Safetensors::Safetensors(Safetensors&&) noexcept = default;
Safetensors& Safetensors::operator=(Safetensors&&) noexcept = default;
Safetensors::~Safetensors() = default;

Result<Safetensors> Safetensors::open(const std::filesystem::path& path) {
  Safetensors file;
  file.path_ = path;
  if (path.string().ends_with(".index.json")) {
    QW_TRY(file.open_index());
  } else {
    QW_TRY(file.add_file(path, nullptr));
  }
  file.index_names();
  return file;
}

// Adds the tensors of one file; with an index, those that it assigns to this file.
Status Safetensors::add_file(const std::filesystem::path& path, Index* index) {
  QW_ASSIGN(auto file, base::MappedFile::open(path));
  auto part = internal::parse_safetensors(file.bytes());
  if (!part) return in_context(path.string(), std::move(part).error());
  if (files_.empty()) metadata_ = std::move(part->metadata);
  const std::string file_name = path.filename().string();
  for (auto& entry : part->entries) {
    if (index != nullptr) {
      // Readers differ in which of two they take.
      if (!index->seen.insert(entry.info.name).second)
        return fail(ErrorKind::kBadInput, path.string() + ": tensor " + quote(entry.info.name) + " stands in two shards");
      const json::Value* owner = index->weight_map.find(entry.info.name);
      if (owner == nullptr || owner->as_string() != file_name) continue;
    }
    if (!entry.unsupported.empty()) {
      unsupported_.emplace(entry.info.name,
                           path.string() + ": tensor " + quote(entry.info.name) + ": " + entry.unsupported);
      continue;
    }
    data_.push_back(file.bytes().data() + entry.begin);
    tensors_.push_back(std::move(entry.info));
  }
  files_.push_back(std::move(file));
  return {};
}

Status Safetensors::open_index() {
  // An index line is about 100 bytes a tensor; 100 MB is the limit of the header it stands for.
  QW_ASSIGN(const std::string text, base::read_file(path_, 100'000'000));
  auto parsed = json::parse(text, {.max_depth = 8});
  if (!parsed) return in_context(path_.string(), std::move(parsed).error());
  const json::Value* map = parsed->find("weight_map");
  if (map == nullptr || !map->is_object()) return fail(ErrorKind::kBadInput, path_.string() + ": no weight_map object");
  std::set<std::string> shards;
  for (const auto& [name, shard] : map->as_object()) {
    if (!shard.is_string() || !shard.as_string().ends_with(".safetensors") ||
        shard.as_string().find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      return fail(ErrorKind::kBadInput, path_.string() + ": tensor " + quote(name) +
                                            ": its shard is no name of a .safetensors file in this folder");
    }
    shards.insert(shard.as_string());
  }
  Index index{map->as_object()};
  for (const std::string& shard : shards) QW_TRY(add_file(path_.parent_path() / shard, &index));
  if (tensors_.size() + unsupported_.size() == map->as_object().size()) return {};
  std::set<std::string_view> found;
  for (const TensorInfo& t : tensors_) found.insert(t.name);
  for (const auto& [name, shard] : map->as_object()) {
    if (found.contains(name) || unsupported_.contains(name)) continue;
    return fail(ErrorKind::kBadInput,
                path_.string() + ": tensor " + quote(name) + " is not in " + quote(shard.as_string()));
  }
  return {};
}

void Safetensors::index_names() {
  by_name_.resize(tensors_.size());
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::sort(by_name_.begin(), by_name_.end(),
            [&](std::uint32_t a, std::uint32_t b) { return tensors_[a].name < tensors_[b].name; });
}

const TensorInfo* Safetensors::find(std::string_view name) const {
  const auto it = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                   [&](std::uint32_t i, std::string_view wanted) { return tensors_[i].name < wanted; });
  return it != by_name_.end() && tensors_[*it].name == name ? &tensors_[*it] : nullptr;
}

Result<tensor::ConstView> Safetensors::tensor(std::string_view name) const {
  const TensorInfo* info = find(name);
  if (info == nullptr) {
    const auto reason = unsupported_.find(name);
    if (reason != unsupported_.end()) return fail(ErrorKind::kBadInput, reason->second);
    return fail(ErrorKind::kBadInput, path_.string() + ": no tensor " + quote(name));
  }
  const auto i = static_cast<std::size_t>(info - tensors_.data());
  const std::byte* data = data_[i];
  const auto element_bytes = static_cast<std::uintptr_t>(tensor::info(info->dtype).block_bytes);
  if (reinterpret_cast<std::uintptr_t>(data) % element_bytes != 0) {
    const std::lock_guard lock(copies_->mutex);
    auto [it, fresh] = copies_->buffers.try_emplace(i);
    if (fresh) {
      it->second = tensor::Buffer(static_cast<std::size_t>(info->bytes()));
      if (info->bytes() > 0) std::memcpy(it->second.data(), data, static_cast<std::size_t>(info->bytes()));
    }
    data = it->second.data();
  }
  return tensor::ConstView{info->dtype, info->shape, data};
}

}  // namespace qw::formats
