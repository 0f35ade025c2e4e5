// What people state about a source beside its files: who it is from, how and when it was collected, what rights and
// whose data are in it. It goes into the ledger as it was given; what nobody stated is not there, and never made up.
#pragma once

#include "data/config_table.h"

namespace qw::data {

// A table [source.provenance] of a data configuration (docs/formats/data_config.md). kBadInput naming the key.
Result<json::Object> read_provenance(ConfigTable table);
// The table [dataset].
Result<json::Object> read_dataset_facts(ConfigTable table);

}  // namespace qw::data
