#include "hub/pull.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/sha256.h"

namespace qw::hub {
namespace {

namespace fs = std::filesystem;

// Held while a folder is filled; the system gives it back when the process dies.
class FolderLock {
 public:
  static Result<FolderLock> take(const fs::path& folder) {
    FolderLock lock;
    lock.fd_ = ::open((folder / ".qianwen.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (lock.fd_ < 0) return fail(ErrorKind::kFailed, folder.string() + ": cannot write there");
    if (::flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) return fail(ErrorKind::kFailed, folder.string() + ": another process is pulling this model");
    return lock;
  }
  FolderLock(FolderLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FolderLock& operator=(FolderLock&&) = delete;
  ~FolderLock() {
    if (fd_ >= 0) ::close(fd_);
  }

 private:
  FolderLock() = default;
  int fd_ = -1;
};

// There already, and what the service has now.
bool is_there(const fs::path& target, const RemoteFile& file) {
  std::error_code error;
  if (file.sha256.empty() || fs::file_size(target, error) != file.bytes || error) return false;
  const auto hash = base::sha256_file_hex(target);
  return hash && *hash == file.sha256;
}

std::string gigabytes(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

class Pull {
 public:
  Pull(const Hub& hub, const ModelName& name, const PullOptions& options, const ProgressFn& progress, const std::atomic<bool>* cancel)
      : hub_(hub), name_(name), options_(options), progress_(progress), cancel_(cancel),
        revision_(options.revision.empty() ? hub.default_revision() : options.revision),
        folder_(options.store / name.owner / name.repository) {}

  Result<Pulled> run() {
    QW_ASSIGN(const auto listed, hub_.list(name_, revision_, cancel_));
    auto selection = select_files(listed, name_.pattern);
    if (!selection) return in_context(name_.id(), selection.error());
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) return fail(ErrorKind::kFailed, folder_.string() + ": cannot create: " + error.message());
    QW_ASSIGN(const FolderLock lock, FolderLock::take(folder_));
    QW_TRY(begin(*selection));
    QW_TRY(check_space(selection->files));
    // Small files first: what is wrong with a model shows before the gigabytes have come.
    auto files = selection->files;
    std::stable_sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
    for (const RemoteFile& file : files) QW_TRY(one(file));
    if (selection->gguf.empty()) manifest_.complete = true;
    QW_TRY(write_manifest(folder_, manifest_));
    return Pulled{stored(*selection), fetched_};
  }

 private:
  // The manifest of what is about to be; files of earlier pulls (other GGUF files) stay in it.
  Status begin(const Selection& selection) {
    QW_ASSIGN(auto known, read_manifest(folder_));
    if (known) manifest_ = std::move(*known);
    else manifest_.complete = !selection.gguf.empty();
    manifest_.service = service_name(hub_.service());
    manifest_.id = name_.id();
    manifest_.revision = revision_;
    for (const RemoteFile& file : selection.files) {
      progress_now_.total_bytes += file.bytes;
      if (is_there(folder_ / file.path, file)) there_.push_back(file.path);
    }
    if (selection.gguf.empty() && there_.size() < selection.files.size()) manifest_.complete = false;
    return write_manifest(folder_, manifest_);
  }

  Status check_space(const std::vector<RemoteFile>& files) const {
    std::uint64_t need = 0;
    for (const RemoteFile& file : files) {
      if (!is_listed_there(file.path)) need += file.bytes - std::min(file.bytes, bytes_fetched(job(file)));
    }
    std::error_code error;
    const auto space = fs::space(folder_, error);
    if (error || need == 0 || space.available >= need + options_.spare_bytes) return {};
    return fail(ErrorKind::kResource, folder_.string() + ": needs " + gigabytes(need) + " more, " + gigabytes(space.available) + " are free");
  }

  bool is_listed_there(const std::string& path) const { return std::find(there_.begin(), there_.end(), path) != there_.end(); }

  DownloadJob job(const RemoteFile& file) const { return {hub_, name_, revision_, file, folder_ / file.path}; }

  Status one(const RemoteFile& file) {
    progress_now_.file = file.path;
    std::string hash = file.sha256;
    if (is_listed_there(file.path)) {
      count(static_cast<std::int64_t>(file.bytes));
    } else {
      std::error_code error;
      fs::create_directories((folder_ / file.path).parent_path(), error);
      if (error) return fail(ErrorKind::kFailed, (folder_ / file.path).string() + ": cannot create its folder: " + error.message());
      const DownloadJob work = job(file);
      const auto before = static_cast<std::int64_t>(bytes_fetched(work));
      const auto counted = [this](std::int64_t bytes) { count(bytes); };
      QW_ASSIGN(hash, download(work, options_.download, counted, cancel_));
      fetched_ += file.bytes - static_cast<std::uint64_t>(before);
    }
    std::erase_if(manifest_.files, [&](const ManifestFile& f) { return f.path == file.path; });
    manifest_.files.push_back({file.path, file.bytes, hash});
    return {};
  }

  void count(std::int64_t bytes) {
    progress_now_.done_bytes = static_cast<std::uint64_t>(static_cast<std::int64_t>(progress_now_.done_bytes) + bytes);
    if (progress_) progress_(progress_now_);
  }

  StoredModel stored(const Selection& selection) const {
    StoredModel model{name_.id(), folder_, folder_, false, true, progress_now_.total_bytes};
    if (!selection.gguf.empty()) {
      model.gguf = true;
      model.path = folder_ / selection.gguf;
      model.name += ":" + gguf_stem(model.path.filename().string());
    }
    return model;
  }

  const Hub& hub_;
  const ModelName& name_;
  const PullOptions& options_;
  const ProgressFn& progress_;
  const std::atomic<bool>* cancel_;
  std::string revision_;
  fs::path folder_;
  Manifest manifest_;
  PullProgress progress_now_;
  std::vector<std::string> there_;
  std::uint64_t fetched_ = 0;
};

}  // namespace

Result<Pulled> pull(const Hub& hub, const ModelName& name, const PullOptions& options, const ProgressFn& progress,
                    const std::atomic<bool>* cancel) {
  return Pull(hub, name, options, progress, cancel).run();
}

}  // namespace qw::hub
