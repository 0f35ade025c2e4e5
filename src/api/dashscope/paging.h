// How DashScope's lists are asked for, and how it writes times.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "net/http.h"

namespace qw::api::dashscope {

// "2026-11-28 16:00:00.123", in UTC.
std::string time_text(std::int64_t us);

// A number of the query from 1 to `most`; `usual` if it is not there, nothing if it is something else.
std::optional<std::int64_t> page_number(const net::Request& http, const char* name, std::int64_t usual,
                                        std::int64_t most);

}  // namespace qw::api::dashscope
