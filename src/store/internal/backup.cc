#include "store/internal/backup.h"

#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "base/sha256.h"
#include "store/internal/migrations.h"

namespace qw::store {
namespace {

constexpr std::string_view kMagic = "qianwen-store-backup 1 ";
constexpr std::string_view kEnd = "end ";
constexpr std::size_t kDigest = 64;
constexpr std::size_t kRowsAtOnce = 200;  // rows may hold a part of a file, 1 MiB

std::string encoded(const Value& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return "i" + std::to_string(*number) + ";";
  if (const auto* text = std::get_if<std::string>(&value)) return "t" + std::to_string(text->size()) + ":" + *text;
  if (const auto* bytes = std::get_if<Bytes>(&value))
    return "b" + std::to_string(bytes->data.size()) + ":" + bytes->data;
  return "n";
}

class Sum {
 public:
  explicit Sum(base::AtomicFile& file) : file_(file) {}
  Status write(std::string_view text) {
    sha_.update(text);
    return file_.write(text);
  }
  std::string hex() { return sha_.hex(); }

 private:
  base::AtomicFile& file_;
  base::Sha256 sha_;
};

std::string columns_of(const TableInfo& table, std::string_view between) {
  std::string out;
  for (const char* column : table.columns) out += (out.empty() ? "" : std::string(between)) + column;
  return out;
}

// Page by page along the primary key, so that a long table is walked once.
Status write_table(Connection& c, const TableInfo& table, Sum& out) {
  QW_TRY(out.write("table " + std::string(table.name) + " " + columns_of(table, " ") + "\n"));
  std::string key, last;
  for (std::size_t i = 0; i < table.key; ++i) {
    key += (i == 0 ? "" : ", ") + std::string(table.columns[i]);
    last += (i == 0 ? "$" : ", $") + std::to_string(i + 1);
  }
  const std::string select = "SELECT " + columns_of(table, ", ") + " FROM " + table.name;
  const std::string order = " ORDER BY " + key + " LIMIT " + std::to_string(kRowsAtOnce);
  std::vector<Value> after;
  for (;;) {
    QW_ASSIGN(const Rows rows,
              c.run(select + (after.empty() ? "" : " WHERE (" + key + ") > (" + last + ")") + order, after));
    for (const Row& row : rows) {
      std::string line;
      for (const Value& value : row.values()) line += encoded(value);
      QW_TRY(out.write(line + "\n"));
    }
    if (rows.size() < kRowsAtOnce) return {};
    after.assign(rows.back().values().begin(), rows.back().values().begin() + static_cast<std::ptrdiff_t>(table.key));
  }
}

class Parser {
 public:
  Parser(std::string_view bytes, const BackupReader& reader) : bytes_(bytes), reader_(reader) {}

  Status run() {
    // The sum first: a damaged file must change nothing.
    const std::size_t tail = kEnd.size() + kDigest + 1;
    if (bytes_.size() < kMagic.size() + tail || !bytes_.starts_with(kMagic)) return wrong("not a backup of a store");
    const std::string_view last = bytes_.substr(bytes_.size() - tail);
    bytes_.remove_suffix(tail);
    if (!last.starts_with(kEnd) || !last.ends_with('\n') || last.substr(kEnd.size(), kDigest) != base::sha256_hex(bytes_))
      return wrong("cut or damaged");
    at_ = kMagic.size();
    QW_ASSIGN(const std::int64_t version, number('\n'));
    if (version < 1 || version > latest_version())
      return wrong("of version " + std::to_string(version) + ", which this program does not know");
    QW_TRY(reader_.begin(static_cast<int>(version)));
    while (at_ < bytes_.size()) {
      if (bytes_.substr(at_).starts_with("table ")) {
        QW_TRY(table());
      } else {
        QW_TRY(row());
      }
    }
    return {};
  }

 private:
  tl::unexpected<Error> wrong(const std::string& what) const {
    return fail(ErrorKind::kBadInput, what + " (at byte " + std::to_string(at_) + ")");
  }
  Result<std::int64_t> number(char after) {
    std::int64_t out = 0;
    const char* begin = bytes_.data() + at_;
    const auto [end, error] = std::from_chars(begin, bytes_.data() + bytes_.size(), out);
    if (error != std::errc() || end == bytes_.data() + bytes_.size() || *end != after)
      return wrong("a number is expected");
    at_ += static_cast<std::size_t>(end - begin) + 1;
    return out;
  }
  Status table() {
    const auto line_end = bytes_.find('\n', at_);
    if (line_end == std::string_view::npos) return wrong("a line has no end");
    std::vector<std::string> words;
    std::string_view line = bytes_.substr(at_ + 6, line_end - at_ - 6);
    while (!line.empty()) {
      const auto space = line.find(' ');
      words.emplace_back(line.substr(0, space));
      line = space == std::string_view::npos ? std::string_view() : line.substr(space + 1);
    }
    if (words.size() < 2) return wrong("a table has a name and columns");
    const std::string name = words.front();
    words.erase(words.begin());
    columns_ = words.size();
    QW_TRY(reader_.table(name, words));
    at_ = line_end + 1;
    return {};
  }
  Status row() {
    if (columns_ == 0) return wrong("a row before any table");
    std::vector<Value> values;
    for (std::size_t i = 0; i < columns_; ++i) {
      QW_ASSIGN(Value one, value());
      values.push_back(std::move(one));
    }
    if (at_ >= bytes_.size() || bytes_[at_] != '\n') return wrong("a row has another number of values than its table");
    ++at_;
    return reader_.row(values);
  }
  Result<Value> value() {
    const char kind = at_ < bytes_.size() ? bytes_[at_] : '\0';
    ++at_;
    if (kind == 'n') return Value();
    if (kind == 'i') {
      QW_ASSIGN(const std::int64_t n, number(';'));
      return Value(n);
    }
    if (kind != 't' && kind != 'b') return wrong("a value is expected");
    QW_ASSIGN(const std::int64_t length, number(':'));
    if (length < 0 || static_cast<std::uint64_t>(length) > bytes_.size() - at_)
      return wrong("a text is longer than the file");
    std::string text(bytes_.substr(at_, static_cast<std::size_t>(length)));
    at_ += text.size();
    if (kind == 'b') return Value(Bytes{std::move(text)});
    return Value(std::move(text));
  }

  std::string_view bytes_;
  const BackupReader& reader_;
  std::size_t at_ = 0, columns_ = 0;
};

// Inserts what a reader gives; names were checked against the tables, so that no text of the file becomes SQL.
class Filler {
 public:
  explicit Filler(Connection& c) : c_(c) {}
  Status table(const std::string& name, const std::vector<std::string>& columns) {
    const auto found =
        std::find_if(tables().begin(), tables().end(), [&](const TableInfo& t) { return name == t.name; });
    if (found == tables().end()) return fail(ErrorKind::kBadInput, "there is no table " + name);
    std::string list, values;
    for (const std::string& column : columns) {
      if (std::find(found->columns.begin(), found->columns.end(), column) == found->columns.end())
        return fail(ErrorKind::kBadInput, "table " + name + " has no column " + column);
      list += (list.empty() ? "" : ", ") + column;
      values += (values.empty() ? "$" : ", $") + std::to_string(1 + std::count(values.begin(), values.end(), '$'));
    }
    if (name == "roles") QW_TRY(c_.run("DELETE FROM roles", {}));  // the built-in ones are in the backup too
    insert_ = "INSERT INTO " + name + " (" + list + ") VALUES (" + values + ")";
    return {};
  }
  Status row(const std::vector<Value>& values) {
    QW_TRY(c_.run(insert_, values));
    return {};
  }

 private:
  Connection& c_;
  std::string insert_;
};

Status must_be_empty(Connection& c) {
  QW_ASSIGN(const Rows rows, c.run("SELECT (SELECT COUNT(*) FROM organisations) + (SELECT COUNT(*) FROM usage_ledger) "
                                   "+ (SELECT COUNT(*) FROM prices)",
                                   {}));
  if (rows[0].integer(0) != 0)
    return fail(ErrorKind::kRefused, "the store is not empty: a backup is restored into a new one");
  return {};
}

// After rows with numbers of their own, the next number must be above them.
Status go_on_counting(Connection& c) {
  if (c.dialect() != Dialect::kPostgres) return {};  // SQLite's AUTOINCREMENT sees them
  for (const TableInfo& table : tables()) {
    if (!table.counts) continue;
    const std::string name = table.name, column = table.columns[0];
    QW_TRY(c.run("SELECT setval(pg_get_serial_sequence('" + name + "', '" + column + "'), (SELECT COALESCE(MAX(" +
                     column + "), 0) + 1 FROM " + name + "), false)",
                 {}));
  }
  return {};
}

}  // namespace

Status parse_backup(std::string_view bytes, const BackupReader& reader) { return Parser(bytes, reader).run(); }

Status write_backup(Work& work, const std::filesystem::path& file) {
  return work.transact([&](Connection& c) -> Status {
    if (c.dialect() == Dialect::kPostgres) QW_TRY(c.script("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"));
    QW_ASSIGN(auto out, base::AtomicFile::create(file));
    Sum sum(out);
    QW_TRY(sum.write(std::string(kMagic) + std::to_string(latest_version()) + "\n"));
    for (const TableInfo& table : tables()) QW_TRY(write_table(c, table, sum));
    QW_TRY(out.write(std::string(kEnd) + sum.hex() + "\n"));
    return out.commit();
  });
}

Status read_backup(Work& work, const std::filesystem::path& file) {
  QW_ASSIGN(const base::MappedFile mapped, base::MappedFile::open(file));
  const std::string_view bytes(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size());
  return work.transact([&](Connection& c) -> Status {
    QW_TRY(must_be_empty(c));
    Filler filler(c);
    BackupReader reader;
    // Tables of an older version are a part of today's: what is missing has its default.
    reader.begin = [](int) -> Status { return {}; };
    reader.table = [&](const std::string& name, const std::vector<std::string>& columns) {
      return filler.table(name, columns);
    };
    reader.row = [&](const std::vector<Value>& values) { return filler.row(values); };
    if (auto status = parse_backup(bytes, reader); !status) return in_context(file.string(), status.error());
    return go_on_counting(c);
  });
}

}  // namespace qw::store
