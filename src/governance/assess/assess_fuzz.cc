// A byte for the kind of file, then a file of any bytes: plans, banks in each form, lines of journals and samples, rows
// and reports are read or refused in one line; what is read is written and read again as the same.
#include <cstdint>
#include <string>

#include "base/result.h"
#include "governance/assess/answer_rules.h"
#include "governance/assess/judges.h"
#include "governance/assess/report.h"
#include "governance/audit/log_files.h"

namespace {

using namespace qw::governance;

void one_line(const std::string& message) { QW_CHECK(!message.empty() && message.find('\n') == std::string::npos); }

void plan(std::string_view bytes) {
  const auto plan = Plan::parse(bytes);
  if (!plan) return one_line(plan.error().message);
  const auto again = Plan::parse(canonical(plan->document));
  QW_CHECK(again && again->hash == plan->hash);
  const auto results = results_of(*plan, {}, nullptr, {}, "2026-11-29");
  // Of nothing, unless nothing is required.
  QW_CHECK(results.find("result")->as_string() != "met" || results.find("requirements")->as_array().empty());
}

void bank(std::string_view bytes, const char* name) {
  const auto bank = parse_bank(bytes, name);
  if (!bank) {
    QW_CHECK(bank.error().message.starts_with(name));
    return;
  }
  QW_CHECK(!bank->questions.empty() && drawn_order(*bank, "b", "1").size() == bank->questions.size());
  for (const Question& question : bank->questions) {
    const auto line = sample_line({"b", question});
    const auto again = parse_sample_line(line);
    QW_CHECK(question.answer < 0 ? !again || question.options.empty() : again && sample_line(*again) == line);
  }
}

void lines(std::string_view bytes) {
  if (const auto entry = JournalEntry::parse(bytes, 3)) {
    const auto again = JournalEntry::parse(entry->line(), 3);
    QW_CHECK(again && again->line() == entry->line());
  }
  if (const auto item = parse_sample_line(bytes)) QW_CHECK(parse_sample_line(sample_line(*item)).has_value());
  if (const auto rows = parse_rows(bytes, "r")) QW_CHECK(rows_text(*rows) == bytes);
}

void report(std::string_view bytes) {
  const auto report = Report::parse(bytes);
  if (!report) return one_line(report.error().message);
  const std::vector<ResultRow> none;
  QW_CHECK(!check_report(*report, PublicKey{}, &none).empty());
  QW_CHECK(!report_markdown(report->document, "k").empty());
  QW_CHECK(report_page(report->document, "k").ends_with("</html>\n"));
  (void)changes_of_model(report->document, report->document);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 7) {
    case 0:
      plan(bytes);
      break;
    case 1:
      bank(bytes, "f.jsonl");
      break;
    case 2:
      bank(bytes, "f.json");
      break;
    case 3:
      bank(bytes, "f.csv");
      break;
    case 4:
      lines(bytes);
      break;
    case 5:
      report(bytes);
      break;
    default:
      (void)refusal_of(bytes);
      if (const auto letter = chosen_letter(bytes, 4)) QW_CHECK(*letter >= 0 && *letter < 4);
      QW_CHECK(judged_text(bytes).size() <= bytes.size());
  }
  return 0;
}
