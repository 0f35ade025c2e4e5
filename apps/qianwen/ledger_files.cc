#include "ledger_files.h"

#include "base/file.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBytes = 64 << 20;

std::string format_of(const json::Value& value) {
  const json::Value* format = value.find("format");
  return format != nullptr && format->is_string() ? format->as_string() : "";
}

}  // namespace

fs::path compute_file_of(const fs::path& model) {
  std::error_code code;
  return fs::is_directory(model, code) ? model / "compute.json" : fs::path(model.string() + ".compute.json");
}

Result<json::Value> read_compute(const fs::path& file) {
  QW_ASSIGN(const std::string text, base::read_file(file, kMostBytes));
  auto value = json::parse(text);
  if (!value) return in_context(file.string(), std::move(value).error());
  return value;
}

Result<governance::DatasetLedger> read_data_ledger(const fs::path& file) {
  QW_ASSIGN(const std::string text, base::read_file(file, kMostBytes));
  auto ledger = governance::DatasetLedger::parse(text);
  if (!ledger) return in_context(file.string(), std::move(ledger).error());
  return ledger;
}

Result<LedgerFiles> find_ledgers(const fs::path& path) {
  LedgerFiles out;
  std::error_code code;
  if (!fs::exists(path, code)) return fail(ErrorKind::kUsage, path.string() + ": no such file or folder");
  if (path.extension() == ".json" && fs::is_regular_file(path, code)) {
    QW_ASSIGN(const auto value, read_compute(path));
    (format_of(value) == "qianwen-ledger-1" ? out.data : out.compute) = path;
    return out;
  }
  if (const fs::path compute = compute_file_of(path); fs::exists(compute, code)) out.compute = compute;
  if (fs::is_directory(path, code)) {
    for (const char* name : {"ledger.json", "data_ledger.json"})
      if (!out.data && fs::exists(path / name, code)) out.data = path / name;
  } else if (const fs::path data = path.string() + ".data_ledger.json"; fs::exists(data, code)) {
    out.data = data;
  }
  if (!out.compute && !out.data)
    return fail(ErrorKind::kUsage,
                path.string() +
                    ": no ledger there (compute.json, ledger.json or data_ledger.json); govern ledger add states one");
  return out;
}

}  // namespace qw::app
