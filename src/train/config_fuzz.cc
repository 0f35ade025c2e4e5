// Training recipes of any bytes: an error that says something, or a schedule that stays within [0, 1].
#include <string_view>

#include "data/config_table.h"
#include "train/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  const auto parsed = data::parse_toml({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!parsed) return 0;
  const auto config = train::train_config(*parsed);
  if (!config) {
    QW_CHECK(!config.error().message.empty());
    return 0;
  }
  for (const std::int64_t step : {std::int64_t{0}, config->steps / 2, config->steps - 1, config->steps}) {
    const double factor = train::schedule_factor(config->schedule, step, config->steps);
    QW_CHECK(factor >= 0 && factor <= 1);
  }
  return 0;
}
