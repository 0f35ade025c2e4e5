// PostgreSQL by libpq.
#if QW_HAVE_POSTGRES
#include <libpq-fe.h>
#endif

#include <charconv>
#include <map>

#include "store/internal/database.h"

namespace qw::store {

#if QW_HAVE_POSTGRES
namespace {

// Replicas times this many must stay below the server's max_connections (100 by default).
constexpr std::size_t kMostConnections = 4;
// Types of columns, from PostgreSQL's catalogue (pg_type.dat).
constexpr Oid kBytea = 17, kInt8 = 20, kInt2 = 21, kInt4 = 23;

struct Clear {
  void operator()(PGresult* r) const { PQclear(r); }
};
struct Finish {
  void operator()(PGconn* c) const { PQfinish(c); }
};
using Answer = std::unique_ptr<PGresult, Clear>;

std::string one_line(std::string text) {
  if (const auto end = text.find('\n'); end != std::string::npos) text.resize(end);
  return text;
}

class PostgresConnection final : public Connection {
 public:
  PostgresConnection(std::unique_ptr<PGconn, Finish> connection, std::string name)
      : connection_(std::move(connection)), name_(std::move(name)) {}

  Dialect dialect() const override { return Dialect::kPostgres; }
  bool may_try_again() const override {
    // 40001, 40P01: serialization and deadlock; class 08 and 57P0x: the connection or the server went away.
    return lost_ || state_ == "40001" || state_ == "40P01" || state_.starts_with("08") || state_.starts_with("57P0");
  }

  Status begin() override {
    // A lost connection is made anew here, where nothing can be half done.
    if (PQstatus(connection_.get()) != CONNECTION_OK) {
      PQreset(connection_.get());
      prepared_.clear();
      if (PQstatus(connection_.get()) != CONNECTION_OK) {
        fine(nullptr);
        return failed(nullptr);
      }
      QW_TRY(set_up());
    }
    return script("BEGIN");
  }
  Status set_up() {
    return script(
        "SET client_min_messages = warning; SET default_transaction_isolation = 'read committed'; "
        "SET client_encoding = 'UTF8'; SET bytea_output = 'hex'");
  }
  Status commit() override { return script("COMMIT"); }
  void roll_back() override {
    if (PQtransactionStatus(connection_.get()) != PQTRANS_IDLE) Answer(PQexec(connection_.get(), "ROLLBACK"));
  }
  Status script(const std::string& sql) override {
    const Answer answer(PQexec(connection_.get(), sql.c_str()));
    if (!fine(answer.get())) return failed(answer.get());
    return {};
  }

  Result<Rows> run(std::string_view sql, const std::vector<Value>& parameters) override {
    QW_ASSIGN(const std::string statement, prepared(sql));
    std::vector<std::string> texts(parameters.size());
    std::vector<const char*> values(parameters.size());
    std::vector<int> lengths(parameters.size()), formats(parameters.size());
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      if (const auto* number = std::get_if<std::int64_t>(&parameters[i])) {
        texts[i] = std::to_string(*number);
      } else if (const auto* text = std::get_if<std::string>(&parameters[i])) {
        if (text->find('\0') != std::string::npos)
          return fail(ErrorKind::kBadInput, "text with a NUL byte cannot be stored");
        texts[i] = *text;
      } else if (const auto* bytes = std::get_if<Bytes>(&parameters[i])) {
        texts[i] = bytes->data;
        lengths[i] = static_cast<int>(bytes->data.size());
        formats[i] = 1;
      }
      values[i] = std::holds_alternative<std::monostate>(parameters[i]) ? nullptr : texts[i].c_str();
    }
    const Answer answer(PQexecPrepared(connection_.get(), statement.c_str(), static_cast<int>(parameters.size()),
                                       values.data(), lengths.data(), formats.data(), 0));
    if (!fine(answer.get())) return failed(answer.get());
    Rows rows;
    rows.reserve(static_cast<std::size_t>(PQntuples(answer.get())));
    for (int r = 0; r < PQntuples(answer.get()); ++r) rows.push_back(row_of(answer.get(), r));
    return rows;
  }

  Result<std::int64_t> now_us() override {
    QW_ASSIGN(const Rows rows,
              run("SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000000) AS BIGINT)", {}));
    return rows[0].integer(0);
  }

 private:
  bool fine(const PGresult* answer) {
    const auto status = PQresultStatus(answer);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) return true;
    const char* state = answer == nullptr ? nullptr : PQresultErrorField(answer, PG_DIAG_SQLSTATE);
    state_ = state == nullptr ? "" : state;
    lost_ = PQstatus(connection_.get()) != CONNECTION_OK;
    return false;
  }
  tl::unexpected<Error> failed(const PGresult* answer) const {
    const char* primary = answer == nullptr ? nullptr : PQresultErrorField(answer, PG_DIAG_MESSAGE_PRIMARY);
    const ErrorKind kind = state_.starts_with("53") ? ErrorKind::kResource : ErrorKind::kFailed;
    return fail(kind, name_ + ": " + one_line(primary != nullptr ? primary : PQerrorMessage(connection_.get())));
  }

  // Statements are planned once a connection.
  Result<std::string> prepared(std::string_view sql) {
    if (const auto known = prepared_.find(sql); known != prepared_.end()) return known->second;
    std::string name = "s" + std::to_string(prepared_.size());
    const Answer answer(PQprepare(connection_.get(), name.c_str(), std::string(sql).c_str(), 0, nullptr));
    if (!fine(answer.get())) return failed(answer.get());
    prepared_.emplace(sql, name);
    return name;
  }

  static Row row_of(const PGresult* answer, int row) {
    std::vector<Value> values;
    for (int c = 0; c < PQnfields(answer); ++c) {
      if (PQgetisnull(answer, row, c)) {
        values.emplace_back();
        continue;
      }
      const char* at = PQgetvalue(answer, row, c);
      const auto size = static_cast<std::size_t>(PQgetlength(answer, row, c));
      switch (PQftype(answer, c)) {
        case kInt8:
        case kInt4:
        case kInt2: {
          std::int64_t number = 0;
          std::from_chars(at, at + size, number);
          values.emplace_back(number);
          break;
        }
        case kBytea: {
          std::size_t length = 0;
          unsigned char* raw = PQunescapeBytea(reinterpret_cast<const unsigned char*>(at), &length);
          values.emplace_back(Bytes{std::string(reinterpret_cast<const char*>(raw), length)});
          PQfreemem(raw);
          break;
        }
        default:
          values.emplace_back(std::string(at, size));
      }
    }
    return Row(std::move(values));
  }

  std::unique_ptr<PGconn, Finish> connection_;
  std::string name_, state_;
  bool lost_ = false;
  std::map<std::string, std::string, std::less<>> prepared_;
};

class PostgresDatabase final : public Database {
 public:
  PostgresDatabase(std::string url, std::string name) : url_(std::move(url)), name_(std::move(name)) {}
  Result<std::unique_ptr<Connection>> connect() override {
    std::unique_ptr<PGconn, Finish> connection(PQconnectdb(url_.c_str()));
    if (!connection) return fail(ErrorKind::kResource, "out of memory");
    if (PQstatus(connection.get()) != CONNECTION_OK)
      return fail(ErrorKind::kFailed, name_ + ": " + one_line(PQerrorMessage(connection.get())));
    auto made = std::make_unique<PostgresConnection>(std::move(connection), name_);
    QW_TRY(made->set_up());
    return made;
  }
  std::size_t most_connections() const override { return kMostConnections; }
  const std::string& name() const override { return name_; }

 private:
  std::string url_, name_;
};

}  // namespace

Result<std::unique_ptr<Database>> postgres_database(const std::string& url) {
  char* error = nullptr;
  PQconninfoOption* options = PQconninfoParse(url.c_str(), &error);
  if (options == nullptr) {
    const std::string why = error == nullptr ? "out of memory" : one_line(error);
    PQfreemem(error);
    return fail(ErrorKind::kUsage, "the PostgreSQL address is not understood: " + why);
  }
  std::string host, database;
  for (const PQconninfoOption* o = options; o->keyword != nullptr; ++o) {
    if (o->val == nullptr) continue;
    if (std::string_view(o->keyword) == "host") host = o->val;
    if (std::string_view(o->keyword) == "dbname") database = o->val;
  }
  PQconninfoFree(options);
  return std::make_unique<PostgresDatabase>(url, "postgres " + database + (host.empty() ? "" : " at " + host));
}

#else

Result<std::unique_ptr<Database>> postgres_database(const std::string&) {
  return fail(ErrorKind::kUsage, "this program was built without PostgreSQL (install libpq-dev and build again)");
}

#endif

}  // namespace qw::store
