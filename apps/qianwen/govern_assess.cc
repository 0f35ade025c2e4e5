// qianwen govern assess: proof of what a model was tested for (docs/operations/assess.md). Its subcommand review is in
// govern_review.cc.
#include <cstdio>

#include "assess.h"
#include "base/clock.h"
#include "base/file.h"
#include "commands.h"
#include "governance/audit/log_files.h"
#include "model_identity.h"
#include "policy.h"
#include "text_source.h"

namespace qw::app {
namespace {

using namespace governance;

constexpr std::uint64_t kMostSystemBytes = 1 << 20;
constexpr std::uint64_t kMostRowsBytes = std::uint64_t{1} << 30;

struct AssessCommandOptions {
  AssessOptions assess;
  SignOptions sign;
  std::string out, system_file, report, public_key;
  bool json = false, require = false;
};

std::string text_of(const json::Value& value, const char* name) {
  const json::Value* found = value.find(name);
  return found != nullptr && found->is_string() ? found->as_string() : std::string();
}

void print_requirement(const json::Value& r) {
  const std::string found = text_of(r, "found"), wanted = text_of(r, "wanted"), why = text_of(r, "why");
  std::printf(
      "%-12s  %s%s%s%s\n", text_of(r, "verdict").c_str(), text_of(r, "title").c_str(),
      found.empty() && wanted.empty() ? "" : (": " + (found.empty() ? "-" : found) + ", wanted " + wanted).c_str(),
      why.empty() ? "" : "; ", why.c_str());
}

void print_results(const json::Object& results, bool json) {
  if (json) {
    std::puts(json::dump(results).c_str());
    return;
  }
  for (const json::Value& test : results.find("tests")->as_array()) {
    if (test.find("items")->as_int() == 0) continue;
    std::printf("%s: %s of %s %s, %s undecided\n", text_of(test, "name").c_str(),
                json::dump(*test.find("hits")).c_str(), json::dump(*test.find("items")).c_str(),
                text_of(test, "measure").c_str(), json::dump(*test.find("undecided")).c_str());
  }
  for (const json::Value& r : results.find("requirements")->as_array()) print_requirement(r);
  std::printf("%s\n", results.find("result")->as_string().c_str());
}

Status finish(const AssessCommandOptions& o, const Assessment& assessment) {
  const json::Object results = results_of(assessment.plan(), assessment.setup(), assessment.library(),
                                          rows_of(assessment), timestamp(base::unix_us()).substr(0, 10));
  if (!o.sign.key.empty()) QW_TRY(make_report(assessment, o.sign));
  print_results(results, o.json);
  if (o.sign.key.empty())
    std::fprintf(stderr, "no report is made without --key and --by (govern assess report %s)\n",
                 assessment.folder().c_str());
  const std::string result = results.find("result")->as_string();
  if (o.require && result != "met")
    return fail(ErrorKind::kRefused,
                "govern assess: the requirements are " + (result == "incomplete" ? "not all measured" : result));
  return {};
}

Status run(const AssessCommandOptions& given) {
  AssessCommandOptions o = given;
  if (o.assess.model.empty() || o.assess.plan.empty() || o.out.empty())
    return fail(ErrorKind::kUsage, "govern assess: --model, --plan and --out are needed");
  if (!o.sign.key.empty() && o.sign.by.empty())
    return fail(ErrorKind::kUsage, "govern assess: a report names who answers for it: --by");
  if (!o.system_file.empty()) {
    QW_ASSIGN(o.assess.system, base::read_file(o.system_file, kMostSystemBytes));
  }
  QW_ASSIGN(const auto assessment, begin_assessment(o.assess, o.out));
  QW_TRY(run_assessment(o.assess, *assessment));
  return finish(o, *assessment);
}

// Banks and keywords alone: what of the plan they meet.
Status check(const AssessCommandOptions& o) {
  QW_ASSIGN(const Plan plan, open_plan(o.assess.plan));
  QW_ASSIGN(GivenBanks banks, read_banks(plan, o.assess.banks, o.assess.answers));
  std::optional<GivenKeywords> keywords;
  if (!o.assess.keywords.empty()) {
    QW_ASSIGN(keywords, read_keywords(o.assess.keywords));
  }
  const json::Object setup{{"banks", std::move(banks.about)}};
  json::Object results =
      results_of(plan, setup, keywords ? &keywords->about : nullptr, {}, timestamp(base::unix_us()).substr(0, 10));
  json::Array kept;
  bool failed = false;
  for (const json::Value& r : results.find("requirements")->as_array()) {
    const std::string id = text_of(r, "id");
    if (!id.starts_with("bank.") && !id.starts_with("keywords.")) continue;
    failed |= text_of(r, "verdict") == "not met";
    if (!o.json) print_requirement(r);
    kept.push_back(r);
  }
  if (o.json) {
    json::Object out{{"banks", *setup.find("banks")}, {"requirements", std::move(kept)}};
    if (keywords) out.set("library", keywords->about);
    std::puts(json::dump(out).c_str());
  }
  if (o.require && failed) return fail(ErrorKind::kRefused, "govern assess check: the banks do not meet the plan");
  return {};
}

Status report(const AssessCommandOptions& o) {
  if (o.sign.key.empty()) return fail(ErrorKind::kUsage, "govern assess report: --key is needed");
  QW_ASSIGN(const auto assessment, Assessment::open(o.out));
  return finish(o, *assessment);
}

Status show(const AssessCommandOptions& o) {
  QW_ASSIGN(const Plan plan, open_plan(o.assess.plan));
  std::puts(json::dump(plan.document, {.indent = 2, .item_separator = ",", .key_separator = ": "}).c_str());
  return {};
}

Status plans(const AssessCommandOptions& o) {
  for (const std::string& name : shipped_plans()) {
    QW_ASSIGN(const Plan plan, open_plan(name));
    if (o.json)
      std::puts(json::dump(json::Object{{"plan", plan.name},
                                        {"version", plan.version},
                                        {"sha256", to_hex(plan.hash)},
                                        {"about", plan.about}})
                    .c_str());
    else
      std::printf("%-10s %s\n", plan.name.c_str(), plan.about.c_str());
  }
  return {};
}

// ---- verify ---------------------------------------------------------------------------------------------------------

// What of this is another than what the report is of.
Status compare_bound(const AssessCommandOptions& o, const Report& report, std::vector<std::string>& out) {
  const json::Value* subject = report.document.find("subject");
  const json::Value none;
  const json::Value& assessed = subject == nullptr ? none : *subject;
  if (!o.assess.model.empty()) {
    QW_ASSIGN(const json::Object now, model_identity(o.assess.model, interrupted()));
    if (now.find("sha256")->as_string() != text_of(assessed, "sha256"))
      for (const std::string& line : changes_of_model(assessed, now)) out.push_back("the model: " + line);
  }
  if (!o.assess.subject.adapter.empty()) {
    QW_ASSIGN(const json::Object now, model_identity(o.assess.subject.adapter, interrupted()));
    if (now.find("sha256")->as_string() != text_of(assessed, "adapter_sha256"))
      out.emplace_back("the adapter is another");
  }
  if (!o.assess.policy.empty()) {
    QW_ASSIGN(const auto policy, open_policy(o.assess.policy, o.assess.packs));
    if (policy->hash() != text_of(assessed, "policy")) out.emplace_back("the policy is another");
  }
  if (!o.assess.plan.empty()) {
    QW_ASSIGN(const Plan plan, open_plan(o.assess.plan));
    if (to_hex(plan.hash) != report.text("plan_sha256")) out.emplace_back("the plan is another");
  }
  if (!o.assess.keywords.empty()) {
    QW_ASSIGN(const GivenKeywords keywords, read_keywords(o.assess.keywords));
    if (text_of(keywords.about, "sha256") != report.text("library.sha256"))
      out.emplace_back("the keyword library is another");
  }
  const json::Value* document = report.document.find("plan");
  auto plan = document == nullptr ? Result<Plan>(fail(ErrorKind::kBadInput, "")) : Plan::of(*document);
  if (!plan || o.assess.banks.empty()) return {};
  QW_ASSIGN(const GivenBanks banks, read_banks(*plan, o.assess.banks, o.assess.answers));
  const json::Value* told = report.document.find("banks");
  for (const json::Value& bank : banks.about) {
    bool same = false;
    if (told != nullptr && told->is_array())
      for (const json::Value& one : told->as_array())
        same |= text_of(one, "name") == text_of(bank, "name") && text_of(one, "sha256") == text_of(bank, "sha256");
    if (!same) out.push_back("the bank " + text_of(bank, "name") + " is another");
  }
  return {};
}

Status verify(const AssessCommandOptions& o) {
  QW_ASSIGN(const PublicKey key, PublicKey::read(o.public_key));
  QW_ASSIGN(const Report report, Report::read(o.report));
  const auto beside = std::filesystem::path(o.report).parent_path() / kRowsFile;
  std::optional<std::vector<ResultRow>> rows;
  std::vector<std::string> findings;
  std::error_code ignored;
  if (std::filesystem::exists(beside, ignored)) {
    QW_ASSIGN(const std::string text, base::read_file(beside, kMostRowsBytes));
    auto read = parse_rows(text, beside.string());
    if (read)
      rows = std::move(*read);
    else
      findings.push_back(read.error().message);
  }
  const auto wrong = check_report(report, key, rows ? &*rows : nullptr);
  findings.insert(findings.end(), wrong.begin(), wrong.end());
  QW_TRY(compare_bound(o, report, findings));
  if (o.json) {
    std::puts(json::dump(json::Object{{"holds", findings.empty()},
                                      {"result", report.text("result")},
                                      {"made", report.text("made")},
                                      {"by", report.text("by")},
                                      {"report", to_hex(report.hash())},
                                      {"key", report.key.id()},
                                      {"findings", json::Array(findings.begin(), findings.end())}})
                  .c_str());
  } else if (findings.empty()) {
    std::printf("holds: the result \"%s\" of %s, by %s, signed by the key %s\n", report.text("result").c_str(),
                report.text("made").c_str(), report.text("by").c_str(), key.id().c_str());
  } else {
    for (const std::string& finding : findings) std::printf("%s\n", finding.c_str());
  }
  if (findings.empty()) return {};
  return fail(ErrorKind::kBadInput, o.report + ": does not hold");
}

// ---- options --------------------------------------------------------------------------------------------------------

void add_banks(CLI::App& cmd, AssessCommandOptions& o) {
  cmd.add_option("--bank", o.assess.banks,
                 "NAME=FILE: a bank of the plan (.jsonl, .json, .csv, these with .xz or .gz); more than once");
  cmd.add_option("--answers", o.assess.answers,
                 "NAME=FILE: the right choices of a bank that has them in a file of their own");
  cmd.add_option("--keywords", o.assess.keywords, "the keyword library, with the plan's types as categories");
}

void add_signing(CLI::App& cmd, AssessCommandOptions& o) {
  cmd.add_option("--key", o.sign.key, "file of the key that signs the report (govern audit key)");
  cmd.add_option("--by", o.sign.by, "who answers for it");
  cmd.add_option("--last", o.sign.last, "report of the last release, to compare with");
  cmd.add_option("--audit-log", o.sign.log, "folder of an audit log that gets a record of it");
  cmd.add_option("--audit-key", o.sign.log_key, "file of the key that signs the log");
  cmd.add_flag("--json", o.json, "print one JSON object");
  cmd.add_flag("--require", o.require, "exit with 4 unless all requirements are met");
}

void add_run(CLI::App& cmd, AssessCommandOptions& o) {
  cmd.add_option("-m,--model", o.assess.model, "MODEL, or the address of a service (http://host:port)");
  add_models_option(cmd);
  cmd.add_option("--plan", o.assess.plan, "a plan's file, or the name of one that comes with the program");
  cmd.add_option("--out", o.out, "folder of the assessment; one that was interrupted goes on");
  add_banks(cmd, o);
  cmd.add_option("--guard", o.assess.guard, "a generative guard model that judges answers: MODEL or an address");
  cmd.add_option("--seed", o.assess.seed, "of the sample and of draws (1)");
  cmd.add_option("--limit", o.assess.limit, "so many questions of a test at most, to try it out")
      ->check(CLI::PositiveNumber);
  cmd.add_option("--policy", o.assess.policy, "answers go through this policy, as those of serve --policy do");
  cmd.add_option("--policy-packs", o.assess.packs, "folder of its keyword packs (default: beside the file)");
  cmd.add_option("--system", o.system_file, "file of the system message that stands before each question");
  cmd.add_option("--max-tokens", o.assess.max_tokens, "of an answer (512)")->check(CLI::PositiveNumber);
  cmd.add_option("--temperature", o.assess.temperature, "0 (default): the most likely token each time")
      ->check(CLI::Range(0.0, 2.0));
  cmd.add_option("--checkpoint", o.assess.files, "of an address: the MODEL that runs there, on your word");
  cmd.add_option("--adapter,--lora", o.assess.subject.adapter, "LoRA adapter in use: a PEFT folder or a GGUF file");
  cmd.add_option("--set", o.assess.subject.set, "a variable of the chat template, key=value (value as JSON)");
  cmd.add_option("--served-model", o.assess.subject.served_model,
                 "which of a service's models; OPENAI_API_KEY is its key");
  cmd.add_option("--calls", o.assess.subject.calls, "calls of a service at once")->check(CLI::Range(1, 256));
  cmd.add_option("--context", o.assess.subject.context, "longest prompt in tokens (default: the model's, at most 4096)")
      ->check(CLI::PositiveNumber);
  add_threads_option(cmd, o.assess.subject.threads);
  add_signing(cmd, o);
}

}  // namespace

void add_govern_assess(CLI::App& govern, Outcome& outcome) {
  CLI::App* assess =
      govern.add_subcommand("assess", "test a model by a plan, judge its answers, and sign what came out");
  assess->require_subcommand(0, 1);
  const auto o = std::make_shared<AssessCommandOptions>();
  add_run(*assess, *o);
  assess->callback([o, assess, &outcome] {
    if (!assess->get_subcommands().empty()) return;
    if (const Status status = run(*o); !status) outcome.code = app::report(status.error());
  });
  const auto add = [&](const char* name, const char* what, Status (*command)(const AssessCommandOptions&)) {
    CLI::App* cmd = assess->add_subcommand(name, what);
    const auto own = std::make_shared<AssessCommandOptions>();
    cmd->callback([own, command, &outcome] {
      if (const Status status = command(*own); !status) outcome.code = app::report(status.error());
    });
    return std::pair(cmd, own);
  };
  {
    const auto [cmd, own] = add("plans", "the plans that come with the program", plans);
    cmd->add_flag("--json", own->json, "an object a line");
  }
  {
    const auto [cmd, own] = add("show", "print a plan", show);
    cmd->add_option("PLAN", own->assess.plan, "its name or file")->required();
  }
  {
    const auto [cmd, own] = add("check", "what of a plan banks and keywords meet; no model is asked", check);
    cmd->add_option("--plan", own->assess.plan, "a plan's file or name")->required();
    add_banks(*cmd, *own);
    cmd->add_flag("--json", own->json, "print one JSON object");
    cmd->add_flag("--require", own->require, "exit with 4 if one is not met");
  }
  {
    const auto [cmd, own] = add("report", "make the report of an assessment, as it is now", report);
    cmd->add_option("DIR", own->out, "folder of the assessment")->required();
    add_signing(*cmd, *own);
  }
  {
    const auto [cmd, own] =
        add("verify", "check a report with the public key: exit code 3 if anything does not hold", verify);
    cmd->add_option("REPORT", own->report, "report.json, its rows.jsonl beside it")->required();
    cmd->add_option("--key", own->public_key, "file of the public key")->required();
    cmd->add_option("-m,--model", own->assess.model, "MODEL that it should be of");
    add_models_option(*cmd);
    cmd->add_option("--adapter,--lora", own->assess.subject.adapter, "adapter that it should be of");
    cmd->add_option("--policy", own->assess.policy, "policy that it should be of");
    cmd->add_option("--policy-packs", own->assess.packs, "folder of its keyword packs");
    cmd->add_option("--plan", own->assess.plan, "plan that it should be by");
    add_banks(*cmd, *own);
    cmd->add_flag("--json", own->json, "print one JSON object");
  }
  add_govern_review(*assess, outcome);
}

}  // namespace qw::app
