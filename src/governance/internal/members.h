// Documents that people write and sign, one JSON object each, strictly read: what is unknown is wrong.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "json/value.h"

namespace qw::governance {

using Words = std::initializer_list<std::string_view>;

// The members of one object, each read once; the first thing that is wrong is kept.
class Members {
 public:
  // `where`: of the object, "" of the whole, which messages call `whole`.
  Members(const json::Value& value, std::string where, Status& wrong, const char* whole = "the profile")
      : where_(std::move(where)), wrong_(wrong), whole_(whole) {
    if (value.is_object())
      object_ = &value.as_object();
    else
      reject("", "must be an object");
  }
  Members(const Members&) = delete;
  Members& operator=(const Members&) = delete;
  ~Members() {
    if (object_ == nullptr) return;
    for (const auto& [name, value] : *object_)
      if (!seen_.contains(name)) reject(name, "is not known here");
  }

  void reject(const std::string& name, const std::string& what) {
    std::string at = where_;
    if (!name.empty()) at += (at.empty() ? "" : ".") + name;
    if (wrong_) wrong_ = fail(ErrorKind::kBadInput, (at.empty() ? whole_ : at) + ": " + what);
  }
  const json::Value* find(const char* name, bool needed = false) {
    seen_.insert(name);
    const json::Value* value = object_ == nullptr ? nullptr : object_->find(name);
    if (value == nullptr && needed && object_ != nullptr) reject(name, "is missing");
    return value;
  }
  void text(const char* name, std::string& out, bool needed = false, std::size_t most = 2000) {
    const json::Value* value = find(name, needed);
    if (value == nullptr) return;
    if (!value->is_string() || value->as_string().size() > most)
      return reject(name, "must be a text of at most " + std::to_string(most) + " bytes");
    out = value->as_string();
  }
  void choice(const char* name, std::string& out, Words known) {
    const json::Value* value = find(name);
    if (value == nullptr) return;
    if (!value->is_string() || std::find(known.begin(), known.end(), value->as_string()) == known.end())
      return reject(name, "must be " + listed(known));
    out = value->as_string();
  }
  void flag(const char* name, bool& out) {
    const json::Value* value = find(name);
    if (value == nullptr) return;
    if (!value->is_bool()) return reject(name, "must be true or false");
    out = value->as_bool();
  }
  void count(const char* name, std::int64_t& out, std::int64_t low, std::int64_t high, bool needed = false) {
    const json::Value* value = find(name, needed);
    if (value == nullptr) return;
    if (!value->is_int() || value->as_int() < low || value->as_int() > high)
      return reject(name, "must be a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    out = value->as_int();
  }
  // Names of small letters, digits, "_" and "-".
  void names(const char* name, std::vector<std::string>& out) {
    const json::Value* value = find(name);
    if (value == nullptr) return;
    if (!value->is_array()) return reject(name, "must be a list of names");
    for (const json::Value& item : value->as_array()) {
      if (!item.is_string() || !is_name(item.as_string())) return reject(name, "must be a list of names");
      if (std::find(out.begin(), out.end(), item.as_string()) != out.end())
        return reject(name, "has " + item.as_string() + " twice");
      out.push_back(item.as_string());
    }
  }
  template <class Read>
  void object(const char* name, Read read) {
    if (const json::Value* value = find(name); value != nullptr) {
      Members inner(*value, under(name), wrong_, whole_);
      if (value->is_object()) read(inner);
    }
  }
  template <class Read>
  void objects(const char* name, Read read, bool needed = false) {
    const json::Value* list = find(name, needed);
    if (list == nullptr) return;
    if (!list->is_array()) return reject(name, "must be a list of objects");
    for (const json::Value& item : list->as_array()) {
      Members inner(item, under(name), wrong_, whole_);
      if (item.is_object()) read(inner);
    }
  }
  std::string under(const std::string& name) const { return where_.empty() ? name : where_ + "." + name; }
  Status& wrong() { return wrong_; }

  static bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= 64 &&
           text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string_view::npos;
  }
  static std::string listed(Words known) {
    std::string out;
    for (auto word = known.begin(); word != known.end(); ++word)
      out += (word == known.begin() ? "" : word + 1 == known.end() ? " or " : ", ") + std::string(*word);
    return out;
  }

 private:
  const json::Object* object_ = nullptr;
  std::string where_;
  Status& wrong_;
  const char* whole_;
  std::set<std::string, std::less<>> seen_;
};

// 2026-11-29.
inline bool is_date(std::string_view text) {
  if (text.size() != 10) return false;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (i == 4 || i == 7 ? text[i] != '-' : text[i] < '0' || text[i] > '9') return false;
  return true;
}

// Whether canonical JSON can hold it: whole numbers, names of ASCII.
inline bool is_plain(const json::Value& value) {
  if (value.is_double()) return false;
  if (value.is_array()) return std::all_of(value.as_array().begin(), value.as_array().end(), is_plain);
  if (!value.is_object()) return true;
  return std::all_of(value.as_object().begin(), value.as_object().end(), [](const json::Member& member) {
    return std::all_of(member.first.begin(), member.first.end(), [](char c) { return c > 0; }) &&
           is_plain(member.second);
  });
}

}  // namespace qw::governance
