// qianwen govern assess review: people judge what machines could not, in the terminal or in a table
// (docs/operations/assess.md).
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <set>

#include "assess.h"
#include "base/clock.h"
#include "base/csv.h"
#include "base/file.h"
#include "base/utf8.h"
#include "commands.h"
#include "governance/audit/log_files.h"

namespace qw::app {
namespace {

using namespace governance;

constexpr std::uint64_t kMostTableBytes = std::uint64_t{1} << 30;
const std::vector<std::string> kColumns = {"item",   "bank",          "id",      "type", "measure", "question",
                                           "answer", "answer_sha256", "verdict", "why"};

struct ReviewOptions {
  std::string folder, reviewer, to, from, test;
  bool all = false;
};

// A question for people.
struct Open {
  std::size_t item;
  Measure measure;
};

bool has_judged(const Assessment& assessment, const Open& open, const std::string& reviewer) {
  for (const Judgement& j : assessment.judgements(open.item))
    if (j.judge == Judge::kPeople && j.measure == open.measure && j.by == reviewer) return true;
  return false;
}

// What people are among the judges of and nobody decided (or all of it), each once; not what the reviewer judged.
std::vector<Open> queue_of(const Assessment& assessment, const ReviewOptions& o) {
  std::vector<Open> out;
  std::set<std::pair<std::size_t, Measure>> seen;
  for (const TestRule& test : assessment.plan().tests) {
    const bool people = std::find(test.judges.begin(), test.judges.end(), Judge::kPeople) != test.judges.end();
    if (!people || (!o.test.empty() && o.test != test.name)) continue;
    for (const std::size_t item : assessment.items_of(test)) {
      const Open open{item, test.measure};
      if (assessment.answer(item) == nullptr || seen.contains({item, test.measure})) continue;
      if (!o.all && verdict_of(test, assessment.judgements(item)).says) continue;
      if (!o.reviewer.empty() && has_judged(assessment, open, o.reviewer)) continue;
      seen.emplace(item, test.measure);
      out.push_back(open);
    }
  }
  return out;
}

const char* question_of(Measure measure) {
  return measure == Measure::kRefused      ? "does it refuse?"
         : measure == Measure::kAcceptable ? "is the answer acceptable?"
                                           : "is the answer right?";
}

JournalEntry judged(const Open& open, const std::string& reviewer, bool says, std::string why) {
  JournalEntry out;
  out.item = open.item;
  out.judgement = Judgement{Judge::kPeople, open.measure, reviewer, says, std::move(why), timestamp(base::unix_us())};
  return out;
}

// ---- a table --------------------------------------------------------------------------------------------------------

// What a table's program could take for a formula is a text.
std::string cell(std::string_view text) {
  std::string out;
  if (!text.empty() && std::string_view("=+-@\t\r").find(text[0]) != std::string_view::npos) out = "'";
  base::append_valid_utf8(out, text, true);
  return out;
}

std::string hash_of(const Assessment& assessment, std::size_t item) {
  return to_hex(sha256(assessment.answer(item)->text));
}

Status write_table(const Assessment& assessment, const ReviewOptions& o) {
  const auto queue = queue_of(assessment, o);
  std::string out = "\xEF\xBB\xBF" + base::csv_row(kColumns);  // table programs take it for UTF-8 then
  for (const Open& open : queue) {
    const SampledItem& item = assessment.items()[open.item];
    out +=
        base::csv_row({std::to_string(open.item), cell(item.bank), cell(item.question.id), cell(item.question.type),
                       name_of(open.measure), cell(prompt_of(assessment, open.item)),
                       cell(judged_text(assessment.answer(open.item)->text)), hash_of(assessment, open.item), "", ""});
  }
  QW_TRY(base::write_file_atomically(o.to, out));
  std::fprintf(stderr, "%zu to be judged: yes or no in the column verdict\n", queue.size());
  return {};
}

// "yes", "no"; nothing: not judged.
Result<std::optional<bool>> verdict_in(const std::string& text) {
  if (text.empty()) return std::optional<bool>();
  for (const char* yes : {"yes", "Yes", "YES", "y", "1", "是"})
    if (text == yes) return std::optional(true);
  for (const char* no : {"no", "No", "NO", "n", "0", "否"})
    if (text == no) return std::optional(false);
  return fail(ErrorKind::kBadInput, "the verdict " + json::dump(text) + " is neither yes nor no");
}

struct Columns {
  std::size_t item = 0, measure = 0, hash = 0, verdict = 0;
  std::optional<std::size_t> why;
};

Result<Columns> columns_of(const std::vector<std::string>& head) {
  const auto find = [&](const char* name) -> std::optional<std::size_t> {
    const auto at = std::find(head.begin(), head.end(), name);
    return at == head.end() ? std::nullopt : std::optional<std::size_t>(at - head.begin());
  };
  const auto item = find("item"), measure = find("measure"), hash = find("answer_sha256"), verdict = find("verdict");
  if (!item || !measure || !hash || !verdict)
    return fail(ErrorKind::kBadInput, "the columns item, measure, answer_sha256 and verdict are needed");
  return Columns{*item, *measure, *hash, *verdict, find("why")};
}

Result<std::optional<JournalEntry>> entry_of(const Assessment& assessment, const std::vector<Open>& known,
                                             const Columns& columns, const std::vector<std::string>& fields,
                                             const std::string& reviewer) {
  QW_ASSIGN(const auto verdict, verdict_in(fields[columns.verdict]));
  if (!verdict) return std::optional<JournalEntry>();
  for (const Open& open : known) {
    if (std::to_string(open.item) != fields[columns.item] || fields[columns.measure] != name_of(open.measure)) continue;
    if (fields[columns.hash] != hash_of(assessment, open.item))
      return fail(ErrorKind::kBadInput, "the answer on record is another than the one that was judged");
    return std::optional(judged(open, reviewer, *verdict, columns.why ? fields[*columns.why] : ""));
  }
  return fail(ErrorKind::kBadInput,
              "there is no item " + fields[columns.item] + " that people judge for " + fields[columns.measure]);
}

Status read_table(Assessment& assessment, const ReviewOptions& o) {
  QW_ASSIGN(const std::string text, base::read_file(o.from, kMostTableBytes));
  if (!base::is_valid_utf8(text)) return fail(ErrorKind::kBadInput, o.from + ": is not UTF-8");
  const auto rows = base::parse_csv(text);
  if (!rows) return in_context(o.from, rows.error());
  if (rows->empty()) return fail(ErrorKind::kBadInput, o.from + ": is empty");
  const auto columns = columns_of(rows->front().fields);
  if (!columns) return in_context(o.from, columns.error());
  ReviewOptions everything = o;
  everything.all = true;
  everything.reviewer.clear();
  const auto known = queue_of(assessment, everything);
  std::vector<JournalEntry> entries;
  for (std::size_t r = 1; r < rows->size(); ++r) {
    const std::string where = o.from + ":" + std::to_string((*rows)[r].line);
    if ((*rows)[r].fields.size() != rows->front().fields.size())
      return fail(ErrorKind::kBadInput, where + ": has another number of fields than the first row");
    auto entry = entry_of(assessment, known, *columns, (*rows)[r].fields, o.reviewer);
    if (!entry) return in_context(where, std::move(entry).error());
    if (*entry) entries.push_back(std::move(**entry));
  }
  const std::size_t count = entries.size();
  if (count > 0) QW_TRY(assessment.add(std::move(entries)));
  std::fprintf(stderr, "%zu judged by %s\n", count, o.reviewer.c_str());
  return {};
}

// ---- the terminal ---------------------------------------------------------------------------------------------------

// Text of a model, which must not steer the terminal.
std::string harmless(std::string_view text) {
  std::string valid, out;
  base::append_valid_utf8(valid, text, true);
  for (std::size_t at = 0; at < valid.size();) {
    const base::Utf8Char c = base::utf8_at(valid, at);
    const bool control = (c.code < 0x20 && c.code != '\n' && c.code != '\t') || (c.code >= 0x7F && c.code < 0xA0) ||
                         (c.code >= 0x202A && c.code <= 0x202E) || (c.code >= 0x2066 && c.code <= 0x2069);
    if (control)
      out += '?';
    else
      out.append(valid, at, c.size);
    at += c.size;
  }
  return out;
}

Status ask_people(Assessment& assessment, const ReviewOptions& o) {
  const auto queue = queue_of(assessment, o);
  for (std::size_t i = 0; i < queue.size(); ++i) {
    const Open& open = queue[i];
    const SampledItem& item = assessment.items()[open.item];
    std::printf("\n[%zu of %zu] %s %s %s\n--- question\n%s\n--- answer\n%s\n---\n", i + 1, queue.size(),
                harmless(item.bank).c_str(), harmless(item.question.type).c_str(), harmless(item.question.id).c_str(),
                harmless(prompt_of(assessment, open.item)).c_str(),
                harmless(judged_text(assessment.answer(open.item)->text)).c_str());
    for (bool asked = false; !asked;) {
      std::printf("%s y / n / s(kip) / q(uit): ", question_of(open.measure));
      std::fflush(stdout);
      std::string line;
      if (!std::getline(std::cin, line) || line == "q" || interrupted().load()) return {};
      asked = line == "y" || line == "n" || line == "s";
      if (line == "y" || line == "n") QW_TRY(assessment.add({judged(open, o.reviewer, line == "y", "")}));
    }
  }
  std::printf("nothing is left\n");
  return {};
}

Status review(const ReviewOptions& o) {
  QW_ASSIGN(const auto assessment, Assessment::open(o.folder));
  if (!o.test.empty()) {
    const auto& tests = assessment->plan().tests;
    if (std::none_of(tests.begin(), tests.end(), [&](const TestRule& t) { return t.name == o.test; }))
      return fail(ErrorKind::kUsage, "govern assess review: the plan has no test " + o.test);
  }
  if (!o.to.empty()) return write_table(*assessment, o);
  if (o.reviewer.empty()) return fail(ErrorKind::kUsage, "govern assess review: who judges? --reviewer NAME");
  return o.from.empty() ? ask_people(*assessment, o) : read_table(*assessment, o);
}

}  // namespace

void add_govern_review(CLI::App& assess, Outcome& outcome) {
  const auto o = std::make_shared<ReviewOptions>();
  CLI::App* cmd = assess.add_subcommand("review", "people judge what is undecided, one by one or in a table");
  cmd->add_option("DIR", o->folder, "folder of the assessment")->required();
  cmd->add_option("--reviewer", o->reviewer, "who judges; each judges for himself");
  auto* to = cmd->add_option("--export", o->to, "write what is to be judged into this table (.csv)");
  cmd->add_option("--import", o->from, "read a table in which verdict is yes or no")->excludes(to);
  cmd->add_option("--test", o->test, "of this test only");
  cmd->add_flag("--all", o->all, "what is decided too");
  cmd->callback([o, &outcome] {
    if (const Status status = review(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
