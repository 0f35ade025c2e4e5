#include "formats/model_file.h"

#include <fstream>
#include <mutex>

#include "base/file.h"
#include "formats/internal/text.h"

namespace qw::formats {

struct ModelSource::Kept {
  std::mutex mutex;
  std::vector<std::unique_ptr<const tensor::RowMaker>> makers;
};

ModelSource::ModelSource(std::variant<GgufFile, HfFolder> source)
    : source_(std::move(source)), kept_(std::make_shared<Kept>()) {}

const tensor::RowMaker* ModelSource::keep(std::unique_ptr<const tensor::RowMaker> maker) const {
  const std::lock_guard lock(kept_->mutex);
  kept_->makers.push_back(std::move(maker));
  return kept_->makers.back().get();
}

namespace {

// torch.save writes an archive of zip with the pickle in it, and wrote the pickle itself before.
bool begins_as_pickle(const std::filesystem::path& path) {
  char first[2] = {};
  std::ifstream(path, std::ios::binary).read(first, sizeof(first));
  return (first[0] == 'P' && first[1] == 'K') || first[0] == '\x80';
}

}  // namespace

Result<ModelSource> ModelSource::open(const std::filesystem::path& path) {
  std::error_code code;
  const auto status = std::filesystem::status(path, code);
  if (!std::filesystem::exists(status)) return fail(ErrorKind::kBadInput, path.string() + ": no such file or folder");
  if (std::filesystem::is_directory(status)) {
    QW_ASSIGN(auto folder, HfFolder::open(path));
    return ModelSource(std::move(folder));
  }
  if (path.extension() == ".safetensors") {
    return fail(ErrorKind::kBadInput,
                path.string() + ": weights alone are not a model; give the folder with config.json");
  }
  // Only a regular file is looked into: opening a named pipe would wait for its writer.
  if (std::filesystem::is_regular_file(status) && begins_as_pickle(path)) return refuse_pickle(path);
  QW_ASSIGN(auto gguf, GgufFile::open(path));
  return ModelSource(std::move(gguf));
}

const std::filesystem::path& ModelSource::path() const { return gguf() ? gguf()->path() : hf_folder()->path(); }
const json::Object& ModelSource::config() const { return gguf() ? gguf()->metadata() : hf_folder()->config(); }

const json::Object& ModelSource::generation_config() const {
  static const json::Object kNone;
  return hf_folder() ? hf_folder()->generation_config() : kNone;
}

const std::vector<TensorInfo>& ModelSource::tensors() const {
  return gguf() ? gguf()->tensors() : hf_folder()->tensors();
}

const TensorInfo* ModelSource::find(std::string_view name) const {
  return gguf() ? gguf()->find(name) : hf_folder()->find(name);
}

Result<tensor::ConstView> ModelSource::tensor(std::string_view name) const {
  return gguf() ? gguf()->tensor(name) : hf_folder()->tensor(name);
}

Result<tensor::ConstView> ModelSource::tensor(std::string_view name, const tensor::Shape& expected) const {
  QW_ASSIGN(const auto view, tensor(name));
  if (view.shape != expected) {
    return fail(ErrorKind::kBadInput, path().string() + ": tensor " + internal::quote(name) + " has shape " +
                                          view.shape.to_string() + ", the configuration asks for " +
                                          expected.to_string());
  }
  return view;
}

std::int64_t ModelSource::total_bytes() const {
  std::int64_t bytes = 0;
  for (const TensorInfo& t : gguf() ? gguf()->tensors() : hf_folder()->weights().tensors()) bytes += t.bytes();
  return bytes;
}

}  // namespace qw::formats
