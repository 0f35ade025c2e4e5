// Jinja's filters on sequences. Those that are generators in Python are lazy here too: arguments are looked at, and
// items computed, when the first item is asked for.
#include <algorithm>

#include "chat/internal/filters.h"
#include "chat/internal/text.h"

namespace qw::chat::internal {

namespace {

// "a.b.0" as the steps of environment.getitem; an integer attribute is one step.
Result<std::vector<Value>> attribute_path(Interpreter& in, const Value& attribute) {
  std::vector<Value> path;
  if (attribute.is_missing() || attribute.is(Kind::kNone)) return path;
  if (!attribute.is_string()) {
    path.push_back(attribute);
    return path;
  }
  for (std::string& part : split_on(attribute.text(), ".", -1)) {
    const bool digits = !part.empty() && part.size() < 18 &&
                        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    path.push_back(digits ? Value::integer(std::stoll(part)) : Value::string(std::move(part)));
  }
  QW_TRY(in.work(static_cast<double>(path.size())));
  return path;
}

Result<Value> follow(Interpreter& in, Value item, const std::vector<Value>& path, const Value& otherwise = Value()) {
  for (const Value& part : path) {
    QW_TRY(in.work(1));
    QW_ASSIGN(item, in.item(item, part));
    if (item.is_undefined() && !otherwise.is_missing() && !otherwise.is(Kind::kNone)) item = otherwise;
  }
  return item;
}

// A generator: `start` runs at the first request and gives the function that makes the items.
Result<Value> lazily(Interpreter& in, const Value& over, std::function<Result<Interpreter::Source>()> start) {
  auto made = std::make_shared<Interpreter::Source>();
  auto over_now = std::make_shared<bool>(false);
  return in.iterator(
      [start = std::move(start), made, over_now]() -> Result<Value> {
        if (*over_now) return Value();
        if (!*made) {
          QW_ASSIGN(*made, start());
        }
        QW_ASSIGN(Value item, (*made)());
        *over_now = item.is_missing();
        return item;
      },
      over);
}

Interpreter::Source nothing() {
  return []() -> Result<Value> { return Value(); };
}

Value ignore_case(const Value& v, bool case_sensitive) {
  return v.is_string() && !case_sensitive ? Value::string(lower(v.text())) : v;
}

Result<Value> list_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "list", args, {}, 0, nullptr));
  QW_ASSIGN(Values items, in.iterate(v));
  return in.list(std::move(items));
}

Result<Value> items_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "items", args, {}, 0, nullptr));
  return lazily(in, v, [&in, v]() -> Result<Interpreter::Source> {
    if (v.is_undefined()) return nothing();
    if (!v.is(Kind::kDict)) return in.fail("Can only get item pairs from a mapping.");
    return in.source(Value::view(v, 'i'));
  });
}

Result<Value> first_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "first", args, {}, 0, nullptr));
  QW_ASSIGN(const Interpreter::Source next, in.source(v));
  QW_ASSIGN(Value item, next());
  return item.is_missing() ? Value::undefined("No first item, sequence was empty.") : item;
}

Status reversible(Interpreter& in, const Value& v) {
  if (v.is(Kind::kIterator)) return in.fail("'generator' object is not reversible");
  return {};
}

Result<Value> last_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "last", args, {}, 0, nullptr));
  QW_TRY(reversible(in, v));
  QW_ASSIGN(Values items, in.iterate(v));
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Result<Value> reverse_filter(Interpreter& in, const Value& v, Args& args) {
  QW_TRY(take_args(in, "reverse", args, {}, 0, nullptr));
  if (v.is_string()) return slice(in, v, Value::none(), Value::none(), Value::integer(-1));
  QW_ASSIGN(Values items, in.iterate(v));
  std::reverse(items.begin(), items.end());
  if (v.is(Kind::kIterator)) return in.list(std::move(items));  // Python cannot reverse it without reading it all
  QW_ASSIGN(const Value reversed, in.list(std::move(items)));
  QW_ASSIGN(const Interpreter::Source next, in.source(reversed));
  return in.iterator(next, reversed);
}

Result<Value> join_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[2];
  QW_TRY(take_args(in, "join", args, {"d", "attribute"}, 0, out));
  std::string separator;
  if (!out[0].is_missing()) {
    QW_ASSIGN(separator, in.text(out[0]));
  }
  QW_ASSIGN(const auto path, attribute_path(in, out[1]));
  QW_ASSIGN(const Values items, in.iterate(v));
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i) {
    QW_ASSIGN(const Value item, follow(in, items[i], path));
    QW_ASSIGN(const std::string piece, in.text(item));
    QW_TRY(in.room(piece.size() + separator.size()));
    if (i > 0) text += separator;
    text += piece;
    if (text.size() > in.limits().max_output_bytes)
      return in.fail("template makes too much text");
  }
  return in.string(std::move(text));
}

Result<Interpreter::Source> start_map(Interpreter& in, const Value& v, Args args) {
  if (!truthy(v)) return nothing();
  const auto by_attribute =
      std::any_of(args.named.begin(), args.named.end(), [](const auto& n) { return n.first == "attribute"; });
  if (args.positional.empty() && by_attribute) {
    Value named[2];
    QW_TRY(take_args(in, "map", args, {"attribute", "default"}, 1, named));
    QW_ASSIGN(const auto path, attribute_path(in, named[0]));
    QW_ASSIGN(const Interpreter::Source next, in.source(v));
    return Interpreter::Source([&in, path, next, otherwise = named[1]]() -> Result<Value> {
      QW_ASSIGN(Value item, next());
      if (item.is_missing()) return item;
      return follow(in, std::move(item), path, otherwise);
    });
  }
  if (args.positional.empty()) return in.fail("map requires a filter argument");
  QW_ASSIGN(const std::string name, in.text(args.positional[0]));
  args.positional.erase(args.positional.begin());
  QW_ASSIGN(const Interpreter::Source next, in.source(v));
  return Interpreter::Source([&in, name, args, next]() -> Result<Value> {
    QW_ASSIGN(Value item, next());
    if (item.is_missing()) return item;
    QW_TRY(in.work(1));
    Args rest = args;
    return in.filter(name, item, rest);
  });
}

Result<Value> map_filter(Interpreter& in, const Value& v, Args& args) {
  return lazily(in, v, [&in, v, args] { return start_map(in, v, args); });
}

struct Selection {
  std::vector<Value> path;
  std::string test;  // empty: truth
  Args args;
  Interpreter::Source next;
};

Result<bool> selected(Interpreter& in, const Selection& s, const Value& item) {
  QW_TRY(in.work(1));
  QW_ASSIGN(const Value tested, follow(in, item, s.path));
  if (s.test.empty()) return truthy(tested);
  Args args = s.args;
  return in.test(s.test, tested, args);
}

Result<Interpreter::Source> start_select(Interpreter& in, const Value& v, Args args, bool keep, bool by_attribute) {
  if (!truthy(v)) return nothing();
  Selection s;
  if (by_attribute) {
    if (args.positional.empty()) return in.fail("Missing parameter for attribute name");
    QW_ASSIGN(s.path, attribute_path(in, args.positional[0]));
    args.positional.erase(args.positional.begin());
  }
  if (!args.positional.empty()) {
    QW_ASSIGN(s.test, in.text(args.positional[0]));
    args.positional.erase(args.positional.begin());
  }
  s.args = std::move(args);
  QW_ASSIGN(s.next, in.source(v));
  return Interpreter::Source([&in, s = std::move(s), keep]() -> Result<Value> {
    for (;;) {
      QW_ASSIGN(Value item, s.next());
      if (item.is_missing()) return item;
      QW_ASSIGN(const bool yes, selected(in, s, item));
      if (yes == keep) return item;
    }
  });
}

// select, reject, selectattr, rejectattr.
template <bool kKeep, bool kByAttribute>
Result<Value> select_filter(Interpreter& in, const Value& v, Args& args) {
  return lazily(in, v, [&in, v, args] { return start_select(in, v, args, kKeep, kByAttribute); });
}

// Sorts `rows` by key with Python's ordering; a comparison error stops it.
Status sort_rows(Interpreter& in, std::vector<std::pair<Value, Value>>* rows, bool reverse) {
  Status status;
  const auto less = [&](const auto& a, const auto& b) {
    if (!status) return false;
    auto r = in.compare("<", reverse ? b.first : a.first, reverse ? a.first : b.first);
    if (!r) {
      status = tl::unexpected(r.error());
      return false;
    }
    return *r;
  };
  QW_TRY(in.work(static_cast<double>(rows->size())));
  // A merge sort stays within bounds even where Python's order is not a strict weak one (NaN, failed comparisons).
  std::stable_sort(rows->begin(), rows->end(), less);
  return status;
}

Result<Value> keys_of(Interpreter& in, const Value& item, const std::vector<std::vector<Value>>& paths,
                      bool sensitive) {
  Values keys;
  for (const auto& path : paths) {
    QW_ASSIGN(Value key, follow(in, item, path));
    keys.push_back(ignore_case(key, sensitive));
  }
  return in.list(std::move(keys));
}

Result<Value> sort_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[3];
  QW_TRY(take_args(in, "sort", args, {"reverse", "case_sensitive", "attribute"}, 0, out));
  std::vector<std::vector<Value>> paths;
  if (out[2].is_string()) {
    for (std::string& part : split_on(out[2].text(), ",", -1)) {
      QW_ASSIGN(auto path, attribute_path(in, Value::string(std::move(part))));
      paths.push_back(std::move(path));
    }
  } else {
    QW_ASSIGN(auto path, attribute_path(in, out[2]));
    paths.push_back(std::move(path));
  }
  QW_ASSIGN(const Values items, in.iterate(v));
  std::vector<std::pair<Value, Value>> rows;
  for (const Value& item : items) {
    QW_ASSIGN(Value keys, keys_of(in, item, paths, truthy(out[1])));
    rows.emplace_back(std::move(keys), item);
  }
  QW_TRY(sort_rows(in, &rows, truthy(out[0])));
  Values sorted;
  for (auto& row : rows) sorted.push_back(std::move(row.second));
  return in.list(std::move(sorted));
}

Result<Value> dictsort_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[3];
  QW_TRY(take_args(in, "dictsort", args, {"case_sensitive", "by", "reverse"}, 0, out));
  const std::string by = out[1].is_missing() ? "key" : out[1].is_string() ? out[1].text() : "";
  if (by != "key" && by != "value") return in.fail("You can only sort by either \"key\" or \"value\"");
  if (v.is_undefined()) return in.fail(v.text());
  if (!v.is(Kind::kDict)) return in.fail("dictsort needs a mapping");
  std::vector<std::pair<Value, Value>> rows;
  for (const auto& [key, value] : v.dict().items) {
    QW_ASSIGN(Value pair, in.tuple({key, value}));
    rows.emplace_back(ignore_case(by == "key" ? key : value, truthy(out[0])), std::move(pair));
  }
  QW_TRY(sort_rows(in, &rows, truthy(out[2])));
  Values sorted;
  for (auto& row : rows) sorted.push_back(std::move(row.second));
  return in.list(std::move(sorted));
}

Result<Interpreter::Source> start_unique(Interpreter& in, const Value& v, Args args) {
  Value out[2];
  QW_TRY(take_args(in, "unique", args, {"case_sensitive", "attribute"}, 0, out));
  QW_ASSIGN(const auto path, attribute_path(in, out[1]));
  QW_ASSIGN(const Interpreter::Source next, in.source(v));
  auto seen = std::make_shared<Dict>();
  return Interpreter::Source([&in, path, next, seen, sensitive = truthy(out[0])]() -> Result<Value> {
    for (;;) {
      QW_ASSIGN(Value item, next());
      if (item.is_missing()) return item;
      QW_ASSIGN(Value key, follow(in, item, path));
      key = ignore_case(key, sensitive);
      if (!hashable(key)) return in.fail(std::string("unhashable type: '") + python_type(key) + "'");
      QW_TRY(in.work(key.weight() / 4 + 1));
      if (seen->find(key)) continue;
      seen->set(std::move(key), Value::none());
      return item;
    }
  });
}

Result<Value> unique_filter(Interpreter& in, const Value& v, Args& args) {
  return lazily(in, v, [&in, v, args] { return start_unique(in, v, args); });
}

template <bool kMax>
Result<Value> extreme_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[2];
  QW_TRY(take_args(in, kMax ? "max" : "min", args, {"case_sensitive", "attribute"}, 0, out));
  QW_ASSIGN(const auto path, attribute_path(in, out[1]));
  QW_ASSIGN(const Values items, in.iterate(v));
  if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  Value best, best_key;
  for (const Value& item : items) {
    QW_ASSIGN(Value key, follow(in, item, path));
    key = ignore_case(key, truthy(out[0]));
    bool better = best.is_missing();
    if (!better) {
      QW_ASSIGN(better, in.compare(kMax ? ">" : "<", key, best_key));
    }
    if (!better) continue;
    best = item;
    best_key = key;
  }
  return best;
}

Result<Value> sum_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[2];
  QW_TRY(take_args(in, "sum", args, {"attribute", "start"}, 0, out));
  QW_ASSIGN(const auto path, attribute_path(in, out[0]));
  QW_ASSIGN(const Values items, in.iterate(v));
  Value sum = out[1].is_missing() ? Value::integer(0) : out[1];
  if (sum.is_string()) return in.fail("sum() can't sum strings");
  for (const Value& item : items) {
    QW_ASSIGN(const Value term, follow(in, item, path));
    QW_ASSIGN(sum, in.binary("+", sum, term));
  }
  return sum;
}

Result<Values> batches(Interpreter& in, const Value& v, Args args) {
  Value out[2];
  QW_TRY(take_args(in, "batch", args, {"linecount", "fill_with"}, 1, out));
  QW_ASSIGN(const std::int64_t count, int_arg(in, "batch", out[0], 0));
  QW_ASSIGN(const Values items, in.iterate(v));
  Values rows, row;
  const auto flush = [&]() -> Status {
    QW_ASSIGN(Value list, in.list(std::move(row)));
    rows.push_back(std::move(list));
    row.clear();
    return {};
  };
  for (const Value& item : items) {
    if (static_cast<std::int64_t>(row.size()) == count) QW_TRY(flush());
    row.push_back(item);
  }
  if (!row.empty()) {
    if (!out[1].is_missing() && !out[1].is(Kind::kNone)) {
      while (static_cast<std::int64_t>(row.size()) < count) {
        QW_TRY(in.work(1));
        row.push_back(out[1]);
      }
    }
    QW_TRY(flush());
  }
  return rows;
}

Result<Values> slices(Interpreter& in, const Value& v, Args args) {
  Value out[2];
  QW_TRY(take_args(in, "slice", args, {"slices", "fill_with"}, 1, out));
  QW_ASSIGN(const std::int64_t count, int_arg(in, "slice", out[0], 0));
  if (count == 0) return in.fail("integer division or modulo by zero");
  QW_ASSIGN(const Values items, in.iterate(v));
  const auto n = static_cast<std::int64_t>(items.size());
  Values rows;
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    QW_TRY(in.work(1));
    const bool extra = i < n % count;
    const std::int64_t end = at + n / count + extra;
    Values row(items.begin() + at, items.begin() + end);
    if (!out[1].is_missing() && !out[1].is(Kind::kNone) && !extra) row.push_back(out[1]);
    QW_ASSIGN(Value list, in.list(std::move(row)));
    rows.push_back(std::move(list));
    at = end;
  }
  return rows;
}

template <Result<Values> (*kRows)(Interpreter&, const Value&, Args)>
Result<Value> rows_filter(Interpreter& in, const Value& v, Args& args) {
  return lazily(in, v, [&in, v, args]() -> Result<Interpreter::Source> {
    QW_ASSIGN(Values rows, kRows(in, v, args));
    QW_ASSIGN(const Value list, in.list(std::move(rows)));
    return in.source(list);
  });
}

Result<Value> groupby_filter(Interpreter& in, const Value& v, Args& args) {
  Value out[3];
  QW_TRY(take_args(in, "groupby", args, {"attribute", "default", "case_sensitive"}, 1, out));
  QW_ASSIGN(const auto path, attribute_path(in, out[0]));
  QW_ASSIGN(const Values items, in.iterate(v));
  std::vector<std::pair<Value, Value>> rows;
  for (const Value& item : items) {
    QW_ASSIGN(const Value key, follow(in, item, path, out[1]));
    rows.emplace_back(ignore_case(key, truthy(out[2])), item);
  }
  QW_TRY(sort_rows(in, &rows, false));
  Values groups;
  for (std::size_t i = 0; i < rows.size();) {
    Values members;
    const std::size_t first = i;
    for (; i < rows.size(); ++i) {
      QW_ASSIGN(const bool same, in.same(rows[i].first, rows[first].first));
      if (!same) break;
      members.push_back(rows[i].second);
    }
    QW_ASSIGN(const Value grouper, follow(in, members[0], path, out[1]));  // as it is written, not lower-cased
    QW_ASSIGN(Value list, in.list(std::move(members)));
    groups.push_back(Value::group(grouper, std::move(list)));
  }
  return in.list(std::move(groups));
}

constexpr NamedFilter kFilters[] = {
    {"batch", rows_filter<batches>},
    {"dictsort", dictsort_filter},
    {"first", first_filter},
    {"groupby", groupby_filter},
    {"items", items_filter},
    {"join", join_filter},
    {"last", last_filter},
    {"list", list_filter},
    {"map", map_filter},
    {"max", extreme_filter<true>},
    {"min", extreme_filter<false>},
    {"reject", select_filter<false, false>},
    {"rejectattr", select_filter<false, true>},
    {"reverse", reverse_filter},
    {"select", select_filter<true, false>},
    {"selectattr", select_filter<true, true>},
    {"slice", rows_filter<slices>},
    {"sort", sort_filter},
    {"sum", sum_filter},
    {"unique", unique_filter},
};

}  // namespace

Builtin find_sequence_filter(std::string_view name) {
  for (const NamedFilter& f : kFilters)
    if (f.name == name) return f.filter;
  return nullptr;
}

}  // namespace qw::chat::internal
