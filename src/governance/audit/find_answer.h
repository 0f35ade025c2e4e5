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

// The first record whose member `name` is `value` (a text, or a number in digits): every line is looked at. By
// "produce_id" as above. Nothing: there is none.
Result<std::optional<json::Value>> find_record(const std::filesystem::path& log, std::string_view name,
                                               std::string_view value);

// Milliseconds since 1970 of a UUID of version 7.
std::optional<std::int64_t> moment_of(std::string_view produce_id);

}  // namespace qw::governance
