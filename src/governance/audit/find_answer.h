// The record of an answer by its number (the ProduceID of its label, a UUID of version 7, which begins with the moment
// it was made): found in a log of any length by a search among moments, and the answers of two hours behind that one.
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "json/value.h"

namespace qw::governance {

// Nothing: no record of that time has it. The log may be written at the same time. kUsage: it is no number of this
// program's answers.
Result<std::optional<json::Value>> find_answer(const std::filesystem::path& log, std::string_view produce_id);

// Milliseconds since 1970 of a UUID of version 7.
std::optional<std::int64_t> moment_of(std::string_view produce_id);

}  // namespace qw::governance
