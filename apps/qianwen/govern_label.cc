// qianwen govern label write | check | verify: labels of generated content in files (docs/operations/labels.md).
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "base/file.h"
#include "commands.h"
#include "governance/label/label_file.h"
#include "governance/label/notice.h"
#include "governance/label/statement.h"
#include "governance/label/visible_label.h"

namespace qw::app {
namespace {

using namespace governance;

struct LabelOptions {
  std::vector<std::string> files;
  std::string file, out, producer, id, kind = "generated", notice, key, model;
  std::vector<std::string> public_keys;
  bool json = false;
};

// A file of a few megabytes can unpack to any size: what reading one may take beside what the program has.
constexpr std::uint64_t kMostMemory = std::uint64_t{2} << 30;

void limit_memory() {
  std::ifstream in("/proc/self/statm");
  std::uint64_t pages = 0;
  if (!(in >> pages)) return;
  const std::uint64_t most = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) + kMostMemory;
  struct rlimit now {};
  if (::getrlimit(RLIMIT_AS, &now) != 0) return;
  now.rlim_cur = std::min<rlim_t>(now.rlim_cur, most);
  ::setrlimit(RLIMIT_AS, &now);
}

// Of texts that readers see as they are.
std::optional<NoticeForm> form_of(const std::string& name, std::optional<LabelFormat> format) {
  if (format == LabelFormat::kMarkdown) return NoticeForm::kMarkdown;
  if (format == LabelFormat::kHtml) return NoticeForm::kHtml;
  if (!format && name.ends_with(".txt")) return NoticeForm::kText;
  return std::nullopt;
}

const char* label_of_kind(const std::string& kind) {
  if (kind == "generated") return "1";
  return kind == "possible" ? "2" : "3";
}

Result<std::string> read(const std::string& name) { return base::read_file(name, kMostLabelledBytes); }

bool has_visible(std::optional<LabelFormat> format) {
  return format == LabelFormat::kOoxml || format == LabelFormat::kPdf || format == LabelFormat::kPng ||
         format == LabelFormat::kJpeg;
}

// `notice`: a language, or words of the operator's own.
Result<std::string> noticed(const LabelOptions& o, std::optional<LabelFormat> format, std::optional<NoticeForm> form,
                            const std::string& file) {
  const char* known = notice_in(o.notice);
  const std::string words = known != nullptr ? known : o.notice;
  if (form) return with_notice(*form, file, words);
  if (!has_visible(format))
    return fail(ErrorKind::kUsage, "--notice goes with texts (md, html, txt), docx, pdf, png and jpeg");
  if (known == nullptr && format != LabelFormat::kOoxml)
    return fail(ErrorKind::kUsage, "marks in PDF and pictures are those of zh, en and it, not words of one's own");
  return with_visible_label(*format, file, {words, o.notice == "zh" ? MarkText::kAiGenerated : MarkText::kAi});
}

tl::unexpected<Error> unknown(const std::string& name) {
  return fail(ErrorKind::kUsage,
              name + ": no format that carries a label (json, md, html, docx, xlsx, pptx, pdf, png, jpeg)");
}

Status write(const LabelOptions& o) {
  QW_ASSIGN(std::string file, read(o.file));
  const auto format = format_of(o.file, file);
  const auto form = form_of(o.file, format);
  if (!format && !form) return unknown(o.file);
  if (!o.notice.empty()) {
    auto with = noticed(o, format, form, file);
    if (!with) return in_context(o.file, std::move(with).error());
    file = std::move(*with);
  }
  std::string id;
  if (format) {
    if (o.producer.empty()) return fail(ErrorKind::kUsage, "govern label write: --producer is missing");
    AigcLabel label;
    label.label = label_of_kind(o.kind);
    label.producer = o.producer;
    id = label.produce_id = o.id.empty() ? new_produce_id() : o.id;
    std::optional<SigningKey> key;
    if (!o.key.empty()) {
      QW_ASSIGN(key, SigningKey::read(o.key));
    }
    auto labelled = key ? with_signed_label(*format, file, label, o.model, *key) : with_label(*format, file, label);
    if (!labelled) return in_context(o.file, std::move(labelled).error());
    file = std::move(*labelled);
  } else if (!o.key.empty()) {
    return fail(ErrorKind::kUsage, o.file + ": a plain text carries no label, so none is signed");
  } else if (o.notice.empty()) {
    return fail(ErrorKind::kUsage,
                o.file + ": a plain text carries no label, only words: --notice zh, en, it or a text");
  }
  QW_TRY(base::write_file_atomically(o.out.empty() ? o.file : o.out, file));
  if (!id.empty()) std::puts(id.c_str());
  return {};
}

// One line, or an object, for each file.
Result<bool> check_one(const std::string& name, bool json) {
  QW_ASSIGN(const std::string file, read(name));
  const auto format = format_of(name, file);
  const auto form = form_of(name, format);
  if (!format && !form) return unknown(name);
  LabelReport report;
  if (format) report = read_labels(*format, file);
  std::optional<bool> words;
  if (form) {
    const auto told = tells_readers(*form, file);
    if (told) words = *told;
  } else if (has_visible(format)) {
    const auto told = has_visible_label(*format, file);
    // A document's words can be read. That there is no mark of this program's in a drawing says nothing of others'.
    if (told && (*told || format == LabelFormat::kOoxml)) words = *told;
  }
  const char* verdict = format ? name_of(report.verdict) : "no_carrier";
  if (json) {
    json::Array labels;
    for (const AigcLabel& label : report.labels) labels.emplace_back(to_json(label));
    json::Object out{{"file", name}, {"verdict", verdict}, {"labels", std::move(labels)}};
    if (format) out.set("format", name_of(*format));
    if (!report.finding.empty()) out.set("finding", report.finding);
    if (words) out.set("explicit", *words);
    std::puts(json::dump(json::Value(std::move(out))).c_str());
  } else {
    std::printf("%s: %s", name.c_str(), verdict);
    if (!report.finding.empty()) std::printf(" (%s)", report.finding.c_str());
    for (const AigcLabel& label : report.labels) std::printf("  %s", compact_json(label).c_str());
    if (words) std::printf("  %s", *words ? "its words say so too" : "its words do not say so");
    std::printf("\n");
  }
  return format ? report.verdict == LabelVerdict::kCompliant : words.value_or(false);
}

// One line, or an object, for each file: what its statements say, and whether they hold.
Result<bool> verify_one(const std::string& name, const std::vector<PublicKey>& keys, bool json) {
  QW_ASSIGN(const std::string file, read(name));
  const auto format = format_of(name, file);
  if (!format) return unknown(name);
  const auto checks = check_statements(*format, file, keys);
  std::string finding = checks ? "" : checks.error().message;
  if (checks && checks->empty()) finding = "its label has no statement";
  json::Array statements;
  bool fine = finding.empty();
  std::string line;
  if (checks) {
    for (const StatementCheck& one : *checks) {
      fine = fine && one.fault.empty();
      json::Object said{{"by", one.producers ? "producer" : "propagator"},
                        {"verified", one.fault.empty()},
                        {"key", one.statement.key.id()},
                        {"model", one.statement.model},
                        {"time", one.statement.time}};
      if (!one.fault.empty()) said.set("finding", one.fault);
      statements.emplace_back(std::move(said));
      line += std::string("  ") + (one.producers ? "producer" : "propagator") + ", key " + one.statement.key.id() +
              ", " + one.statement.time + (one.statement.model.empty() ? "" : ", " + one.statement.model) +
              (one.fault.empty() ? "" : ": " + one.fault);
    }
  }
  if (json) {
    json::Object out{{"file", name}, {"verified", fine}, {"statements", std::move(statements)}};
    if (!finding.empty()) out.set("finding", finding);
    std::puts(json::dump(json::Value(std::move(out))).c_str());
  } else {
    std::printf("%s: %s%s%s\n", name.c_str(), fine ? "verified" : "not verified", line.c_str(),
                finding.empty() ? "" : (" (" + finding + ")").c_str());
  }
  return fine;
}

Status verify(const LabelOptions& o) {
  std::vector<PublicKey> keys;
  for (const std::string& name : o.public_keys) {
    QW_ASSIGN(const PublicKey key, PublicKey::read(name));
    keys.push_back(key);
  }
  std::size_t without = 0;
  for (const std::string& name : o.files) {
    QW_ASSIGN(const bool fine, verify_one(name, keys, o.json));
    if (!fine) ++without;
  }
  if (without == 0) return {};
  return fail(ErrorKind::kRefused, "govern label verify: " + std::to_string(without) + " of " +
                                       std::to_string(o.files.size()) + " not verified");
}

Status check(const LabelOptions& o) {
  std::size_t without = 0;
  for (const std::string& name : o.files) {
    QW_ASSIGN(const bool fine, check_one(name, o.json));
    if (!fine) ++without;
  }
  if (without == 0) return {};
  return fail(ErrorKind::kRefused, "govern label check: " + std::to_string(without) + " of " +
                                       std::to_string(o.files.size()) + " without a label in order");
}

}  // namespace

void add_govern_label(CLI::App& govern, Outcome& outcome) {
  CLI::App* label = govern.add_subcommand("label", "labels of generated content in files (GB 45438-2025)");
  label->require_subcommand(1);
  const auto o = std::make_shared<LabelOptions>();
  const auto runs = [&outcome, o](Status (*work)(const LabelOptions&)) {
    return [&outcome, o, work] {
      limit_memory();
      if (const Status status = work(*o); !status) outcome.code = report(status.error());
    };
  };
  CLI::App* write_command = label->add_subcommand("write", "label a file; prints the content's number");
  write_command->add_option("file", o->file, "json, md, html, docx, xlsx, pptx, pdf, png, jpeg, or txt")->required();
  write_command->add_option("--producer", o->producer, "the provider's name or its code of 27 characters");
  write_command->add_option("--id", o->id, "the content's number (default: a new one)");
  write_command->add_option("--kind", o->kind, "what is known: generated, possible, suspected")
      ->check(CLI::IsMember({"generated", "possible", "suspected"}));
  write_command->add_option("--notice", o->notice,
                            "words for readers too, of md, html, txt and docx: zh, en, it, or a text; a mark in pdf, "
                            "png and jpeg: zh, en, it");
  write_command->add_option("-o,--out", o->out, "where to (default: the file itself)");
  auto* key = write_command->add_option(
      "--key", o->key, "sign a statement of the content with this key (govern audit key); it goes into the label");
  write_command->add_option("--model", o->model, "the model that the statement names")->needs(key);
  write_command->callback(runs(write));
  CLI::App* verify_command = label->add_subcommand(
      "verify",
      "whether the statements in files' labels were signed by these keys, of what the files hold; exit code 4 if not");
  verify_command->add_option("files", o->files, "files")->required();
  verify_command->add_option("--key", o->public_keys, "the public key (FILE.pub); more than once: any of them")
      ->required()
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verify_command->add_flag("--json", o->json, "an object a line for each file");
  verify_command->callback(runs(verify));
  CLI::App* check_command = label->add_subcommand("check", "whether files have one label in order; exit code 4 if not");
  check_command->add_option("files", o->files, "files")->required();
  check_command->add_flag("--json", o->json, "an object a line for each file");
  check_command->callback(runs(check));
}

}  // namespace qw::app
