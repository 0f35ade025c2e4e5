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
      documents_(std::make_unique<Documents>(*work_)),
      rollouts_(std::make_unique<Rollouts>(*work_)),
      feedback_(std::make_unique<FeedbackBook>(*work_)),
      complaints_(std::make_unique<Complaints>(*work_)),
      conduct_(std::make_unique<ConductBook>(*work_)),
      contents_(std::make_unique<Contents>(*work_)),
      personal_data_(std::make_unique<PersonalData>(*work_)) {}

Store::~Store() {
  if (lock_ >= 0) ::close(lock_);
}

namespace {

struct Place {
  std::unique_ptr<Database> database;
  std::string file;  // "": PostgreSQL
};

// Where an address leads; nothing is opened yet.
Result<Place> place_of(const std::string& url) {
  Place out;
  if (url.starts_with("postgres://") || url.starts_with("postgresql://")) {
    QW_ASSIGN(out.database, postgres_database(url));
    return out;
  }
  if (url.starts_with("postgres:")) {
    QW_ASSIGN(out.database, postgres_database(url.substr(9)));
    return out;
  }
  out.file = url.starts_with("sqlite:") ? url.substr(7) : url;
  if (out.file.empty() || out.file.find("://") != std::string::npos)
    return fail(ErrorKind::kUsage, "store " + url + ": expected postgres://... or a file");
  std::error_code ignored;
  if (std::filesystem::exists(out.file, ignored) && !std::filesystem::is_regular_file(out.file, ignored))
    return fail(ErrorKind::kBadInput, out.file + ": not a file");
  out.database = sqlite_database(out.file);
  return out;
}

}  // namespace

Result<std::unique_ptr<Store>> Store::open(const std::string& url, StoreOptions options) {
  QW_ASSIGN(Place place, place_of(url));
  QW_ASSIGN(auto connection, place.database->connect());
  if (auto status = migrate(*connection); !status) return in_context(place.database->name(), status.error());
  auto work = std::make_unique<Work>(std::move(place.database), std::move(options.now));
  work->keep(std::move(connection));  // another one would cost PostgreSQL a process
  return std::unique_ptr<Store>(new Store(std::move(work), place.file.empty() ? "" : place.file + "-serving"));
}

Result<Store::State> Store::look(const std::string& url) {
  QW_ASSIGN(const Place place, place_of(url));
  State out{place.database->name(), 0, latest_version()};
  std::error_code ignored;
  if (!place.file.empty() && !std::filesystem::exists(place.file, ignored)) {  // connecting would make it
    const auto folder = std::filesystem::path(place.file).parent_path();
    if (!folder.empty() && !std::filesystem::is_directory(folder, ignored))
      return fail(ErrorKind::kFailed, out.name + ": its folder is not there");
    return out;
  }
  QW_ASSIGN(const auto connection, place.database->connect());
  const auto version = version_of(*connection);
  if (!version) return in_context(out.name, version.error());
  out.version = *version;
  if (out.version > out.version_of_program)
    return fail(ErrorKind::kBadInput, out.name + ": the database is of version " + std::to_string(out.version) +
                                          ", this program knows " + std::to_string(out.version_of_program) +
                                          ": use a newer program");
  return out;
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
