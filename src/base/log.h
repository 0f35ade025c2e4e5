// Log lines for the person who runs the service. spdlog hides behind it; library rooms below level 4 do not log.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace qw::base {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// To standard error; `json` writes one JSON object a line. Call once from main before any thread starts.
void configure_log(LogLevel least, bool json);
void log(LogLevel level, std::string_view message);
inline void log_debug(std::string_view m) { log(LogLevel::kDebug, m); }
inline void log_info(std::string_view m) { log(LogLevel::kInfo, m); }
inline void log_warning(std::string_view m) { log(LogLevel::kWarning, m); }
inline void log_error(std::string_view m) { log(LogLevel::kError, m); }

// Whether a message of that level is written at all.
bool logs(LogLevel level);

// A message with fields, as of `when`: members of the line's object (names are plain words, other than time, level and
// message), or "name=value" behind the message.
struct LogField {
  std::string_view name;
  std::variant<std::string, std::int64_t, double> value;
};
void log(LogLevel level, std::string_view message, std::span<const LogField> fields,
         std::chrono::system_clock::time_point when);

}  // namespace qw::base
