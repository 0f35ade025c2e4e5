#include "governance/assess/bank.h"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <set>

#include "base/csv.h"
#include "base/lines.h"
#include "base/trim.h"
#include "base/utf8.h"
#include "governance/internal/members.h"

namespace qw::governance {
namespace {

constexpr std::size_t kIdLetters = 16;
constexpr std::size_t kMostOptions = 26;  // A to Z

struct Row {
  json::Object fields;
  std::string where;
};

// A text or a whole number as a text; "": neither, or not there.
std::string text_of(const json::Value* value) {
  if (value == nullptr) return {};
  if (value->is_string()) return value->as_string();
  return value->is_int() ? std::to_string(value->as_int()) : std::string();
}

std::string first_of(const json::Object& fields, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names)
    if (std::string text = text_of(fields.find(name)); !text.empty()) return text;
  return {};
}

// Of a conversation in hh-rlhf's form what the human says first.
std::string opening(const std::string& conversation) {
  constexpr std::string_view human = "\n\nHuman: ", assistant = "\n\nAssistant:";
  if (!conversation.starts_with(human)) return {};
  return conversation.substr(human.size(), conversation.find(assistant) - human.size());
}

std::string prompt_of(const json::Object& fields) {
  std::string prompt = first_of(fields, {"prompt", "question", "goal", "Goal", "Behavior", "behavior", "text", "TEXT"});
  if (prompt.empty()) prompt = opening(first_of(fields, {"chosen"}));
  // As HarmBench's own runs put them together.
  if (const std::string context = first_of(fields, {"ContextString"}); !context.empty())
    prompt = context + "\n\n---\n\n" + prompt;
  return prompt;
}

std::string label_of(const json::Object& fields, const std::string& type) {
  std::string label = first_of(fields, {"label"});
  // XSTest calls the unsafe twin of a type contrast_TYPE; its older files have no label.
  if (label.empty() && fields.find("focus") != nullptr) label = type.starts_with("contrast_") ? "unsafe" : "safe";
  return label;
}

Status read_options(const Row& row, Question& out) {
  const json::Value* list = row.fields.find_set("options");
  if (list == nullptr) list = row.fields.find_set("choices");
  if (list != nullptr) {
    if (!list->is_array() || list->as_array().size() > kMostOptions)
      return fail(ErrorKind::kBadInput, row.where + ": its options must be a list of at most 26 texts");
    for (const json::Value& option : list->as_array()) {
      out.options.push_back(text_of(&option));
      if (out.options.back().empty()) return fail(ErrorKind::kBadInput, row.where + ": an option is no text");
    }
  } else {
    for (const char* letter : {"A", "B", "C", "D", "E", "F"}) {
      const std::string text = text_of(row.fields.find(letter));
      if (text.empty()) break;
      out.options.push_back(text);
    }
  }
  return {};
}

// An index from 0, a letter, or the option itself.
std::int64_t answer_of(const json::Value* value, const std::vector<std::string>& options) {
  if (value == nullptr) return -1;
  const auto n = static_cast<std::int64_t>(options.size());
  if (value->is_int()) return value->as_int() >= 0 && value->as_int() < n ? value->as_int() : -1;
  if (!value->is_string()) return -1;
  const std::string& text = value->as_string();
  if (text.size() == 1 && text[0] >= 'A' && text[0] - 'A' < n) return text[0] - 'A';
  if (text.size() == 1 && text[0] >= '0' && text[0] - '0' < n) return text[0] - '0';  // of a CSV file
  const auto same = std::find(options.begin(), options.end(), text);
  return same == options.end() ? -1 : same - options.begin();
}

Result<Question> question_of(const Row& row) {
  Question out;
  out.prompt = prompt_of(row.fields);
  if (out.prompt.empty()) return fail(ErrorKind::kBadInput, row.where + ": has no question (\"prompt\")");
  if (out.prompt.size() > kMaxQuestionBytes)
    return fail(ErrorKind::kBadInput, row.where + ": the question is longer than 256 KiB");
  out.id = first_of(row.fields, {"id", "id_", "BehaviorID", "Index"});
  if (out.id.size() > 200) return fail(ErrorKind::kBadInput, row.where + ": the id is longer than 200 bytes");
  out.type = first_of(row.fields, {"type", "SemanticCategory", "domain_en", "category", "Category", "topic"});
  out.label = label_of(row.fields, out.type);
  QW_TRY(read_options(row, out));
  out.answer = answer_of(row.fields.find("answer"), out.options);
  return out;
}

// ---- files ----------------------------------------------------------------------------------------------------------

bool is_head(const json::Value& value) {
  return value.is_object() && value.find("bank") != nullptr && value.find("prompt") == nullptr;
}

Status read_head(const json::Value& head, const std::string& where, Bank& out) {
  out.updated = text_of(head.find("updated"));
  if (!out.updated.empty() && !is_date(out.updated))
    return fail(ErrorKind::kBadInput, where + ": \"updated\" must be a date such as 2026-11-29");
  return {};
}

Result<std::vector<Row>> rows_of_lines(std::string_view bytes, const std::string& name, Bank& bank) {
  std::vector<Row> out;
  QW_TRY(base::for_each_line(bytes, [&](std::string_view line, std::size_t number) -> Status {
    if (base::trimmed(line).empty()) return {};
    const std::string where = name + ":" + std::to_string(number);
    auto value = json::parse(line);
    if (!value) return in_context(where, std::move(value).error());
    if (!value->is_object()) return fail(ErrorKind::kBadInput, where + ": expected an object");
    if (out.empty() && is_head(*value)) return read_head(*value, where, bank);
    out.push_back({std::move(value->as_object()), where});
    return {};
  }));
  return out;
}

Result<std::vector<Row>> rows_of_json(std::string_view bytes, const std::string& name, Bank& bank) {
  auto value = json::parse(bytes);
  if (!value) return in_context(name, std::move(value).error());
  std::vector<Row> out;
  const json::Value* list = &*value;
  if (const json::Value* questions = value->find("questions"); questions != nullptr) {
    QW_TRY(read_head(*value, name, bank));
    list = questions;
  }
  if (list->is_array()) {
    for (const json::Value& item : list->as_array()) {
      const std::string where = name + ", item " + std::to_string(out.size() + 1);
      if (!item.is_object()) return fail(ErrorKind::kBadInput, where + ": expected an object");
      out.push_back({item.as_object(), where});
    }
    return out;
  }
  if (!list->is_object()) return fail(ErrorKind::kBadInput, name + ": expected a list of questions");
  for (const auto& [id, text] : list->as_object()) {  // an object of texts
    if (!text.is_string()) return fail(ErrorKind::kBadInput, name + ", " + json::dump(id) + ": expected a text");
    out.push_back({{{"id", id}, {"prompt", text}}, name + ", " + json::dump(id)});
  }
  return out;
}

Result<std::vector<Row>> rows_of_table(std::string_view bytes, const std::string& name) {
  if (!base::is_valid_utf8(bytes)) return fail(ErrorKind::kBadInput, name + ": is not UTF-8");
  auto rows = base::parse_csv(bytes);
  if (!rows) return in_context(name, std::move(rows).error());
  std::vector<Row> out;
  for (std::size_t r = 1; r < rows->size(); ++r) {
    const std::vector<std::string>& names = rows->front().fields;
    base::CsvRow& row = (*rows)[r];
    const std::string where = name + ":" + std::to_string(row.line);
    if (row.fields.size() != names.size())
      return fail(ErrorKind::kBadInput, where + ": " + std::to_string(row.fields.size()) + " fields, expected " +
                                            std::to_string(names.size()));
    Row& made = out.emplace_back();
    made.where = where;
    for (std::size_t i = 0; i < names.size(); ++i) made.fields.set(names[i], std::move(row.fields[i]));
  }
  return out;
}

// {"2": {"answer": 1}} or {"2": 1}
Status add_answers(std::string_view answers, const std::string& name, Bank& bank) {
  if (answers.empty()) return {};
  const auto all = json::parse(answers);
  if (!all) return in_context(name + ", answers", all.error());
  if (!all->is_object()) return fail(ErrorKind::kBadInput, name + ", answers: expected an object of ids");
  for (Question& question : bank.questions) {
    const json::Value* one = all->find(question.id);
    if (one != nullptr && one->is_object()) one = one->find("answer");
    question.answer = answer_of(one, question.options);
    if (question.answer < 0)
      return fail(ErrorKind::kBadInput, name + ", answers: none of " + question.id + " that is one of its options");
  }
  return {};
}

// What two questions are the same by. Options belong to it: many choices are asked with the same words.
std::string folded(const Question& question) {
  std::string out;
  const auto add = [&](const std::string& text) {
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte >= 0x80 || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
        out += c;
      else if (c >= 'A' && c <= 'Z')
        out += static_cast<char>(c - 'A' + 'a');
    }
    out += '\n';
  };
  add(question.prompt);
  for (const std::string& option : question.options) add(option);
  return out;
}

}  // namespace

Result<Bank> parse_bank(std::string_view bytes, const std::string& name, std::string_view answers) {
  Bank out;
  std::vector<Row> rows;
  if (name.ends_with(".jsonl")) {
    QW_ASSIGN(rows, rows_of_lines(bytes, name, out));
  } else if (name.ends_with(".json")) {
    QW_ASSIGN(rows, rows_of_json(bytes, name, out));
  } else if (name.ends_with(".csv")) {
    QW_ASSIGN(rows, rows_of_table(bytes, name));
  } else {
    return fail(ErrorKind::kBadInput, name + ": expected a name that ends in .jsonl, .json or .csv");
  }
  std::set<std::string> seen, ids;
  for (const Row& row : rows) {
    QW_ASSIGN(Question question, question_of(row));
    const std::string same = folded(question);
    if (!question.id.empty() && !ids.insert(question.id).second)
      return fail(ErrorKind::kBadInput, row.where + ": the id " + question.id + " is there twice");
    if (!seen.insert(same).second) {
      ++out.duplicates;
      continue;
    }
    if (question.id.empty()) {
      question.id = to_hex(sha256(same)).substr(0, kIdLetters);
      if (!ids.insert(question.id).second)
        return fail(ErrorKind::kBadInput, row.where + ": the id " + question.id + " is there twice");
    }
    out.questions.push_back(std::move(question));
  }
  if (out.questions.empty()) return fail(ErrorKind::kBadInput, name + ": holds no question");
  QW_TRY(add_answers(answers, name, out));
  return out;
}

Status keep_for(const BankRule& rule, Bank& bank) {
  if (!rule.label.empty()) std::erase_if(bank.questions, [&](const Question& q) { return q.label != rule.label; });
  if (bank.questions.empty())
    return fail(ErrorKind::kBadInput, "the bank " + rule.name + ": no question has the label " + rule.label);
  if (rule.kind != BankKind::kChoices) return {};
  for (const Question& q : bank.questions)
    if (q.options.size() < 2 || q.answer < 0)
      return fail(ErrorKind::kBadInput, "the bank " + rule.name + ": the question " + q.id +
                                            (q.options.size() < 2 ? " has no options" : " has no right answer"));
  return {};
}

std::vector<const Question*> drawn_order(const Bank& bank, std::string_view name, std::string_view seed) {
  std::vector<std::pair<Hash, const Question*>> keyed;
  const std::string before = std::string(seed) + "\n" + std::string(name) + "\n";
  for (const Question& q : bank.questions) keyed.emplace_back(sha256(before + q.id), &q);
  std::sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<const Question*> out;
  for (const auto& [key, question] : keyed) out.push_back(question);
  return out;
}

}  // namespace qw::governance
