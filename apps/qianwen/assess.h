// What `govern assess` is told, and what it makes of that: the plan, the banks, the sample, and whom it asks.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "governance/assess/assessment.h"
#include "governance/assess/judges.h"
#include "governance/assess/report.h"
#include "governance/keywords/keyword_list.h"
#include "ready_subject.h"

namespace qw::app {

struct AssessOptions {
  std::string model, files;  // of an address: the MODEL that runs there, as the operator says
  std::string plan, seed = "1";
  std::vector<std::string> banks, answers;  // NAME=FILE
  std::string keywords, guard, policy, packs, system;
  SubjectOptions subject;
  std::int64_t limit = 0, max_tokens = 512;
  double temperature = 0;
};

struct SignOptions {
  std::string key, by, last, log, log_key;
};

// A plan that comes with the program, by name, or a file's.
Result<governance::Plan> open_plan(const std::string& name_or_file);

// The banks that were given, read, and what a report says of them.
struct GivenBanks {
  std::vector<std::pair<const governance::BankRule*, governance::Bank>> banks;
  json::Array about;
};
Result<GivenBanks> read_banks(const governance::Plan& plan, const std::vector<std::string>& banks,
                              const std::vector<std::string>& answers);

struct GivenKeywords {
  governance::KeywordList list;
  json::Object about;
};
Result<GivenKeywords> read_keywords(const std::string& file);

// What is assessed, for the report: the model's files, its adapter, template and policy by their hashes, and how it is
// asked.
Result<json::Object> describe_subject(const AssessOptions& o);

// Begins, or goes on: the sample of all tests.
Result<std::unique_ptr<governance::Assessment>> begin_assessment(const AssessOptions& o, const std::string& folder);
// All that machines do; then nothing is left but people. kInterrupted: what is there so far stays.
Status run_assessment(const AssessOptions& o, governance::Assessment& assessment);

// Writes report, rows and what people read into the folder, and into the audit log that it was made.
Status make_report(const governance::Assessment& assessment, const SignOptions& o);

}  // namespace qw::app
