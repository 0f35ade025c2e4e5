// The tables, as numbered steps forward. A step that was released is never changed: what comes later is a new step.
#pragma once

#include "store/internal/database.h"

namespace qw::store {

// The version this program works with: the number of steps.
int latest_version();
// 0 for an empty database.
Result<int> version_of(Connection& connection);
// Applies what is missing up to `version`, each step in a transaction of its own; several processes may do it at once.
// kBadInput if the database is newer than this program.
Status migrate(Connection& connection, int version = latest_version());

// Tables in an order in which rows may be inserted, with their columns, as of the latest version (for backups). The
// first `key` columns are the primary key; that of a table which `counts` is a number given by the database.
struct TableInfo {
  const char* name;
  std::vector<const char*> columns;
  std::size_t key = 1;
  bool counts = false;
};
const std::vector<TableInfo>& tables();

}  // namespace qw::store
