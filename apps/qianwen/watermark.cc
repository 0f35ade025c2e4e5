#include "watermark.h"

#include <algorithm>

#include "base/log.h"

namespace qw::app {
namespace {

// A service that was told to mark must not find itself without a key for those who have none of their own.
Result<governance::MarkKeys> usable(const std::string& path) {
  QW_ASSIGN(governance::MarkKeys keys, governance::MarkKeys::read(path));
  if (keys.of("") == nullptr)
    return fail(ErrorKind::kBadInput, path + ": no key without a tenant is in use (qianwen govern watermark add)");
  return keys;
}

}  // namespace

Result<std::unique_ptr<governance::MarkKeyHolder>> load_marks(const std::string& path) {
  if (path.empty()) return std::unique_ptr<governance::MarkKeyHolder>();
  QW_ASSIGN(governance::MarkKeys keys, usable(path));
  return std::make_unique<governance::MarkKeyHolder>(std::move(keys));
}

void reload_marks(const std::string& path, governance::MarkKeyHolder& marks) {
  auto keys = usable(path);
  if (!keys) return base::log_error("the watermark keys in use stay: " + keys.error().message);
  marks.replace(std::move(*keys));
  base::log_info("watermark key for new answers: " + marks.now()->of("")->id);
}

}  // namespace qw::app
