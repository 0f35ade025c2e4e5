#include "base/utc.h"

#include <array>
#include <chrono>
#include <ctime>

namespace qw::base {
namespace {

// Digits of a fixed width at `at`.
std::optional<int> digits(std::string_view text, std::size_t at, std::size_t width) {
  if (text.size() < at + width) return std::nullopt;
  int out = 0;
  for (std::size_t i = at; i < at + width; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    out = out * 10 + (text[i] - '0');
  }
  return out;
}

std::optional<std::int64_t> clock_seconds(std::string_view text, std::size_t at) {
  const auto h = digits(text, at, 2), m = digits(text, at + 3, 2);
  if (!h || !m || text[at + 2] != ':' || *h > 23 || *m > 59) return std::nullopt;
  return std::int64_t{*h} * 3600 + *m * 60;
}

}  // namespace

std::string utc_text(std::int64_t unix_seconds) {
  const std::time_t seconds = unix_seconds;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 40> out{};
  return {out.data(), std::strftime(out.data(), out.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

std::optional<std::int64_t> unix_of_utc(std::string_view text) {
  using namespace std::chrono;
  const auto y = digits(text, 0, 4), mo = digits(text, 5, 2), d = digits(text, 8, 2);
  if (!y || !mo || !d || text[4] != '-' || text[7] != '-') return std::nullopt;
  const year_month_day date{year{*y}, month{static_cast<unsigned>(*mo)}, day{static_cast<unsigned>(*d)}};
  if (!date.ok()) return std::nullopt;
  std::int64_t out = sys_days{date}.time_since_epoch() / seconds{1};
  if (text.size() == 10) return out;
  if (text.size() < 20 || text[10] != 'T' || text[16] != ':') return std::nullopt;
  const auto time = clock_seconds(text, 11);
  const auto s = digits(text, 17, 2);
  if (!time || !s || *s > 59) return std::nullopt;
  out += *time + *s;
  std::size_t at = 19;
  if (text[at] == '.') {
    const std::size_t from = ++at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    if (at == from) return std::nullopt;
  }
  const std::string_view zone = text.substr(at);
  if (zone == "Z") return out;
  if (zone.size() != 6 || (zone[0] != '+' && zone[0] != '-')) return std::nullopt;
  const auto offset = clock_seconds(zone, 1);
  if (!offset) return std::nullopt;
  return zone[0] == '+' ? out - *offset : out + *offset;
}

}  // namespace qw::base
