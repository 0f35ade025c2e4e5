// Any JSON as modules.json, a pooling's configuration or prompts gives a configuration or an error in words, and never a
// folder outside the model's.
#include <string_view>

#include "base/result.h"
#include "formats/embedding_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto value = qw::json::parse({reinterpret_cast<const char*>(data), size});
  if (!value) return 0;
  std::string pooling;
  if (qw::formats::read_modules(*value, pooling)) {
    QW_CHECK(!pooling.empty() && pooling.find('/') == std::string::npos && pooling != "..");
  }
  (void)qw::formats::check_pooling(*value);
  (void)qw::formats::query_prompt(*value);
  return 0;
}
