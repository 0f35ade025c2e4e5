// Whatever parses must dump, parse again to the same value, and dump to the same bytes.
#include <cstddef>
#include <cstdint>

#include "json/value.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto value = qw::json::parse({reinterpret_cast<const char*>(data), size});
  if (!value) return 0;
  for (const auto& style : {qw::json::WriteStyle{}, qw::json::WriteStyle::compact(),
                            qw::json::WriteStyle{.indent = 1, .ensure_ascii = true}}) {
    const std::string text = qw::json::dump(*value, style);
    const auto again = qw::json::parse(text);
    QW_CHECK(again.has_value());
    QW_CHECK(*again == *value);
    QW_CHECK(qw::json::dump(*again, style) == text);
  }
  return 0;
}
