// qianwen govern scan [FILE]: what keywords, patterns and personal data a text holds, or the text without them
// (docs/operations/scan.md).
#include <array>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <optional>

#include "base/file.h"
#include "base/utf8.h"
#include "commands.h"
#include "governance/guard/text_guard.h"
#include "json/value.h"

namespace qw::app {
namespace {

using namespace governance;

struct ScanOptions {
  std::string file = "-", keywords, patterns, pii;
  bool json = false, redact = false, blocks = false;
};

constexpr std::uint64_t kMaxListBytes = 256 << 20;  // ten million keywords
constexpr std::size_t kPiece = 1 << 16;

void print(const GuardFinding& one, bool json) {
  std::string text;
  base::append_valid_utf8(text, one.text, true);
  if (json) {
    json::Object out{{"begin", static_cast<std::int64_t>(one.begin)},
                     {"end", static_cast<std::int64_t>(one.end)},
                     {"kind", one.kind},
                     {"text", text}};
    if (one.line > 0) out.set("line", static_cast<std::int64_t>(one.line));
    std::puts(json::dump(out).c_str());
  } else {
    std::printf("%llu-%llu  %s  %s\n", static_cast<unsigned long long>(one.begin),
                static_cast<unsigned long long>(one.end), one.kind.c_str(), text.c_str());
  }
}

template <class List>
Result<List> list_in(const std::string& path) {
  QW_ASSIGN(const std::string file, base::read_file(path, kMaxListBytes));
  auto list = List::parse(file);
  if (!list) return in_context(path, std::move(list).error());
  return list;
}

Status scan(const ScanOptions& o) {
  if (o.keywords.empty() && o.patterns.empty() && o.pii.empty())
    return fail(ErrorKind::kUsage,
                "govern scan: nothing is looked for; give --keywords FILE, --patterns FILE or --pii KINDS");
  GuardRules rules;
  const GuardAction action = o.redact ? GuardAction::kCover : GuardAction::kFlag;
  std::optional<KeywordList> words;
  if (!o.keywords.empty()) {
    QW_ASSIGN(words, list_in<KeywordList>(o.keywords));
    rules.words.push_back({&*words, action, {}});
  }
  std::optional<PatternList> patterns;
  if (!o.patterns.empty()) {
    QW_ASSIGN(patterns, list_in<PatternList>(o.patterns));
    rules.patterns.push_back({&*patterns, std::vector(patterns->categories().size(), action)});
  }
  if (!o.pii.empty()) {
    auto kinds = PiiSet::parse(o.pii);
    if (!kinds) return in_context("govern scan: --pii", std::move(kinds).error());
    rules.pii = *kinds;
  }
  if (o.redact) rules.on_pii.fill(GuardAction::kCover);
  std::ifstream opened;
  if (o.file != "-") {
    opened.open(o.file, std::ios::binary);
    if (!opened) return fail(ErrorKind::kFailed, o.file + ": cannot be opened");
  }
  std::istream& in = o.file == "-" ? std::cin : opened;
  TextGuard guard(rules);
  std::vector<GuardFinding> findings;
  std::uint64_t count = 0;
  const auto give = [&](const std::string& text) {
    count += findings.size();
    if (o.redact)
      std::fwrite(text.data(), 1, text.size(), stdout);
    else
      for (const GuardFinding& one : findings) print(one, o.json);
    findings.clear();
  };
  std::array<char, kPiece> piece;
  while (in.read(piece.data(), piece.size()) || in.gcount() > 0)
    give(guard.push({piece.data(), static_cast<std::size_t>(in.gcount())}, findings));
  if (in.bad()) return fail(ErrorKind::kFailed, o.file + ": cannot be read");
  give(guard.finish(findings));
  if (std::fflush(stdout) != 0) return fail(ErrorKind::kFailed, "the output cannot be written");
  if (o.blocks && count > 0)
    return fail(ErrorKind::kRefused, "govern scan: " + std::to_string(count) + (count == 1 ? " finding" : " findings"));
  return {};
}

}  // namespace

void add_govern_scan(CLI::App& govern, Outcome& outcome) {
  const auto o = std::make_shared<ScanOptions>();
  CLI::App* cmd =
      govern.add_subcommand("scan", "what keywords, patterns and personal data a text holds, or the text without them");
  cmd->add_option("file", o->file, "the text; - is standard input (default)");
  cmd->add_option("--keywords", o->keywords, "lists of words, as serve --moderation-words reads them");
  cmd->add_option("--patterns", o->patterns, "lists of regular expressions, as pattern_packs of a policy has them");
  cmd->add_option("--pii", o->pii, "kinds of personal data, with commas: eu, it, cn, us, all, or kinds by name");
  auto* json = cmd->add_flag("--json", o->json, "an object a line for each finding");
  cmd->add_flag("--redact", o->redact, "write the text with what was found covered")->excludes(json);
  cmd->add_flag("--fail", o->blocks, "exit with 4 if anything was found");
  cmd->callback([o, &outcome] {
    if (const Status status = scan(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
