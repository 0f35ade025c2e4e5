// Configurations of any bytes, and overrides: an error that says something, or values within their ranges.
#include <string_view>

#include "data/build.h"
#include "data/config_table.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace qw;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto line = text.substr(0, text.find('\n'));
  json::Object object;
  if (auto parsed = data::parse_toml(text, "fuzz")) object = std::move(*parsed);
  if (const auto status = data::apply_override(object, line); !status) QW_CHECK(!status.error().message.empty());
  object.erase("chat_template");  // names a file to read
  const auto config = data::data_config(object, "corpus");
  if (!config) {
    QW_CHECK(!config.error().message.empty());
    return 0;
  }
  for (const auto& source : config->sources) QW_CHECK(source.heldout_tail >= 0 && source.heldout_tail <= 1);
  return 0;
}
