// Records of compute and data ledgers of any bytes: refused with an error, or read without harm.
#include "governance/ledger/compute_ledger.h"
#include "governance/ledger/dataset_ledger.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto lineage = governance::lineage_of(bytes)) {
    QW_CHECK(!lineage->generations.empty());
    for (const auto& one : governance::read_thresholds(*lineage))
      QW_CHECK(governance::level_name(one.level) != nullptr);
  }
  if (const auto ledger = governance::DatasetLedger::parse(bytes)) {
    QW_CHECK(ledger->tokens() >= 0);
    for (const auto& source : ledger->sources()) {
      for (const auto& field : governance::dataset_fields()) (void)governance::field_text(source, field.key);
      (void)governance::missing_fields(source, governance::kAllRegimes);
      (void)governance::warnings_of(source);
    }
  }
  return 0;
}
