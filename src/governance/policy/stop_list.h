// What an operator has stopped, in a file of its own, so that it outlives the service: all that answers, a model with
// its adapters, one adapter, or what a project asks. Values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::governance {

struct Stop {
  enum class What : std::uint8_t { kAll, kModel, kAdapter, kProject };
  What what = What::kAll;
  std::string name;  // "" of kAll
  std::string by, reason;
  std::int64_t since = 0;  // Unix seconds
  bool same_as(const Stop& other) const { return what == other.what && name == other.name; }
};
const char* name_of(Stop::What what);  // "all", "model", "adapter", "project"
std::optional<Stop::What> stop_named(std::string_view name);
json::Object to_json(const Stop& stop);
std::string description(const Stop& stop);  // "the model mini"

class StopList {
 public:
  // kBadInput: not such a file.
  static Result<StopList> parse(std::string_view file);
  static Result<StopList> read(const std::filesystem::path& path);  // no file: nothing is stopped
  Status write(const std::filesystem::path& path) const;
  std::string dump() const;

  const std::vector<Stop>& all() const { return stops_; }
  bool add(Stop stop);            // false: it was stopped already, and stays as it is
  bool remove(const Stop& stop);  // false: it was not
  // What stops this; null: nothing does. `base`: of an adapter the model it changes.
  const Stop* hit(std::string_view model, std::string_view base, std::string_view project) const;

 private:
  std::vector<Stop> stops_;
};

// Stops or releases in a file, alone among all processes that do (they wait for each other at FILE.lock): the list
// after; nullopt: that is how it was. kBadInput, kFailed: the file cannot be read or written, and is as it was.
Result<std::optional<StopList>> change_stops(const std::filesystem::path& path, Stop stop, bool stopped);

}  // namespace qw::governance
