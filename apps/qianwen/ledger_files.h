// Where the ledgers of data and models lie, and their contents.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/result.h"
#include "governance/ledger/dataset_ledger.h"
#include "json/value.h"

namespace qw::app {

struct LedgerFiles {
  std::optional<std::filesystem::path> compute, data;
};

// Beside a model: compute.json in its folder, or the file's name with .compute.json behind it.
std::filesystem::path compute_file_of(const std::filesystem::path& model);
// Of a folder (ledger.json, data_ledger.json, compute.json), a model's file, or one of these files itself. kUsage:
// there is neither.
Result<LedgerFiles> find_ledgers(const std::filesystem::path& path);

Result<json::Value> read_compute(const std::filesystem::path& file);
Result<governance::DatasetLedger> read_data_ledger(const std::filesystem::path& file);

}  // namespace qw::app
