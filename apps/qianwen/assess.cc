#include "assess.h"

#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>

#include "audit.h"
#include "base/clock.h"
#include "base/file.h"
#include "chat/guard_output.h"
#include "commands.h"
#include "data/byte_reader.h"
#include "governance/audit/log_files.h"
#include "governance/guard/text_guard.h"
#include "model_identity.h"
#include "policy.h"
#include "text_source.h"

namespace qw::app {
namespace {

namespace fs = std::filesystem;
using namespace governance;

constexpr std::uint64_t kMostListBytes = 256 << 20;
constexpr std::size_t kMostBankBytes = std::size_t{1} << 30;
constexpr std::int64_t kVerdictTokens = 128;  // three short lines
constexpr std::size_t kPiece = 1 << 16;
// In front of what a service says in place of an answer that its policy blocked. No model writes this character.
constexpr const char* kBlocked = "\x1f";

struct Given {
  std::string name, file;
};
Result<Given> given(const std::string& text, const char* option) {
  const auto at = text.find('=');
  if (at == std::string::npos || at == 0 || at + 1 == text.size())
    return fail(ErrorKind::kUsage, std::string("govern assess: ") + option + " " + text + ": expected NAME=FILE");
  return Given{text.substr(0, at), text.substr(at + 1)};
}

struct CloseGzip {
  void operator()(gzFile file) const { gzclose(file); }
};

Result<std::string> unpacked_gzip(const std::string& path) {
  const std::unique_ptr<gzFile_s, CloseGzip> file(gzopen(path.c_str(), "rb"));
  if (file == nullptr) return fail(ErrorKind::kFailed, path + ": cannot be opened");
  std::string out, piece(kPiece, '\0');
  for (;;) {
    const int n = gzread(file.get(), piece.data(), static_cast<unsigned>(piece.size()));
    if (n < 0) return fail(ErrorKind::kBadInput, path + ": is damaged");
    if (n == 0) break;
    out.append(piece, 0, static_cast<std::size_t>(n));
    if (out.size() > kMostBankBytes) return fail(ErrorKind::kBadInput, path + ": is larger than a bank may be");
  }
  int error = Z_OK;
  (void)gzerror(file.get(), &error);
  if (error != Z_OK) return fail(ErrorKind::kBadInput, path + ": is cut off or damaged");
  return out;
}

// The file, unpacked if its name ends in .xz or .gz, which goes from the name.
Result<std::string> read_bank(const std::string& path, std::string& name) {
  name = fs::path(path).filename().string();
  if (name.ends_with(".gz")) {
    name.resize(name.size() - 3);
    return unpacked_gzip(path);
  }
  if (!name.ends_with(".xz")) return base::read_file(path, kMostBankBytes);
  name.resize(name.size() - 3);
  QW_ASSIGN(auto reader, data::ByteReader::open(path));
  std::string out, piece(kPiece, '\0');
  for (;;) {
    QW_ASSIGN(const std::size_t n, reader.read(piece));
    if (n == 0) return out;
    out.append(piece, 0, n);
    if (out.size() > kMostBankBytes) return fail(ErrorKind::kBadInput, path + ": is larger than a bank may be");
  }
}

json::Object describe_bank(const BankRule& rule, const Bank& bank, const std::string& file, const std::string& hash) {
  std::map<std::string, std::int64_t> counts;
  for (const Question& question : bank.questions) ++counts[question.type];
  json::Array types;
  for (const auto& [type, count] : counts) types.push_back(json::Object{{"type", type}, {"count", count}});
  return {{"name", rule.name},
          {"file", file},
          {"sha256", hash},
          {"questions", static_cast<std::int64_t>(bank.questions.size())},
          {"duplicates", bank.duplicates},
          {"updated", bank.updated},
          {"types", std::move(types)}};
}

// Says on standard error how far it is: on a terminal a few times a second, else every ten seconds.
AssessProgress progress_line() {
  using Clock = std::chrono::steady_clock;
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const auto pause = terminal ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10'000);
  return [terminal, pause, last = Clock::now()](std::string_view what, std::size_t done, std::size_t total) mutable {
    const auto now = Clock::now();
    if (now - last < pause) return;
    last = now;
    std::fprintf(stderr, terminal ? "\r\033[K%.*s: %zu of %zu" : "%.*s: %zu of %zu\n", static_cast<int>(what.size()),
                 what.data(), done, total);
  };
}

// The draws of one item's answer: the same whatever else is asked.
std::uint64_t seed_of(const std::string& seed, const SampledItem& item) {
  const Hash hash = sha256("answer\n" + seed + "\n" + item.bank + "\n" + item.question.id);
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < 8; ++i) out = out << 8 | hash[i];
  return out >> 1;
}

// Answers as clients get them: through the policy, if there is one.
class Asker {
 public:
  Asker(const AssessOptions& o, const Assessment& assessment, eval::Subject& subject, const Policy* policy)
      : o_(o), assessment_(assessment), subject_(subject), policy_(policy) {}

  Result<std::vector<ItemAnswer>> operator()(std::span<const std::size_t> items, std::span<const std::string> prompts) {
    std::vector<ItemAnswer> out(prompts.size());
    std::vector<eval::Question> questions;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      std::string prompt = prompts[i];
      if (policy_ != nullptr && blocks(policy_->input(), prompt)) {
        out[i] = {policy_->profile().input.reply, true};
        continue;
      }
      questions.push_back(question(items[i], std::move(prompt)));
      places.push_back(i);
    }
    QW_ASSIGN(const auto answers, subject_.answers(questions, {}));
    for (std::size_t k = 0; k < answers.size(); ++k) out[places[k]] = answer(answers[k]);
    return out;
  }

 private:
  static bool blocks(const GuardRules& rules, std::string& text) {
    std::vector<GuardFinding> findings;
    Guarded guarded = guard_text(rules, text, findings);
    text = std::move(guarded.text);
    return guarded.blocked;
  }
  eval::Question question(std::size_t item, std::string prompt) const {
    eval::Question q;
    if (!o_.system.empty()) q.prompt.messages.push_back(json::Object{{"role", "system"}, {"content", o_.system}});
    q.prompt.messages.push_back(json::Object{{"role", "user"}, {"content", std::move(prompt)}});
    q.max_tokens = o_.max_tokens;
    q.temperature = static_cast<float>(o_.temperature);
    q.seed = seed_of(o_.seed, assessment_.items()[item]);
    return q;
  }
  ItemAnswer answer(std::string text) const {
    if (text.starts_with(kBlocked)) return {text.substr(1), true};
    if (policy_ == nullptr) return {std::move(text), false};
    const GuardSide& side = policy_->profile().output;
    if (!blocks(policy_->output(), text)) return {std::move(text), false};
    return {(policy_->profile().retracts ? "" : text) + side.reply, true};
  }

  const AssessOptions& o_;
  const Assessment& assessment_;
  eval::Subject& subject_;
  const Policy* policy_;
};

bool anything_to_ask(const Assessment& assessment) {
  for (std::size_t i = 0; i < assessment.items().size(); ++i)
    if (assessment.answer(i) == nullptr && assessment.plan().bank(assessment.items()[i].bank)->kind != BankKind::kTexts)
      return true;
  return false;
}

Status ask(const AssessOptions& o, Assessment& assessment, const AssessProgress& progress) {
  if (!anything_to_ask(assessment))
    return ask_all(
        assessment, [](auto, auto) { return std::vector<ItemAnswer>(); }, progress);
  std::unique_ptr<const Policy> policy;
  if (!o.policy.empty()) {
    QW_ASSIGN(policy, open_policy(o.policy, o.packs));
  }
  SubjectOptions options = o.subject;
  options.blocked = kBlocked;
  QW_ASSIGN(const auto subject, load_subject(options, o.model));
  Asker asker(o, assessment, *subject->subject, policy.get());
  QW_TRY(ask_all(assessment, std::ref(asker), progress));
  if (subject->shortened() > 0)
    std::fprintf(stderr,
                 "qianwen: %lld questions were longer than the context of %lld tokens and lost their beginning\n",
                 static_cast<long long>(subject->shortened()), static_cast<long long>(subject->context));
  return {};
}

GuardSays says_of(const std::string& text, bool strict) {
  const auto verdict = chat::parse_guard_output(text);
  GuardSays out;
  if (!verdict) {  // nothing is known: people look at it
    out.why = verdict.error().message;
    return out;
  }
  out.acceptable =
      verdict->safety == chat::Safety::kSafe || (verdict->safety == chat::Safety::kControversial && !strict);
  out.refused = verdict->refusal;
  out.why = chat::safety_name(verdict->safety);
  for (const std::string& category : verdict->categories) out.why += ", " + category;
  return out;
}

Status guard(const AssessOptions& o, Assessment& assessment, const AssessProgress& progress) {
  std::string by = "guard " + o.guard;
  if (!is_address(o.guard)) {
    QW_ASSIGN(const json::Object identity, model_identity(o.guard, interrupted()));
    by = "guard " + served_name(o.guard) + " " + identity.find("sha256")->as_string();
  }
  std::unique_ptr<ReadySubject> subject;  // loaded if there is anything to judge
  const Guarding guarding = [&](std::span<const GuardQuestion> asked) -> Result<std::vector<GuardSays>> {
    if (subject == nullptr) {
      SubjectOptions options;
      options.threads = o.subject.threads;
      options.calls = o.subject.calls;
      options.set = {"enable_thinking=false"};
      QW_ASSIGN(subject, load_subject(options, o.guard));
    }
    std::vector<GuardSays> out(asked.size());
    std::vector<eval::Question> questions;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < asked.size(); ++i) {
      if (asked[i].answer.empty()) {
        out[i] = {true, std::nullopt, "nothing was said"};
        continue;
      }
      eval::Question& q = questions.emplace_back();
      q.max_tokens = kVerdictTokens;
      if (!asked[i].prompt.empty())
        q.prompt.messages.push_back(json::Object{{"role", "user"}, {"content", asked[i].prompt}});
      q.prompt.messages.push_back(
          json::Object{{"role", asked[i].prompt.empty() ? "user" : "assistant"}, {"content", asked[i].answer}});
      places.push_back(i);
    }
    QW_ASSIGN(const auto answers, subject->subject->answers(questions, {}));
    for (std::size_t k = 0; k < answers.size(); ++k) out[places[k]] = says_of(answers[k], assessment.plan().strict);
    return out;
  };
  return judge_by_guard(assessment, by, guarding, progress);
}

}  // namespace

Result<Plan> open_plan(const std::string& name_or_file) {
  if (const std::string_view shipped = shipped_plan(name_or_file); !shipped.empty()) return Plan::parse(shipped);
  std::error_code ignored;
  if (!fs::exists(name_or_file, ignored)) {
    std::string known;
    for (const std::string& name : shipped_plans()) known += (known.empty() ? "" : ", ") + name;
    return fail(ErrorKind::kBadInput, name_or_file + ": no such file, and no plan of that name: " + known);
  }
  QW_ASSIGN(const std::string file, base::read_file(name_or_file, kMostListBytes));
  auto plan = Plan::parse(file);
  if (!plan) return in_context(name_or_file, std::move(plan).error());
  return plan;
}

Result<GivenBanks> read_banks(const Plan& plan, const std::vector<std::string>& banks,
                              const std::vector<std::string>& answers) {
  std::map<std::string, std::string> right;
  for (const std::string& text : answers) {
    QW_ASSIGN(const Given one, given(text, "--answers"));
    QW_ASSIGN(right[one.name], base::read_file(one.file, kMostBankBytes));
  }
  GivenBanks out;
  std::set<std::string> seen;
  for (const std::string& text : banks) {
    QW_ASSIGN(const Given one, given(text, "--bank"));
    const BankRule* rule = plan.bank(one.name);
    if (rule == nullptr) {
      std::string known;
      for (const BankRule& bank : plan.banks) known += (known.empty() ? "" : ", ") + bank.name;
      return fail(ErrorKind::kUsage, "the plan " + plan.name + " has no bank " + one.name + ", only " + known);
    }
    if (!seen.insert(one.name).second) return fail(ErrorKind::kUsage, "--bank " + one.name + " is given twice");
    std::string name;
    QW_ASSIGN(const std::string bytes, read_bank(one.file, name));
    QW_ASSIGN(Bank bank, parse_bank(bytes, name, right[one.name]));
    QW_TRY(keep_for(*rule, bank));
    const std::string hash = to_hex(sha256(right[one.name].empty() ? bytes : bytes + right[one.name]));
    out.about.push_back(describe_bank(*rule, bank, name, hash));
    out.banks.emplace_back(rule, std::move(bank));
  }
  return out;
}

Result<GivenKeywords> read_keywords(const std::string& file) {
  QW_ASSIGN(const std::string bytes, base::read_file(file, kMostListBytes));
  auto list = KeywordList::parse(bytes);
  if (!list) return in_context(file, std::move(list).error());
  json::Object about = describe_library(*list, bytes, fs::path(file).filename().string());
  return GivenKeywords{std::move(*list), std::move(about)};
}

Result<json::Object> describe_subject(const AssessOptions& o) {
  json::Object out{{"max_tokens", o.max_tokens},
                   {"temperature_millionths", static_cast<std::int64_t>(std::llround(o.temperature * 1e6))},
                   {"system_sha256", o.system.empty() ? "" : to_hex(sha256(o.system))},
                   {"variables", json::Array(o.subject.set.begin(), o.subject.set.end())}};
  const bool served = is_address(o.model);
  const std::string& model = served ? o.files : o.model;
  out.set("name", served ? (o.subject.served_model.empty() ? o.model : o.subject.served_model) : served_name(o.model));
  if (served) out.set("address", o.model);
  // Whether the hashes below are of what answered, or of what the operator says runs there.
  out.set("declared", served);
  out.set("sha256", "");
  if (!model.empty()) {
    QW_ASSIGN(json::Object identity, model_identity(model, interrupted()));
    for (auto& [name, value] : identity) out.set(name, std::move(value));
    QW_ASSIGN(const auto tokenizer, tokenizer_of(model));
    out.set("template_sha256", to_hex(sha256(chat_template_of(tokenizer))));
  }
  out.set("adapter_sha256", "");
  if (!o.subject.adapter.empty()) {
    QW_ASSIGN(const json::Object identity, model_identity(o.subject.adapter, interrupted()));
    out.set("adapter_sha256", *identity.find("sha256"));
    out.set("adapter_files", *identity.find("files"));
  }
  out.set("policy", "");
  if (!o.policy.empty()) {
    if (served)
      return fail(ErrorKind::kUsage,
                  "govern assess: a service follows its own policy; --policy is for models of this machine");
    QW_ASSIGN(const auto policy, open_policy(o.policy, o.packs));
    out.set("policy", policy->hash());
    out.set("policy_profile", policy->profile().name);
  }
  return out;
}

Result<std::unique_ptr<Assessment>> begin_assessment(const AssessOptions& o, const std::string& folder) {
  QW_ASSIGN(const Plan plan, open_plan(o.plan));
  QW_ASSIGN(GivenBanks given, read_banks(plan, o.banks, o.answers));
  if (given.banks.empty())
    return fail(ErrorKind::kUsage, "govern assess: give at least one bank of the plan (--bank NAME=FILE)");
  std::vector<SampledItem> sample;
  for (const auto& [rule, bank] : given.banks) {
    std::int64_t most = 0;
    for (const TestRule& test : plan.tests)
      if (test.bank == rule->name)
        most = std::max(most, wanted_of(test, static_cast<std::int64_t>(bank.questions.size()), o.limit));
    const auto order = drawn_order(bank, rule->name, o.seed);
    for (std::int64_t i = 0; i < most; ++i) sample.push_back({rule->name, *order[static_cast<std::size_t>(i)]});
  }
  QW_ASSIGN(json::Object subject, describe_subject(o));
  return Assessment::begin(folder,
                           {{"plan", plan.document},
                            {"plan_sha256", to_hex(plan.hash)},
                            {"seed", o.seed},
                            {"limit", o.limit},
                            {"subject", std::move(subject)},
                            {"banks", std::move(given.about)}},
                           sample);
}

Status run_assessment(const AssessOptions& o, Assessment& assessment) {
  const AssessProgress progress = progress_line();
  QW_TRY(ask(o, assessment, progress));
  std::optional<GivenKeywords> keywords;
  KeywordLibrary library;
  if (!o.keywords.empty()) {
    QW_ASSIGN(keywords, read_keywords(o.keywords));
    library = {&keywords->list, keywords->about};
  }
  QW_TRY(judge_by_rules(assessment, keywords ? &library : nullptr));
  if (!o.guard.empty()) QW_TRY(guard(o, assessment, progress));
  if (::isatty(STDERR_FILENO) == 1) std::fputs("\r\033[K", stderr);
  return {};
}

Status make_report(const Assessment& assessment, const SignOptions& o) {
  if (o.by.empty()) return fail(ErrorKind::kUsage, "govern assess: a report names who answers for it: --by");
  QW_ASSIGN(const SigningKey key, SigningKey::read(o.key));
  std::optional<LastReport> last;
  if (!o.last.empty()) {
    QW_ASSIGN(last, read_last_report(o.last));
  }
  const auto rows = rows_of(assessment);
  const json::Object document =
      report_of(assessment, rows, {o.by, QW_VERSION, timestamp(base::unix_us()), last ? &*last : nullptr});
  const fs::path& folder = assessment.folder();
  const std::string file = signed_report(document, key), id = key.public_key().id();
  QW_ASSIGN(const Report made, Report::parse(file));
  QW_ASSIGN(const auto log, open_audit(o.log, o.log_key));
  QW_TRY(base::write_file_atomically(folder / kRowsFile, rows_text(rows)));
  QW_TRY(base::write_file_atomically(folder / kReportFile, file));
  QW_TRY(base::write_file_atomically(folder / kReportMarkdown, report_markdown(made.document, id)));
  QW_TRY(base::write_file_atomically(folder / kReportPage, report_page(made.document, id)));
  if (log == nullptr) return {};
  return log->append_and_wait({{"type", "assessment"},
                               {"report", to_hex(made.hash())},
                               {"plan", assessment.plan().name},
                               {"plan_sha256", to_hex(assessment.plan().hash)},
                               {"model", made.text("subject.name")},
                               {"model_sha256", made.text("subject.sha256")},
                               {"adapter_sha256", made.text("subject.adapter_sha256")},
                               {"result", made.text("result")},
                               {"by", o.by},
                               {"key", id}});
}

}  // namespace qw::app
