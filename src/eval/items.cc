#include "eval/items.h"

#include <algorithm>

#include "base/csv.h"
#include "base/utf8.h"
#include "data/byte_reader.h"

namespace qw::eval {
namespace {

// A file of items is some megabytes; the largest published ones are below a hundred.
constexpr std::size_t kMaxFileBytes = std::size_t{1} << 30;

std::string at_line(const std::string& name, std::size_t line) { return name + ":" + std::to_string(line); }

// Calls f(line, number, begin) for each line, its end left out.
template <class F>
Status each_line(std::string_view bytes, F f) {
  std::size_t number = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t end = std::min(bytes.find('\n', at), bytes.size());
    std::string_view line = bytes.substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    QW_TRY(f(line, ++number));
    at = end + 1;
  }
  return {};
}

Result<std::vector<Item>> json_lines(std::string_view bytes, const std::string& name) {
  std::vector<Item> out;
  QW_TRY(each_line(bytes, [&](std::string_view line, std::size_t number) -> Status {
    if (line.find_first_not_of(" \t") == std::string_view::npos) return {};
    auto value = json::parse(line);
    if (!value) return in_context(at_line(name, number), value.error());
    if (!value->is_object()) return fail(ErrorKind::kBadInput, at_line(name, number) + ": expected an object");
    out.push_back({std::move(value->as_object()), {}, at_line(name, number)});
    return {};
  }));
  return out;
}

// The texts of SQuAD's [{"text": ...}, ...]; each once.
json::Array answer_texts(const json::Value* answers) {
  json::Array out;
  if (answers == nullptr || !answers->is_array()) return out;
  for (const json::Value& a : answers->as_array()) {
    const json::Value* text = a.find("text");
    if (text != nullptr && text->is_string() && std::find(out.begin(), out.end(), *text) == out.end())
      out.push_back(*text);
  }
  return out;
}

const json::Array* array_of(const json::Value& value, std::string_view key) {
  const json::Value* v = value.find(key);
  return v != nullptr && v->is_array() ? &v->as_array() : nullptr;
}

std::vector<Item> squad_items(const json::Array& articles, const std::string& name) {
  std::vector<Item> out;
  const auto copy = [](const json::Value& from, const char* key, json::Object& to) {
    if (const json::Value* v = from.find(key)) to.set(key, *v);
  };
  for (const json::Value& article : articles) {
    const json::Array* paragraphs = array_of(article, "paragraphs");
    if (paragraphs == nullptr) continue;
    for (const json::Value& paragraph : *paragraphs) {
      const json::Array* questions = array_of(paragraph, "qas");
      if (questions == nullptr) continue;
      for (const json::Value& question : *questions) {
        json::Object fields;
        copy(article, "title", fields);
        copy(paragraph, "context", fields);
        copy(question, "question", fields);
        copy(question, "id", fields);
        fields.set("answers", answer_texts(question.find("answers")));
        out.push_back({std::move(fields), {}, name + ", question " + std::to_string(out.size() + 1)});
      }
    }
  }
  return out;
}

Result<std::vector<Item>> json_items(std::string_view bytes, const std::string& name) {
  auto value = json::parse(bytes);
  if (!value) return in_context(name, value.error());
  const json::Array* list = value->is_array() ? &value->as_array() : array_of(*value, "data");
  if (list == nullptr)
    return fail(ErrorKind::kBadInput, name + ": expected an array, or an object with one under \"data\"");
  const bool squad = std::any_of(list->begin(), list->end(),
                                 [](const json::Value& v) { return array_of(v, "paragraphs") != nullptr; });
  if (squad) return squad_items(*list, name);
  std::vector<Item> out;
  for (const json::Value& v : *list) {
    const std::string where = name + ", item " + std::to_string(out.size() + 1);
    if (!v.is_object()) return fail(ErrorKind::kBadInput, where + ": expected an object");
    out.push_back({v.as_object(), {}, where});
  }
  return out;
}

Result<std::vector<Item>> csv_items(std::string_view bytes, const std::string& name,
                                    const std::vector<std::string>& columns) {
  auto rows = base::parse_csv(bytes);
  if (!rows) return in_context(name, rows.error());
  std::vector<Item> out;
  std::vector<std::string> names = columns;
  for (std::size_t r = 0; r < rows->size(); ++r) {
    base::CsvRow& row = (*rows)[r];
    if (r == 0 && columns.empty()) {
      names = std::move(row.fields);
      continue;
    }
    if (r == 0 && !row.fields.empty() && row.fields[0] == columns[0]) continue;
    if (row.fields.size() != names.size())
      return fail(ErrorKind::kBadInput, at_line(name, row.line) + ": " + std::to_string(row.fields.size()) +
                                            " fields, expected " + std::to_string(names.size()));
    Item item{{}, {}, at_line(name, row.line)};
    for (std::size_t i = 0; i < names.size(); ++i) item.fields.set(names[i], std::move(row.fields[i]));
    out.push_back(std::move(item));
  }
  return out;
}

// " = Title = ": where an article of WikiText begins.
bool is_heading(std::string_view line) {
  while (line.ends_with(' ')) line.remove_suffix(1);
  while (line.starts_with(' ')) line.remove_prefix(1);
  return line.size() > 4 && line.starts_with("= ") && line.ends_with(" =") && !line.starts_with("= =") &&
         !line.ends_with("= =");
}

std::vector<Item> documents_of(std::string_view bytes, const std::string& name, Documents rule) {
  std::vector<Item> out;
  std::size_t begin = 0, begin_line = 1;
  const auto end_document = [&](std::size_t end) {
    std::string_view text = bytes.substr(begin, end - begin);
    if (rule == Documents::kBlankLine || rule == Documents::kLine)
      while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
    if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return;
    std::string valid;
    base::append_valid_utf8(valid, text, true);
    out.push_back({json::Object{{"text", std::move(valid)}}, {}, at_line(name, begin_line)});
  };
  std::size_t at = 0, line_number = 0;
  while (at < bytes.size()) {
    const std::size_t end = std::min(bytes.find('\n', at), bytes.size() - 1) + 1;
    const std::string_view line = bytes.substr(at, end - at);
    ++line_number;
    const bool blank = line.find_first_not_of(" \t\r\n") == std::string_view::npos;
    const bool begins =
        at > 0 && (rule == Documents::kLine ||
                   (rule == Documents::kHeading && is_heading(line.substr(0, line.find_first_of("\r\n")))));
    if (begins || (rule == Documents::kBlankLine && blank)) {
      end_document(at);
      begin = rule == Documents::kBlankLine ? end : at;
      begin_line = line_number + (rule == Documents::kBlankLine);
    }
    at = end;
  }
  end_document(bytes.size());
  return out;
}

Result<std::string> read_all(const std::filesystem::path& path) {
  QW_ASSIGN(auto reader, data::ByteReader::open(path));
  std::string out;
  std::string piece(1 << 20, '\0');
  for (;;) {
    QW_ASSIGN(const std::size_t got, reader.read(piece));
    if (got == 0) return out;
    out.append(piece, 0, got);
    if (out.size() > kMaxFileBytes)
      return fail(ErrorKind::kBadInput, path.string() + ": is larger than a file of items may be");
  }
}

struct Found {
  std::filesystem::path path;
  std::string group;
};

// The files a name stands for, by the alphabet of their groups.
std::vector<Found> files_of(const std::filesystem::path& folder, const std::string& name) {
  const std::filesystem::path whole = folder / name;
  std::vector<Found> out;
  std::error_code error;
  const std::size_t star = name.find('*');
  if (star == std::string::npos) {
    if (std::filesystem::is_regular_file(whole, error)) out.push_back({whole, ""});
    return out;
  }
  const std::string pattern = whole.filename().string();
  const std::string before = pattern.substr(0, pattern.find('*')), after = pattern.substr(pattern.find('*') + 1);
  for (std::filesystem::directory_iterator at(whole.parent_path(), error), end; !error && at != end;
       at.increment(error)) {
    const std::string file = at->path().filename().string();
    if (file.size() <= before.size() + after.size() || !file.starts_with(before) || !file.ends_with(after)) continue;
    if (at->is_regular_file(error))
      out.push_back({at->path(), file.substr(before.size(), file.size() - before.size() - after.size())});
  }
  std::sort(out.begin(), out.end(), [](const Found& a, const Found& b) { return a.group < b.group; });
  return out;
}

std::vector<Found> first_of(const std::filesystem::path& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names)
    if (auto found = files_of(folder, name); !found.empty()) return found;
  return {};
}

std::string list_of(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

// Puts the answer of each item beside its fields.
Status add_answers(const Task& task, const std::filesystem::path& folder, std::vector<Item>& items) {
  const auto found = first_of(folder, task.data.answers);
  if (found.empty())
    return fail(ErrorKind::kBadInput,
                task.name + ": no file of answers in " + folder.string() + ": expected " + list_of(task.data.answers));
  QW_ASSIGN(const std::string bytes, read_all(found[0].path));
  auto answers = json::parse(bytes);
  const std::string name = found[0].path.string();
  if (!answers) return in_context(name, answers.error());
  for (Item& item : items) {
    const json::Value* key = item.fields.find(task.data.answers_key);
    if (key == nullptr) return fail(ErrorKind::kBadInput, item.where + ": has no " + task.data.answers_key);
    const json::Value* answer = answers->find(key->is_string() ? key->as_string() : json::dump(*key));
    if (answer == nullptr) return fail(ErrorKind::kBadInput, name + ": has no answer to " + item.where);
    if (answer->is_object()) {
      for (const auto& [k, v] : answer->as_object()) item.fields.set(k, v);
    } else {
      item.fields.set("answer", *answer);
    }
  }
  return {};
}

// A line for each item.
Status add_labels(const std::filesystem::path& folder, const std::vector<std::string>& names,
                  std::vector<Item>& items) {
  const auto found = first_of(folder, names);
  if (found.empty()) return {};
  QW_ASSIGN(const std::string bytes, read_all(found[0].path));
  std::size_t lines = 0;
  QW_TRY(each_line(bytes, [&](std::string_view line, std::size_t number) -> Status {
    lines = number;
    if (number <= items.size()) items[number - 1].fields.set("label", std::string(line));
    return {};
  }));
  if (lines != items.size())
    return fail(ErrorKind::kBadInput, found[0].path.string() + ": has " + std::to_string(lines) + " lines for " +
                                          std::to_string(items.size()) + " items");
  return {};
}

Status keep_where(const Wording& where, std::vector<Item>& items) {
  std::vector<Item> kept;
  for (Item& item : items) {
    auto said = where.form.render(item.fields);
    if (!said) return in_context(item.where, said.error());
    if (said->text == "True") kept.push_back(std::move(item));
  }
  items = std::move(kept);
  return {};
}

}  // namespace

Result<std::vector<Item>> parse_items(std::string_view bytes, const std::string& name, const DataSpec& spec) {
  std::string_view ending = name;
  if (ending.ends_with(".xz")) ending.remove_suffix(3);
  if (ending.ends_with(".jsonl")) return json_lines(bytes, name);
  if (ending.ends_with(".json")) return json_items(bytes, name);
  if (ending.ends_with(".csv")) return csv_items(bytes, name, spec.columns);
  if (ending.ends_with(".txt")) return documents_of(bytes, name, spec.documents);
  return fail(ErrorKind::kBadInput,
              name + ": expected a name that ends in .jsonl, .json, .csv or .txt (or these with .xz)");
}

Result<std::vector<Item>> read_items(const Task& task, const std::filesystem::path& folder, Split split) {
  const bool items_wanted = split == Split::kItems;
  const auto found = first_of(folder, items_wanted ? task.data.items : task.data.shots);
  if (found.empty() && items_wanted)
    return fail(ErrorKind::kBadInput,
                task.name + ": no items in " + folder.string() + ": expected " + list_of(task.data.items));
  std::vector<Item> out;
  for (const Found& file : found) {
    QW_ASSIGN(const std::string bytes, read_all(file.path));
    QW_ASSIGN(auto items, parse_items(bytes, file.path.string(), task.data));
    for (Item& item : items) {
      item.group = file.group;
      out.push_back(std::move(item));
    }
  }
  if (!out.empty() && !task.data.answers.empty()) QW_TRY(add_answers(task, folder, out));
  if (!out.empty()) QW_TRY(add_labels(folder, items_wanted ? task.data.labels : task.data.shot_labels, out));
  const auto& where = items_wanted ? task.data.where : task.data.shots_where;
  if (where) QW_TRY(keep_where(*where, out));
  return out;
}

}  // namespace qw::eval
