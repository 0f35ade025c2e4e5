// Log lines for the person who runs the service. spdlog hides behind it; library rooms below level 4 do not log.
#pragma once

#include <string_view>

namespace qw::base {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// To standard error; `json` writes one JSON object a line. Call once from main before any thread starts.
void configure_log(LogLevel least, bool json);
void log(LogLevel level, std::string_view message);
inline void log_debug(std::string_view m) { log(LogLevel::kDebug, m); }
inline void log_info(std::string_view m) { log(LogLevel::kInfo, m); }
inline void log_warning(std::string_view m) { log(LogLevel::kWarning, m); }
inline void log_error(std::string_view m) { log(LogLevel::kError, m); }

}  // namespace qw::base
