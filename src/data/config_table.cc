#include "data/config_table.h"

#include <cmath>
#include <sstream>
#include <toml++/toml.h>

#include "base/file.h"

namespace qw::data {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 4 << 20;  // a configuration is written by hand
constexpr int kMaxDepth = 32;

Result<json::Value> to_json(const toml::node& node, int depth, const std::string& path, KeyLines* lines);

Result<json::Object> to_object(const toml::table& table, int depth, const std::string& path, KeyLines* lines) {
  if (depth > kMaxDepth) return fail(ErrorKind::kBadInput, "nested too deeply");
  json::Object out;
  for (const auto& [key, value] : table) {
    const std::string name = path.empty() ? std::string(key.str()) : path + "." + std::string(key.str());
    if (lines != nullptr) lines->lines[name] = key.source().begin.line;
    QW_ASSIGN(auto item, to_json(value, depth + 1, name, lines));
    out.set(std::string(key.str()), std::move(item));
  }
  return out;
}

Result<json::Value> to_json(const toml::node& node, int depth, const std::string& path, KeyLines* lines) {
  if (depth > kMaxDepth) return fail(ErrorKind::kBadInput, "nested too deeply");
  if (const auto* table = node.as_table()) {
    QW_ASSIGN(auto object, to_object(*table, depth, path, lines));
    return json::Value(std::move(object));
  }
  if (const auto* array = node.as_array()) {
    json::Array out;
    for (const auto& item : *array) {
      const std::string name = path + "[" + std::to_string(out.size()) + "]";
      if (lines != nullptr) lines->lines[name] = item.source().begin.line;
      QW_ASSIGN(auto value, to_json(item, depth + 1, name, lines));
      out.push_back(std::move(value));
    }
    return json::Value(std::move(out));
  }
  if (const auto* s = node.as_string()) return json::Value(s->get());
  if (const auto* i = node.as_integer()) return json::Value(std::int64_t{i->get()});
  if (const auto* f = node.as_floating_point()) return json::Value(f->get());
  if (const auto* b = node.as_boolean()) return json::Value(b->get());
  return fail(ErrorKind::kBadInput, "dates are not used in configurations");
}

}  // namespace

Result<json::Object> parse_toml(std::string_view text, std::string_view name, KeyLines* lines) {
  try {
    const toml::table table = toml::parse(text, std::string(name));
    if (lines != nullptr) *lines = {std::string(name), {}};
    auto object = to_object(table, 0, "", lines);
    if (!object) return in_context(name, std::move(object).error());
    return object;
  } catch (const toml::parse_error& error) {
    std::ostringstream where;
    where << name << ":" << error.source().begin.line << ": " << error.description();
    return fail(ErrorKind::kBadInput, where.str());
  }
}

Result<json::Object> load_toml(const std::filesystem::path& path) {
  QW_ASSIGN(const std::string text, base::read_file(path, kMaxConfigBytes));
  return parse_toml(text, path.string());
}

Status apply_override(json::Object& config, std::string_view assignment) {
  const std::string shown(assignment);
  const std::size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0)
    return fail(ErrorKind::kUsage, "override '" + shown + "' is not of the form key=value");
  std::string_view key = assignment.substr(0, equals);
  const std::string text(assignment.substr(equals + 1));
  json::Value value(text);
  if (auto parsed = parse_toml("v = " + text, "override"); parsed && parsed->size() == 1) value = *parsed->find("v");
  json::Object* table = &config;
  for (;;) {
    const std::size_t dot = key.find('.');
    const std::string part(key.substr(0, dot));
    if (part.empty()) return fail(ErrorKind::kUsage, "override '" + shown + "' has an empty key");
    if (dot == std::string_view::npos) {
      table->set(part, std::move(value));
      return {};
    }
    json::Value* inner = table->find(part);
    if (inner == nullptr) inner = &table->set(part, json::Object());
    if (!inner->is_object()) return fail(ErrorKind::kUsage, "override '" + shown + "': " + part + " is not a table");
    table = &inner->as_object();
    key.remove_prefix(dot + 1);
  }
}

std::string ConfigTable::name(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

const json::Value* ConfigTable::take(std::string_view key) {
  asked_.emplace(key);
  return object_->find(key);
}

tl::unexpected<Error> ConfigTable::error(std::string_view key, std::string_view message) const {
  std::string where;
  if (lines_ != nullptr) {
    // A key that is missing: its table.
    auto at = lines_->lines.find(name(key));
    if (at == lines_->lines.end()) at = lines_->lines.find(path_);
    where = lines_->file + (at == lines_->lines.end() ? "" : ":" + std::to_string(at->second)) + ": ";
  }
  return fail(ErrorKind::kBadInput, where + name(key) + " " + std::string(message));
}

tl::unexpected<Error> ConfigTable::wrong(std::string_view key, const char* expected) const {
  return error(key, std::string("must be ") + expected);
}

Status ConfigTable::read(std::string_view key, bool& out) {
  const json::Value* v = take(key);
  if (v == nullptr) return {};
  if (!v->is_bool()) return wrong(key, "true or false");
  out = v->as_bool();
  return {};
}

Status ConfigTable::read(std::string_view key, std::string& out) {
  const json::Value* v = take(key);
  if (v == nullptr) return {};
  if (!v->is_string()) return wrong(key, "a text");
  out = v->as_string();
  return {};
}

Status ConfigTable::read(std::string_view key, std::int64_t& out, std::int64_t least, std::int64_t most) {
  const json::Value* v = take(key);
  if (v == nullptr) return {};
  if (!v->is_int()) return wrong(key, "a whole number");
  if (v->as_int() < least || v->as_int() > most)
    return wrong(key, ("from " + std::to_string(least) + " to " + std::to_string(most)).c_str());
  out = v->as_int();
  return {};
}

Status ConfigTable::read(std::string_view key, double& out, double least, double most) {
  const json::Value* v = take(key);
  if (v == nullptr) return {};
  if (!v->is_number()) return wrong(key, "a number");
  const double d = v->as_double();
  if (!std::isfinite(d) || d < least || d > most)
    return wrong(key, ("from " + json::python_float(least) + " to " + json::python_float(most)).c_str());
  out = d;
  return {};
}

Status ConfigTable::read(std::string_view key, std::vector<std::string>& out) {
  const json::Value* v = take(key);
  if (v == nullptr) return {};
  out.clear();
  if (v->is_string()) {
    out.push_back(v->as_string());
    return {};
  }
  if (!v->is_array()) return wrong(key, "a text or a list of texts");
  for (const auto& item : v->as_array()) {
    if (!item.is_string()) return wrong(key, "a text or a list of texts");
    out.push_back(item.as_string());
  }
  return {};
}

Status ConfigTable::read_choice(std::string_view key, const std::vector<std::string_view>& names, int& out) {
  std::string text;
  QW_TRY(read(key, text));
  if (!has(key)) return {};
  std::string all;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == text) {
      out = static_cast<int>(i);
      return {};
    }
    all += (i == 0 ? "" : ", ") + std::string(names[i]);
  }
  return wrong(key, ("one of: " + all).c_str());
}

Result<ConfigTable> ConfigTable::table(std::string_view key) {
  QW_ASSIGN(const json::Object* inner, raw_table(key));
  static const json::Object kEmpty;
  return ConfigTable(inner == nullptr ? kEmpty : *inner, name(key), lines_);
}

Result<const json::Object*> ConfigTable::raw_table(std::string_view key) {
  const json::Value* v = take(key);
  if (v == nullptr) return nullptr;
  if (!v->is_object()) return wrong(key, "a table");
  return &v->as_object();
}

Result<std::vector<ConfigTable>> ConfigTable::tables(std::string_view key) {
  const json::Value* v = take(key);
  std::vector<ConfigTable> out;
  if (v == nullptr) return out;
  if (!v->is_array()) return wrong(key, "an array of tables");
  for (const auto& item : v->as_array()) {
    if (!item.is_object()) return wrong(key, "an array of tables");
    out.emplace_back(item.as_object(), name(key) + "[" + std::to_string(out.size()) + "]", lines_);
  }
  return out;
}

Status ConfigTable::finish() const {
  for (const auto& [key, value] : *object_)
    if (!asked_.contains(key)) return lines_ == nullptr ? fail(ErrorKind::kBadInput, "unknown key " + name(key)) : error(key, "is no key of this file");
  return {};
}

}  // namespace qw::data
