#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <string>

namespace qw::base {
namespace {

bool json_lines = false;

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::string escape_json(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (u < 0x20) {
      out += "\\u00";
      out += "0123456789abcdef"[u >> 4];
      out += "0123456789abcdef"[u & 15];
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

void configure_log(LogLevel least, bool json) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("qianwen"));
  spdlog::set_level(to_spdlog(least));
  json_lines = json;
  spdlog::set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":"%v"})"
                           : "%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
}

void log(LogLevel level, std::string_view message) {
  if (json_lines) {
    spdlog::log(to_spdlog(level), "{}", escape_json(message));
  } else {
    spdlog::log(to_spdlog(level), "{}", message);
  }
}

}  // namespace qw::base
