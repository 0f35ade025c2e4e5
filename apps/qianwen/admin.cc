#include "admin.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace qw::app {
namespace {

std::string cell(const json::Value& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.as_string().empty() ? "-" : value.as_string();
  if (!value.is_array()) return json::dump(value);
  std::string out;
  for (const json::Value& one : value.as_array()) out += (out.empty() ? "" : ",") + cell(one);
  return out.empty() ? "-" : out;
}

void show_table(const json::Array& rows) {
  if (rows.empty()) return;
  std::vector<std::vector<std::string>> cells(1);
  for (const auto& [key, value] : rows.front().as_object()) cells[0].push_back(key);
  for (const json::Value& row : rows) {
    cells.emplace_back();
    for (const auto& [key, value] : row.as_object()) cells.back().push_back(cell(value));
  }
  std::vector<std::size_t> widths(cells[0].size());
  for (const auto& line : cells)
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  for (const auto& line : cells) {
    std::string text;
    for (std::size_t i = 0; i < line.size(); ++i)
      text += line[i] + std::string(i + 1 == line.size() ? 0 : widths[i] - line[i].size() + 2, ' ');
    std::puts(text.c_str());
  }
}

}  // namespace

std::string store_url(const std::string& given) {
  if (!given.empty()) return given;
  const char* variable = std::getenv("QW_STORE");
  return variable == nullptr ? "" : variable;
}

Result<std::string> store_url_or_default(const std::string& given) {
  if (std::string url = store_url(given); !url.empty()) return url;
  const char* data = std::getenv("XDG_DATA_HOME");
  const char* home = std::getenv("HOME");
  std::filesystem::path folder;
  if (data != nullptr && *data != '\0') {
    folder = data;
  } else if (home != nullptr && *home != '\0') {
    folder = std::filesystem::path(home) / ".local/share";
  } else {
    return fail(ErrorKind::kUsage, "--store is needed: neither XDG_DATA_HOME nor HOME is set");
  }
  folder /= "qianwen";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail(ErrorKind::kFailed, folder.string() + ": " + error.message());
  return (folder / "state.db").string();
}

void show(const json::Value& value, bool json) {
  if (json) {
    std::puts(json::dump(value).c_str());
  } else if (value.is_array()) {
    show_table(value.as_array());
  } else {
    for (const auto& [key, one] : value.as_object()) std::printf("%-20s %s\n", key.c_str(), cell(one).c_str());
  }
}

}  // namespace qw::app
