#include "store/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "store/internal/backup.h"
#include "store/internal/migrations.h"
#include "store/internal/work.h"

namespace qw::store {

Store::Store(std::unique_ptr<Work> work, std::string lock_path)
    : work_(std::move(work)),
      lock_path_(std::move(lock_path)),
      tenants_(std::make_unique<Tenants>(*work_)),
      ledger_(std::make_unique<Ledger>(*work_)),
      files_(std::make_unique<Files>(*work_)),
      jobs_(std::make_unique<Jobs>(*work_)),
      documents_(std::make_unique<Documents>(*work_)) {}

Store::~Store() {
  if (lock_ >= 0) ::close(lock_);
}

Result<std::unique_ptr<Store>> Store::open(const std::string& url, StoreOptions options) {
  std::unique_ptr<Database> database;
  std::string lock_path;
  if (url.starts_with("postgres://") || url.starts_with("postgresql://")) {
    QW_ASSIGN(database, postgres_database(url));
  } else if (url.starts_with("postgres:")) {
    QW_ASSIGN(database, postgres_database(url.substr(9)));
  } else {
    const std::string path = url.starts_with("sqlite:") ? url.substr(7) : url;
    if (path.empty() || path.find("://") != std::string::npos)
      return fail(ErrorKind::kUsage, "store " + url + ": expected postgres://... or a file");
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored))
      return fail(ErrorKind::kBadInput, path + ": not a file");
    lock_path = path + "-serving";
    database = sqlite_database(path);
  }
  {
    QW_ASSIGN(auto connection, database->connect());
    if (auto status = migrate(*connection); !status) return in_context(database->name(), status.error());
  }
  auto work = std::make_unique<Work>(std::move(database), std::move(options.now));
  return std::unique_ptr<Store>(new Store(std::move(work), std::move(lock_path)));
}

Result<bool> Store::serve_alone() {
  if (lock_path_.empty()) return false;
  if (lock_ >= 0) return true;
  const int fd = ::open(lock_path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return fail(ErrorKind::kFailed, lock_path_ + ": " + std::strerror(errno));
  // The system gives the lock back when the process ends, however it ends.
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd);
    return fail(ErrorKind::kRefused,
                name() + ": another service runs over this file (several services need postgres://)");
  }
  lock_ = fd;
  return true;
}

Status Store::backup(const std::filesystem::path& file) { return write_backup(*work_, file); }
Status Store::restore(const std::filesystem::path& file) { return read_backup(*work_, file); }
const std::string& Store::name() const { return work_->database().name(); }

}  // namespace qw::store
