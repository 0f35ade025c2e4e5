// A whole database as one file, the same for both engines.
//
// Form: the line "qianwen-store-backup 1 <version of the tables>"; for each table the line "table <name> <column> ...",
// then rows, each a value after the other and a newline: "n" null, "i<decimal>;", "t<length>:<bytes>" text,
// "b<length>:<bytes>" bytes; at the end "end <SHA-256 of everything before this line>".
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "store/internal/work.h"

namespace qw::store {

Status write_backup(Work& work, const std::filesystem::path& file);
Status read_backup(Work& work, const std::filesystem::path& file);

// The reader alone. `table` is called for each, then `row` for each row; both may fail. kBadInput with the offset of
// what is wrong; nothing is believed before the sum at the end was checked.
struct BackupReader {
  std::function<Status(int version)> begin;
  std::function<Status(const std::string& name, const std::vector<std::string>& columns)> table;
  std::function<Status(const std::vector<Value>& values)> row;
};
Status parse_backup(std::string_view bytes, const BackupReader& reader);

}  // namespace qw::store
