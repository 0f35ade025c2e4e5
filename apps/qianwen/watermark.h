// The keys that a service marks its answers with (docs/operations/watermark.md).
#pragma once

#include <memory>
#include <string>

#include "governance/watermark/mark_key.h"

namespace qw::app {

// Null for an empty path. An error: not such a file, or one without a key in use.
Result<std::unique_ptr<governance::MarkKeyHolder>> load_marks(const std::string& path);
// Takes up what the file says now; if that is no good, the keys in use stay, and the log says why.
void reload_marks(const std::string& path, governance::MarkKeyHolder& marks);

}  // namespace qw::app
