// Backups of a store are foreign bytes: whatever they hold, the reader refuses or reads them. The sum at the end would
// keep the fuzzer out, so it is put right here.
#include <cstdint>

#include "base/sha256.h"
#include "store/internal/backup.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw::store;
  std::string bytes = "qianwen-store-backup 1 ";
  bytes.append(reinterpret_cast<const char*>(data), size);
  bytes += "end " + qw::base::sha256_hex(bytes) + "\n";
  BackupReader reader;
  std::size_t columns = 0;
  reader.begin = [](int) -> qw::Status { return {}; };
  reader.table = [&](const std::string&, const std::vector<std::string>& names) -> qw::Status {
    columns = names.size();
    return {};
  };
  reader.row = [&](const std::vector<Value>& values) -> qw::Status {
    if (values.size() != columns) __builtin_trap();
    return {};
  };
  (void)parse_backup(bytes, reader);
  return 0;
}
