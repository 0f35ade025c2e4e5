#include "governance/audit/find_answer.h"

#include <fstream>
#include <string>

#include "base/utc.h"
#include "governance/audit/log_files.h"

namespace qw::governance {
namespace {

constexpr std::int64_t kLongestAnswer = 2 * 3600, kClockSlack = 60;  // seconds
constexpr std::streamoff kStretch = 1 << 16;                         // is read line by line
constexpr int kLinesBetweenLooks = 64;

std::optional<std::int64_t> seconds_of(const std::string& line) {
  const auto record = json::parse(line);
  const json::Value* ts = record ? record->find("ts") : nullptr;
  return ts != nullptr && ts->is_string() ? base::unix_of_utc(ts->as_string()) : std::nullopt;
}

// A place at or before the first line that is of `from` or later.
std::streamoff place_of(std::ifstream& in, std::streamoff size, std::int64_t from) {
  std::streamoff low = 0, high = size;
  std::string line;
  while (high - low > kStretch) {
    const std::streamoff middle = low + (high - low) / 2;
    in.clear();
    in.seekg(middle);
    std::getline(in, line);  // the rest of one
    std::getline(in, line);
    const auto at = in ? seconds_of(line) : std::nullopt;
    if (at && *at < from)
      low = middle;
    else
      high = middle;
  }
  return low;
}

bool is_of(const json::Value& record, std::string_view produce_id) {
  const json::Value* number = record.find("produce_id");
  return number != nullptr && number->is_string() && number->as_string() == produce_id;
}

}  // namespace

std::optional<std::int64_t> moment_of(std::string_view id) {
  constexpr std::size_t kLength = 36, kVersionAt = 14;
  if (id.size() != kLength || id[kVersionAt] != '7') return std::nullopt;
  std::int64_t ms = 0;
  int digits = 0;
  for (std::size_t i = 0; i < id.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    const char c = id[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (dash ? c != '-' : digit < 0) return std::nullopt;
    if (!dash && digits++ < 12) ms = ms * 16 + digit;
  }
  return ms;
}

Result<std::optional<json::Value>> find_answer(const std::filesystem::path& log, std::string_view id) {
  const auto ms = moment_of(id);
  if (!ms) return fail(ErrorKind::kUsage, "numbers of answers are UUIDs of version 7, in small letters");
  const auto path = log / kRecordsFile;
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return fail(ErrorKind::kFailed, path.string() + ": cannot be read");
  const std::int64_t made = *ms / 1000;
  const std::streamoff from = place_of(in, in.tellg(), made - kClockSlack);
  in.clear();
  in.seekg(from);
  std::string line;
  if (from > 0) std::getline(in, line);
  for (int n = 0; std::getline(in, line); ++n) {
    if (line.find(id) != std::string::npos)
      if (auto record = json::parse(line); record && is_of(*record, id)) return std::optional(std::move(*record));
    if (n % kLinesBetweenLooks != 0) continue;
    if (const auto at = seconds_of(line); at && *at > made + kLongestAnswer) break;
  }
  return std::optional<json::Value>();
}

Result<std::optional<json::Value>> find_record(const std::filesystem::path& log, std::string_view name,
                                               std::string_view value) {
  if (name == "produce_id") return find_answer(log, value);
  const auto path = log / kRecordsFile;
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(ErrorKind::kFailed, path.string() + ": cannot be read");
  std::string line;
  while (std::getline(in, line)) {
    if (line.find(value) == std::string::npos) continue;
    auto record = json::parse(line);
    const json::Value* found = record ? record->find(name) : nullptr;
    if (found == nullptr) continue;
    if (found->is_string() ? found->as_string() == value : json::dump(*found) == value)
      return std::optional(std::move(*record));
  }
  return std::optional<json::Value>();
}

}  // namespace qw::governance
