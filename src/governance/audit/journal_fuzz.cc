// Any bytes are a journal of some batches: their bytes lie in it, and what a log wrote is told as it was written.
#include <cstdint>
#include <string>

#include "governance/audit/journal.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw::governance;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::size_t told = 0;
  for (const JournalBatch& batch : read_journal(bytes)) {
    told += batch.records.size() + batch.head.size();
    QW_CHECK(bytes.find(batch.records) != std::string_view::npos && bytes.find(batch.head) != std::string_view::npos);
  }
  QW_CHECK(told <= size);
  return 0;
}
