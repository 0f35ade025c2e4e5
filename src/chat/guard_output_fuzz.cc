// Any model output gives a verdict or an error; a verdict needs its line, and what a model adds in front changes nothing.
#include <cstdint>

#include "chat/guard_output.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto verdict = qw::chat::parse_guard_output(text);
  if (verdict) {
    QW_CHECK(text.find("Safety:") != std::string::npos);
    for (const std::string& category : verdict->categories) QW_CHECK(!category.empty() && category != "None");
  }
  const auto longer = qw::chat::parse_guard_output("<think>\n</think>\n" + text);
  QW_CHECK(longer.has_value() == verdict.has_value() && (!verdict || longer->categories == verdict->categories));
  return 0;
}
