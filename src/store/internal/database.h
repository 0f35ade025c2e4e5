// SQL over either engine: values in, rows out. The statements of this room are written once, in the words that SQLite
// and PostgreSQL share; parameters are $1, $2, ...
//
// A Connection belongs to one thread at a time. Errors: kFailed with the engine's own words.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace qw::store {

struct Bytes {
  std::string data;  // any bytes; a plain string is text in UTF-8
};
using Value = std::variant<std::monostate, std::int64_t, std::string, Bytes>;

// A row whose columns are known by the statement. A getter for another type than the column's is a bug; null gives 0 or
// "".
class Row {
 public:
  explicit Row(std::vector<Value> values) : values_(std::move(values)) {}
  std::int64_t integer(std::size_t column) const;
  std::string text(std::size_t column) const;
  std::string bytes(std::size_t column) const;
  bool is_null(std::size_t column) const { return std::holds_alternative<std::monostate>(values_[column]); }
  const std::vector<Value>& values() const { return values_; }

 private:
  std::vector<Value> values_;
};
using Rows = std::vector<Row>;

enum class Dialect : std::uint8_t { kSqlite, kPostgres };

class Connection {
 public:
  virtual ~Connection() = default;
  virtual Dialect dialect() const = 0;
  // One statement with its parameters; the rows it gives (of SELECT and RETURNING), or none.
  virtual Result<Rows> run(std::string_view sql, const std::vector<Value>& parameters) = 0;
  // Several statements without parameters, as migrations are.
  virtual Status script(const std::string& sql) = 0;
  // True if the last error came from others working at the same time (or a lost connection): the same transaction may
  // succeed when tried again.
  virtual bool may_try_again() const = 0;
  virtual Status begin() = 0;  // of a transaction that will write
  virtual Status commit() = 0;
  virtual void roll_back() = 0;
  // Microseconds since 1970 by the clock that all users of the database share.
  virtual Result<std::int64_t> now_us() = 0;
  // Ends a SELECT of rows that are about to be changed.
  std::string_view for_update() const { return dialect() == Dialect::kPostgres ? " FOR UPDATE" : ""; }
};

// Where connections come from. Threads: any.
class Database {
 public:
  virtual ~Database() = default;
  virtual Result<std::unique_ptr<Connection>> connect() = 0;
  virtual std::size_t most_connections() const = 0;
  virtual const std::string& name() const = 0;  // for messages; no password
};

// `path`: a file, made if it is absent.
std::unique_ptr<Database> sqlite_database(const std::string& path);
// `url`: postgres://user@host/name or libpq's key=value form.
Result<std::unique_ptr<Database>> postgres_database(const std::string& url);

}  // namespace qw::store
