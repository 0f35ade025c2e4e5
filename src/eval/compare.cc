#include "eval/compare.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "eval/items.h"

namespace qw::eval {
namespace {

struct Row {
  std::string id;
  double a = 0, b = 0;
};

std::string text_of(const json::Object& record, std::string_view key) {
  const json::Value* v = record.find(key);
  return v != nullptr && v->is_string() ? v->as_string() : "";
}

}  // namespace

Result<std::vector<Comparison>> compare_samples(const std::vector<json::Object>& a,
                                                const std::vector<json::Object>& b) {
  std::map<std::pair<std::string, std::string>, const json::Object*> of_b;
  for (const json::Object& record : b) of_b[{text_of(record, "task"), text_of(record, "id")}] = &record;
  std::vector<std::pair<std::pair<std::string, std::string>, std::vector<Row>>>
      tables;  // by task and measure, as they come
  for (const json::Object& record : a) {
    const std::string task = text_of(record, "task"), id = text_of(record, "id");
    const auto other = of_b.find({task, id});
    if (other == of_b.end()) continue;
    if (text_of(record, "digest") != text_of(*other->second, "digest"))
      return fail(ErrorKind::kBadInput,
                  task + " " + id +
                      ": the two were asked different questions: the same items, examples and template are needed");
    const json::Value *left = record.find("values"), *right = other->second->find("values");
    if (left == nullptr || !left->is_object() || right == nullptr)
      return fail(ErrorKind::kBadInput, task + " " + id + ": a record without values");
    for (const auto& [measure, value] : left->as_object()) {
      const json::Value* theirs = right->find(measure);
      if (theirs == nullptr || !theirs->is_number() || !value.is_number()) continue;
      const std::pair key{task, measure};
      auto table = std::find_if(tables.begin(), tables.end(), [&](const auto& t) { return t.first == key; });
      if (table == tables.end()) table = tables.insert(tables.end(), {key, {}});
      table->second.push_back({id, value.as_double(), theirs->as_double()});
    }
  }
  if (tables.empty()) return fail(ErrorKind::kBadInput, "the two have no question in common");
  std::vector<Comparison> out;
  for (const auto& [key, rows] : tables) {
    Comparison c{key.first, key.second, static_cast<std::int64_t>(rows.size()), 0, 0, {}, {}, {}};
    std::vector<double> left, right;
    for (const Row& row : rows) {
      left.push_back(row.a);
      right.push_back(row.b);
      if (row.b > row.a) c.better.push_back(row.id);
      if (row.b < row.a) c.worse.push_back(row.id);
    }
    c.a = mean_of(left, -HUGE_VAL, HUGE_VAL).value;
    c.b = mean_of(right, -HUGE_VAL, HUGE_VAL).value;
    c.paired = compare(left, right);
    out.push_back(std::move(c));
  }
  return out;
}

Result<std::vector<json::Object>> parse_samples(std::string_view text, const std::string& name) {
  QW_ASSIGN(auto items, parse_items(text, name.ends_with(".jsonl") ? name : name + ".jsonl", {}));
  std::vector<json::Object> out;
  for (Item& item : items) {
    if (text_of(item.fields, "task").empty() || text_of(item.fields, "id").empty())
      return fail(ErrorKind::kBadInput, item.where + ": is no sample: it lacks task or id");
    out.push_back(std::move(item.fields));
  }
  return out;
}

}  // namespace qw::eval
