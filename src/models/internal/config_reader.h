// Reads the numbers of a configuration that came from a file: every value is checked, every error names its key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "json/value.h"

namespace qw::models {

// Looks keys up in one object, with a prefix before each key ("" for config.json, "qwen3." for GGUF).
class ConfigReader {
 public:
  ConfigReader(const json::Object& object, std::string prefix) : object_(object), prefix_(std::move(prefix)) {}

  // null counts as absent.
  const json::Value* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  bool holds_null(std::string_view key) const;  // told apart from absent

  // An integer in [low, high]; `otherwise` if the key is absent, an error if there is no otherwise.
  Result<std::int64_t> integer(std::string_view key, std::int64_t low, std::int64_t high,
                               std::optional<std::int64_t> otherwise = {}) const;
  // A finite number in [low, high]; as above. Integers count.
  Result<double> number(std::string_view key, double low, double high, std::optional<double> otherwise = {}) const;
  Result<bool> boolean(std::string_view key, bool otherwise) const;
  Result<std::string> string(std::string_view key, std::optional<std::string> otherwise = {}) const;

  // kBadInput: "<prefix><key>: <what>".
  tl::unexpected<Error> bad(std::string_view key, const std::string& what) const;

 private:
  const json::Object& object_;
  std::string prefix_;
};

}  // namespace qw::models
