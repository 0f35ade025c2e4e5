// Configuration files (TOML) as JSON objects, and a reader that leaves no key unnoticed.
//
// The TOML library hides in the .cc. A ConfigTable hands out values by key with a type and a range; finish() fails if
// the file has a key that nobody asked for, by its full dotted name - a misspelt key never changes nothing silently.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::data {

// Where each key stands: lines by dotted names ("a.b", "a[0].b").
struct KeyLines {
  std::string file;
  std::map<std::string, std::uint32_t, std::less<>> lines;
};

Result<json::Object> load_toml(const std::filesystem::path& path);
// `lines`: filled in if given.
Result<json::Object> parse_toml(std::string_view text, std::string_view name, KeyLines* lines = nullptr);

// Applies one "a.b=c" (as from --set): c is a TOML value (number, true, "text", [..]) or, failing that, plain text.
// Tables on the way are made when absent. Errors: kUsage naming the override.
Status apply_override(json::Object& config, std::string_view assignment);

// Typed look-ups in one table. `path` is its dotted name for messages ("" at the top). With `lines`, messages begin with
// file and line.
class ConfigTable {
 public:
  ConfigTable(const json::Object& object, std::string path, const KeyLines* lines = nullptr)
      : object_(&object), path_(std::move(path)), lines_(lines) {}

  bool has(std::string_view key) const { return object_->find(key) != nullptr; }
  // Each leaves `out` as it is when the key is absent, so the caller's value is the default.
  Status read(std::string_view key, bool& out);
  Status read(std::string_view key, std::string& out);
  Status read(std::string_view key, std::int64_t& out, std::int64_t least, std::int64_t most);
  Status read(std::string_view key, double& out, double least, double most);
  Status read(std::string_view key, std::vector<std::string>& out);
  // One of `names`; out becomes its index.
  Status read_choice(std::string_view key, const std::vector<std::string_view>& names, int& out);
  // A sub-table, or an empty one when absent.
  Result<ConfigTable> table(std::string_view key);
  // An array of tables.
  Result<std::vector<ConfigTable>> tables(std::string_view key);
  // Takes a sub-table as it is (nullptr when absent); its keys are somebody else's to check.
  Result<const json::Object*> raw_table(std::string_view key);
  // Fails when a key of this table was never asked for.
  Status finish() const;
  std::string name(std::string_view key) const;
  // kBadInput about one of its keys: "[file:line: ]name message".
  tl::unexpected<Error> error(std::string_view key, std::string_view message) const;

 private:
  const json::Value* take(std::string_view key);
  tl::unexpected<Error> wrong(std::string_view key, const char* expected) const;
  const json::Object* object_;
  std::string path_;
  const KeyLines* lines_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace qw::data
