#include "api/dashscope/paging.h"

#include <charconv>
#include <cstdio>
#include <ctime>

#include "base/clock.h"

namespace qw::api::dashscope {

std::string time_text(std::int64_t us) {
  const std::time_t seconds = us / base::kSecondUs;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  const auto n = std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
  std::snprintf(text + n, sizeof(text) - n, ".%03d", static_cast<int>(us / 1000 % 1000));
  return text;
}

std::optional<std::int64_t> page_number(const net::Request& http, const char* name, std::int64_t usual,
                                        std::int64_t most) {
  const auto text = net::query_value(http.query, name);
  if (!text) return usual;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  const bool fine = error == std::errc() && end == text->data() + text->size() && value >= 1 && value <= most;
  return fine ? std::optional(value) : std::nullopt;
}

}  // namespace qw::api::dashscope
