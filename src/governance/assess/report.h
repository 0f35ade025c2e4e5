// The report of an assessment: one JSON object, signed (Ed25519), bound by hashes to what was assessed, with which
// plan, banks and judges; its rows in a file beside it. Values.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "governance/assess/assessment.h"
#include "governance/assess/results.h"
#include "governance/audit/signing_key.h"
#include "json/value.h"

namespace qw::governance {

inline constexpr const char* kReportFile = "report.json";
inline constexpr const char* kRowsFile = "rows.jsonl";
inline constexpr const char* kReportMarkdown = "report.md";
inline constexpr const char* kReportPage = "report.html";

struct Report {
  json::Value document;  // without "signature"
  PublicKey key;
  Signature signature{};

  // kBadInput: no report, or one that nobody signed.
  static Result<Report> parse(std::string_view file);
  static Result<Report> read(const std::filesystem::path& path);
  bool signed_by(const PublicKey& by) const;        // and not changed since
  Hash hash() const;                                // of the document
  std::string text(std::string_view member) const;  // a.b.c; "": there is none
};

// kBadInput naming the line.
Result<std::vector<ResultRow>> parse_rows(std::string_view bytes, const std::string& name);
std::string rows_text(const std::vector<ResultRow>& rows);

struct LastReport {
  Report report;
  std::vector<ResultRow> rows;
};
// A report and the rows beside it, which must be its own. It may be anybody's.
Result<LastReport> read_last_report(const std::filesystem::path& path);

struct ReportFrame {
  std::string by, program, made;     // who answers for it; the version of this program; RFC 3339
  const LastReport* last = nullptr;  // to compare with
};
// The document of a report, unsigned.
json::Object report_of(const Assessment& assessment, const std::vector<ResultRow>& rows, const ReportFrame& frame);
// The file.
std::string signed_report(const json::Object& document, const SigningKey& key);

// {"report_sha256","made","tests":[{"name","items","now_yes","now_no","p_millionths","flips":[{"id","now"}]}]}: of the
// questions, asked in the same words, that both decided. p: McNemar's exact test.
json::Object comparison_of(const LastReport& last, const std::vector<ResultRow>& rows);

// What does not hold of a report: the signature, the rows (null: they are not there), the plan, results that are not
// those of the rows. Empty: all holds.
std::vector<std::string> check_report(const Report& report, const PublicKey& key, const std::vector<ResultRow>* rows);
// What another model is beside the one that was assessed: a line for each file that is another, gone or new.
std::vector<std::string> changes_of_model(const json::Value& assessed, const json::Value& now);

// To be read by people.
std::string report_markdown(const json::Value& document, const std::string& key);
std::string report_page(const json::Value& document, const std::string& key);  // HTML, whole in itself

}  // namespace qw::governance
