// Any JSON object as generation_config.json or GGUF metadata gives settings within their ranges, which say the same when
// they are written and read again, or an error in words.
#include <string_view>

#include "formats/generation_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto value = qw::json::parse({reinterpret_cast<const char*>(data), size});
  if (!value || !value->is_object()) return 0;
  for (const bool gguf : {false, true}) {
    const auto config = qw::formats::parse_generation_config(value->as_object(), gguf);
    if (!config) {
      QW_CHECK(!config.error().message.empty());
      continue;
    }
    QW_CHECK(!config->temperature || (*config->temperature >= 0 && *config->temperature <= 100));
    QW_CHECK(!config->top_k || *config->top_k >= 0);
    const auto again = qw::formats::parse_generation_config(qw::formats::generation_config_json(*config), false);
    QW_CHECK(again.has_value());
    QW_CHECK(again->temperature == config->temperature && again->top_p == config->top_p &&
             again->min_p == config->min_p && again->repetition_penalty == config->repetition_penalty &&
             again->top_k == config->top_k);
  }
  return 0;
}
