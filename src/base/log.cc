#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <string>

namespace qw::base {
namespace {

bool json_lines = false;

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

// With its quotes.
std::string json_text(std::string_view text) {
  std::string out = "\"";
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
  return out + '"';
}

std::string text_of(const LogField& field) {
  if (const auto* text = std::get_if<std::string>(&field.value)) return json_lines ? json_text(*text) : *text;
  if (const auto* number = std::get_if<std::int64_t>(&field.value)) return std::to_string(*number);
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.3f", std::get<double>(field.value));
  return digits;
}

}  // namespace

void configure_log(LogLevel least, bool json) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("qianwen"));
  spdlog::set_level(to_spdlog(least));
  json_lines = json;
  spdlog::set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%v})"
                           : "%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
}

void log(LogLevel level, std::string_view message) {
  if (json_lines) {
    spdlog::log(to_spdlog(level), "{}", json_text(message));
  } else {
    spdlog::log(to_spdlog(level), "{}", message);
  }
}

bool logs(LogLevel level) { return spdlog::should_log(to_spdlog(level)); }

void log(LogLevel level, std::string_view message, std::span<const LogField> fields,
         std::chrono::system_clock::time_point when) {
  std::string line = json_lines ? json_text(message) : std::string(message);
  for (const LogField& field : fields) {
    line += json_lines ? ",\"" : " ";
    line += field.name;
    line += json_lines ? "\":" : "=";
    line += text_of(field);
  }
  spdlog::default_logger_raw()->log(when, spdlog::source_loc{}, to_spdlog(level), line);
}

}  // namespace qw::base
