#include "api/openai/fine_tuning/validation.h"

#include "api/field_reader.h"
#include "api/file_lines.h"
#include "base/sha256.h"
#include "chat/messages.h"

namespace qw::api::openai {
namespace {

constexpr std::size_t kMostTold = 20;       // problems in one text
constexpr std::int64_t kLinesAtOnce = 256;  // between two calls of `alive`
constexpr std::size_t kDigestBytes = 16;

struct Judged {
  std::string code, where, message;  // code "": nothing is wrong
};

// Whether the messages at `path`, the member `name` of `value`, can be read.
Judged judge_list(const json::Value& value, const std::string& name, const std::string& path) {
  const json::Value* messages = value.find(name);
  if (messages == nullptr || !messages->is_array() || messages->as_array().empty())
    return {"no_messages", path, "has no '" + path + "'"};
  const auto read = chat::template_messages(messages->as_array());
  if (read) return {};
  const std::string& why = read.error().message;  // "messages[2].content: ..."
  const auto colon = why.find(':');
  if (!why.starts_with("messages[") || colon == std::string::npos) return {"bad_message", path, why};
  const std::string inside = why.substr(8, colon - 8);  // "[2].content"
  return {"bad_message", path + inside, path + inside + why.substr(colon)};
}

Judged judge_tools(const json::Value& value, const std::string& path) {
  const json::Value* tools = value.find("tools");
  if (tools == nullptr) return {};
  if (const auto read = chat::template_tools(*tools); !read) return {"bad_tools", path, read.error().message};
  return {};
}

Judged judge_messages(const json::Value& value) {
  if (Judged list = judge_list(value, "messages", "messages"); !list.code.empty()) return list;
  if (Judged tools = judge_tools(value, "tools"); !tools.code.empty()) return tools;
  for (const json::Value& message : value.find("messages")->as_array())
    if (text_member(message, "role") == "assistant") return {};
  return {"nothing_to_learn", "messages", "has no message of the assistant, so nothing to learn"};
}

Judged judge_pair(const json::Value& value) {
  const json::Value* input = value.find("input");
  if (input == nullptr || !input->is_object()) return {"no_input", "input", "has no 'input'"};
  if (Judged list = judge_list(*input, "messages", "input.messages"); !list.code.empty()) return list;
  if (Judged tools = judge_tools(*input, "input.tools"); !tools.code.empty()) return tools;
  for (const char* name : {"preferred_output", "non_preferred_output"}) {
    if (Judged list = judge_list(value, name, name); !list.code.empty()) return list;
    for (const json::Value& message : value.find(name)->as_array())
      if (text_member(message, "role") != "assistant")
        return {"not_the_assistant", name, std::string("'") + name + "' has a message that is not the assistant's"};
  }
  if (*value.find("preferred_output") == *value.find("non_preferred_output"))
    return {"nothing_to_learn", "non_preferred_output", "has twice the same answer, so nothing to learn"};
  return {};
}

std::string digest_of(const json::Value& value) {
  json::Object said;
  for (const char* member : {"messages", "tools", "input", "preferred_output", "non_preferred_output"})
    if (const json::Value* found = value.find(member)) said.set(member, *found);
  return base::sha256_hex(json::dump(said, json::WriteStyle::compact())).substr(0, 2 * kDigestBytes);
}

Result<std::string> digest_of_file(store::Files& files, const std::string& id) {
  base::Sha256 sha;
  for (std::int64_t at = 0;;) {
    QW_ASSIGN(const std::string piece, files.read(id, at));
    if (piece.empty()) return sha.hex();
    sha.update(piece);
    at += static_cast<std::int64_t>(piece.size());
  }
}

class Validation {
 public:
  Validation(const ValidationInput& in, ExampleDigests& seen) : in_(in), seen_(seen) {}

  Result<FileReport> run() {
    out_.file = in_.file;
    out_.counted = in_.measure != nullptr;
    const auto file = in_.files.find(in_.project, in_.file);
    if (!file && file.error().kind != ErrorKind::kBadInput) return tl::unexpected(file.error());
    if (!file) {
      wrong(0, {"deleted", "", "The file " + in_.file + " was deleted."});
      return std::move(out_);
    }
    QW_ASSIGN(out_.sha256, digest_of_file(in_.files, in_.file));
    FileLines text(in_.files, in_.file);
    for (;;) {
      const auto line = text.next();
      if (!line && line.error().kind != ErrorKind::kBadInput) return tl::unexpected(line.error());
      if (!line) {
        wrong(text.number(), {"too_long", "", line.error().message});
        break;
      }
      if (!*line) break;
      ++out_.lines;
      judge(**line, text.number());
      if (in_.alive && out_.lines % kLinesAtOnce == 0) QW_TRY(in_.alive());
    }
    if (out_.lines == 0 && out_.wrong == 0) wrong(0, {"empty", "", "The file " + in_.file + " has no lines."});
    return std::move(out_);
  }

 private:
  void wrong(std::int64_t line, const Judged& judged) {
    ++out_.wrong;
    if (out_.problems.size() < FileReport::kMostProblems)
      out_.problems.push_back({line, judged.code, judged.where, judged.message});
  }

  void judge(const std::string& text, std::int64_t number) {
    const auto value = json::parse(text);
    if (!value) return wrong(number, {"not_json", "", "is not JSON: " + value.error().message});
    if (!value->is_object()) return wrong(number, {"not_json", "", "is no JSON object"});
    if (const Judged judged = in_.pairs ? judge_pair(*value) : judge_messages(*value); !judged.code.empty())
      return wrong(number, judged);
    if (in_.measure != nullptr) {
      const auto size = in_.measure->add(value->as_object());
      if (!size)
        return wrong(number, {"template", in_.pairs ? "" : "messages",
                              "cannot be written by the chat template: " + size.error().message});
      if (size->learnt == 0)
        return wrong(number, {"nothing_to_learn", in_.pairs ? "" : "messages", "has nothing to learn"});
      if (const std::int64_t rows = size->tokens - 2; in_.pairs && rows > in_.measure->sequence_length())
        return wrong(number, {"too_long", "",
                              "has " + std::to_string(rows) + " rows in both answers with their input, of at most " +
                                  std::to_string(in_.measure->sequence_length())});
      out_.tokens += size->tokens;
      out_.learnt_tokens += size->learnt;
      out_.cut += !in_.pairs && size->tokens > in_.measure->sequence_length() + 1 ? 1 : 0;  // n tokens are n - 1 rows
      if (size->tokens > out_.longest) {
        out_.longest = size->tokens;
        out_.longest_line = number;
      }
    }
    ++out_.examples;
    const std::string digest = digest_of(*value);
    if (in_.training != nullptr && in_.training->contains(digest)) ++out_.also_in_training;
    if (!seen_.insert(digest).second) ++out_.duplicates;
  }

  const ValidationInput& in_;
  ExampleDigests& seen_;
  FileReport out_;
};

}  // namespace

Result<FileReport> validate_file(const ValidationInput& input, ExampleDigests& seen) {
  return Validation(input, seen).run();
}

json::Object to_json(const FileReport& r) {
  json::Array problems;
  for (const LineProblem& p : r.problems)
    problems.push_back(json::Object{{"line", p.line == 0 ? json::Value() : json::Value(p.line)},
                                    {"code", p.code},
                                    {"where", p.where.empty() ? json::Value() : json::Value(p.where)},
                                    {"message", p.message}});
  json::Object out{{"file", r.file},
                   {"sha256", r.sha256},
                   {"lines", r.lines},
                   {"examples", r.examples},
                   {"wrong_lines", r.wrong},
                   {"duplicates", r.duplicates},
                   {"also_in_training", r.also_in_training}};
  if (r.counted)
    out.set("tokens", json::Object{{"total", r.tokens},
                                   {"learnt", r.learnt_tokens},
                                   {"longest", r.longest},
                                   {"longest_line", r.longest_line},
                                   {"cut_examples", r.cut}});
  else
    out.set("tokens", nullptr);
  out.set("problems", std::move(problems));
  return out;
}

std::string problems_text(const FileReport& r) {
  std::string out;
  std::size_t told = 0;
  for (const LineProblem& p : r.problems) {
    if (told++ == kMostTold) break;
    out += (out.empty() ? "" : "; ") + (p.line > 0 ? "line " + std::to_string(p.line) + " " : "") + p.message;
  }
  if (r.wrong > static_cast<std::int64_t>(kMostTold))
    out += "; and " + std::to_string(r.wrong - static_cast<std::int64_t>(kMostTold)) + " more";
  return out;
}

}  // namespace qw::api::openai
