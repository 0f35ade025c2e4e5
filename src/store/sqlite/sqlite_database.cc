// SQLite 3: one file, write-ahead log. Every commit is on the disk before it returns.
#include <sqlite3.h>

#include <chrono>
#include <map>

#include "store/internal/database.h"

namespace qw::store {
namespace {

// Another process (an admin command beside a service) may hold the lock for a moment; a backup of a large file longer.
constexpr int kBusyMs = 10'000;
// Statements kept prepared. More than the room has.
constexpr std::size_t kMostStatements = 256;

struct CloseDb {
  void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
};
struct Finalize {
  void operator()(sqlite3_stmt* s) const { sqlite3_finalize(s); }
};
using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

class SqliteConnection final : public Connection {
 public:
  SqliteConnection(std::unique_ptr<sqlite3, CloseDb> db, std::string name)
      : db_(std::move(db)), name_(std::move(name)) {}

  Dialect dialect() const override { return Dialect::kSqlite; }
  bool may_try_again() const override { return code_ == SQLITE_BUSY || code_ == SQLITE_LOCKED; }
  Status begin() override { return script("BEGIN IMMEDIATE"); }
  Status commit() override { return script("COMMIT"); }
  void roll_back() override {
    if (sqlite3_get_autocommit(db_.get()) == 0) sqlite3_exec(db_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
  }

  Status script(const std::string& sql) override {
    if (!ok(sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr))) return failed();
    return {};
  }

  Result<Rows> run(std::string_view sql, const std::vector<Value>& parameters) override {
    QW_ASSIGN(sqlite3_stmt * statement, prepared(sql));
    struct Reset {
      sqlite3_stmt* s;
      ~Reset() {
        sqlite3_reset(s);
        sqlite3_clear_bindings(s);
      }
    } reset{statement};
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const int index = sqlite3_bind_parameter_index(statement, ("$" + std::to_string(i + 1)).c_str());
      QW_CHECK(index > 0);
      if (!ok(bind(statement, index, parameters[i]))) return failed();
    }
    Rows rows;
    for (;;) {
      const int code = sqlite3_step(statement);
      if (code == SQLITE_DONE) return rows;
      if (!ok(code == SQLITE_ROW ? SQLITE_OK : code)) return failed();
      rows.push_back(row_of(statement));
    }
  }

  Result<std::int64_t> now_us() override {
    using namespace std::chrono;
    return duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
  }

 private:
  bool ok(int code) {
    code_ = code & 0xff;
    return code == SQLITE_OK;
  }
  tl::unexpected<Error> failed() const {
    const ErrorKind kind = code_ == SQLITE_FULL || code_ == SQLITE_NOMEM       ? ErrorKind::kResource
                           : code_ == SQLITE_NOTADB || code_ == SQLITE_CORRUPT ? ErrorKind::kBadInput
                                                                               : ErrorKind::kFailed;
    return fail(kind, name_ + ": " + sqlite3_errmsg(db_.get()));
  }

  Result<sqlite3_stmt*> prepared(std::string_view sql) {
    if (const auto known = statements_.find(sql); known != statements_.end()) return known->second.get();
    sqlite3_stmt* made = nullptr;
    if (!ok(sqlite3_prepare_v3(db_.get(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &made,
                               nullptr)))
      return failed();
    if (statements_.size() >= kMostStatements) statements_.clear();
    return statements_.emplace(sql, Statement(made)).first->second.get();
  }

  static int bind(sqlite3_stmt* s, int index, const Value& value) {
    if (const auto* number = std::get_if<std::int64_t>(&value)) return sqlite3_bind_int64(s, index, *number);
    if (const auto* text = std::get_if<std::string>(&value))
      return sqlite3_bind_text64(s, index, text->data(), text->size(), SQLITE_STATIC, SQLITE_UTF8);
    if (const auto* bytes = std::get_if<Bytes>(&value)) {
      if (bytes->data.empty()) return sqlite3_bind_zeroblob(s, index, 0);
      return sqlite3_bind_blob64(s, index, bytes->data.data(), bytes->data.size(), SQLITE_STATIC);
    }
    return sqlite3_bind_null(s, index);
  }

  static Row row_of(sqlite3_stmt* s) {
    std::vector<Value> values;
    for (int i = 0; i < sqlite3_column_count(s); ++i) {
      const auto size = [&] { return static_cast<std::size_t>(sqlite3_column_bytes(s, i)); };
      switch (sqlite3_column_type(s, i)) {
        case SQLITE_INTEGER:
          values.emplace_back(static_cast<std::int64_t>(sqlite3_column_int64(s, i)));
          break;
        case SQLITE_NULL:
          values.emplace_back();
          break;
        case SQLITE_BLOB: {
          const void* at = sqlite3_column_blob(s, i);
          values.emplace_back(Bytes{at == nullptr ? "" : std::string(static_cast<const char*>(at), size())});
          break;
        }
        default: {
          const auto* at = reinterpret_cast<const char*>(sqlite3_column_text(s, i));
          values.emplace_back(std::string(at, size()));
        }
      }
    }
    return Row(std::move(values));
  }

  std::unique_ptr<sqlite3, CloseDb> db_;
  std::string name_;
  std::map<std::string, Statement, std::less<>> statements_;  // destroyed before db_
  int code_ = SQLITE_OK;
};

class SqliteDatabase final : public Database {
 public:
  explicit SqliteDatabase(std::string path) : path_(std::move(path)) {}

  Result<std::unique_ptr<Connection>> connect() override {
    sqlite3* raw = nullptr;
    const int code =
        sqlite3_open_v2(path_.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    std::unique_ptr<sqlite3, CloseDb> db(raw);
    if (code != SQLITE_OK)
      return fail(ErrorKind::kFailed, path_ + ": " + (raw ? sqlite3_errmsg(raw) : "out of memory"));
    sqlite3_busy_timeout(raw, kBusyMs);
    auto connection = std::make_unique<SqliteConnection>(std::move(db), path_);
    // What is erased is overwritten, not only unlinked.
    QW_TRY(connection->script(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON;"));
    return connection;
  }
  std::size_t most_connections() const override { return 1; }  // one writer at a time anyway
  const std::string& name() const override { return path_; }

 private:
  std::string path_;
};

}  // namespace

std::unique_ptr<Database> sqlite_database(const std::string& path) { return std::make_unique<SqliteDatabase>(path); }

}  // namespace qw::store
