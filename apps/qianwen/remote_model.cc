#include "remote_model.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "hub/select.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;
// Configurations; a tokenizer with its 11 MB is not needed to know sizes.
constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{4} << 20;
// The head of a safetensors file with a hundred thousand tensors is some 16 MB; formats refuses more than 100 MB.
constexpr std::uint64_t kMaxHeadBytes = std::uint64_t{100} << 20;
// Heads of GGUF files: vocabulary and merges take about 6 MB for the Qwen family.
constexpr std::uint64_t kFirstGgufBytes = std::uint64_t{8} << 20, kMaxGgufBytes = std::uint64_t{256} << 20;

// The bytes at `offset` of a file that is otherwise a hole of the whole size.
Status put(const fs::path& path, std::uint64_t offset, const std::string& bytes, std::uint64_t size) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  const bool is_new = !fs::exists(path, error);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary | (is_new ? std::ios::trunc : std::ios::openmode{}));
  file.seekp(static_cast<std::streamoff>(offset));
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (file) fs::resize_file(path, size, error);
  if (!file || error) return fail(ErrorKind::kFailed, path.string() + ": cannot write");
  return {};
}

struct Fetcher {
  const hub::Hub& hub;
  const hub::ModelName& name;
  const std::string& revision;
  const std::atomic<bool>* cancel;
  fs::path folder;

  Result<std::string> read(const hub::RemoteFile& file, std::uint64_t begin, std::uint64_t end) const {
    return hub.read(name, revision, file, begin, end, cancel);
  }

  Status whole(const hub::RemoteFile& file) const {
    QW_ASSIGN(const std::string bytes, read(file, 0, file.bytes));
    return put(folder / file.path, 0, bytes, file.bytes);
  }

  // Eight bytes of length, then so many of JSON.
  Status safetensors_head(const hub::RemoteFile& file) const {
    QW_ASSIGN(std::string head, read(file, 0, 8));
    std::uint64_t length = 0;
    for (std::size_t i = head.size(); i-- > 0;) length = (length << 8) | static_cast<unsigned char>(head[i]);
    if (head.size() < 8 || length > kMaxHeadBytes || length > file.bytes - 8)
      return fail(ErrorKind::kBadInput, file.path + ": is no safetensors file (length of its head)");
    QW_ASSIGN(const std::string rest, read(file, 8, 8 + length));
    return put(folder / file.path, 0, head + rest, file.bytes);
  }

  // A GGUF file does not say how long its head is: more is fetched until what the tensors leave of the files is there.
  Status gguf_heads(const hub::Selection& selection) const {
    std::vector<hub::RemoteFile> parts;
    for (const auto& file : selection.files) {
      if (hub::lower(file.path).ends_with(".gguf")) parts.push_back(file);
    }
    std::uint64_t before = 0, total = 0;
    for (const auto& part : parts) total += part.bytes;
    for (std::uint64_t upto = kFirstGgufBytes;; before = upto, upto *= 4) {
      std::uint64_t fetched = 0;
      for (const auto& part : parts) {
        if (before >= part.bytes) continue;
        QW_ASSIGN(const std::string bytes, read(part, before, upto));
        QW_TRY(put(folder / part.path, before, bytes, part.bytes));
      }
      for (const auto& part : parts) fetched += std::min(upto, part.bytes);
      const auto file = formats::GgufFile::open(folder / selection.gguf);
      std::uint64_t tensors = 0;
      for (const auto& t : file ? file->tensors() : std::vector<formats::TensorInfo>()) tensors += static_cast<std::uint64_t>(t.bytes());
      if (file && tensors + fetched >= total) return {};
      if (fetched == total || upto >= kMaxGgufBytes) {
        if (!file) return tl::unexpected(file.error());
        return fail(ErrorKind::kBadInput, selection.gguf + ": the head of the file has no end");
      }
    }
  }

  Status all(const hub::Selection& selection) const {
    if (!selection.gguf.empty()) return gguf_heads(selection);
    for (const auto& file : selection.files) {
      if (file.path.ends_with(".safetensors")) QW_TRY(safetensors_head(file));
      else if (file.path.ends_with(".json") && !file.path.starts_with("tokenizer") && file.path != "vocab.json" &&
               (file.bytes <= kMaxConfigBytes || file.path.ends_with(".index.json")))
        QW_TRY(whole(file));
    }
    return {};
  }
};

}  // namespace

RemoteModel::RemoteModel(RemoteModel&& other) noexcept
    : folder_(std::exchange(other.folder_, {})), opened_(std::move(other.opened_)), download_bytes_(other.download_bytes_) {}

RemoteModel::~RemoteModel() {
  opened_.reset();
  std::error_code ignored;
  if (!folder_.empty()) fs::remove_all(folder_, ignored);
}

Result<RemoteModel> RemoteModel::open(const hub::Hub& hub, const hub::ModelName& name, const std::string& stated,
                                      const std::atomic<bool>* cancel) {
  const std::string revision = stated.empty() ? hub.default_revision() : stated;
  QW_ASSIGN(const auto listed, hub.list(name, revision, cancel));
  auto selection = hub::select_files(listed, name.pattern);
  if (!selection) return in_context(name.id(), selection.error());
  RemoteModel out;
  std::string pattern = (fs::temp_directory_path() / "qianwen-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) return fail(ErrorKind::kFailed, pattern + ": cannot create a folder there");
  out.folder_ = pattern;
  for (const auto& file : selection->files) out.download_bytes_ += file.bytes;
  QW_TRY((Fetcher{hub, name, revision, cancel, out.folder_}.all(*selection)));
  auto opened = open_model((out.folder_ / selection->gguf).string());
  if (!opened) {
    // The person knows nothing of the temporary folder.
    Error error = opened.error();
    if (const std::size_t at = error.message.find(pattern); at != std::string::npos) error.message.replace(at, pattern.size(), name.id());
    return tl::unexpected(std::move(error));
  }
  out.opened_ = std::move(*opened);
  return out;
}

}  // namespace qw::app
