#include "eval/answer_rule.h"

#include <algorithm>

#include "eval/pattern.h"
#include "eval/internal/words.h"

namespace qw::eval {
namespace {

Result<std::string> matched(const Step& step, std::string_view text) {
  QW_ASSIGN(const auto matches, step.pattern->find_all(text));
  const auto count = static_cast<std::int64_t>(matches.size());
  const std::int64_t at = step.pick < 0 ? count + step.pick : step.pick;
  if (at < 0 || at >= count) return step.fallback;
  const auto& groups = matches[static_cast<std::size_t>(at)];
  if (groups.size() == 1) return std::string(strip(groups[0]));
  for (const std::string& group : groups)
    if (!group.empty()) return std::string(strip(group));
  return step.fallback;
}

std::string code_block(std::string_view text) {
  const std::size_t fence = text.find("```");
  if (fence == std::string_view::npos) return std::string(text);
  std::string_view rest = text.substr(fence + 3);
  const std::size_t line = rest.find('\n');  // behind the fence stands the name of the language
  if (line != std::string_view::npos) rest.remove_prefix(line + 1);
  return std::string(rest.substr(0, rest.find("```")));
}

Result<std::string> comparable(const AnswerRule& rule, std::string_view text) {
  std::string out(text);
  for (const auto& pattern : rule.ignore) {
    QW_ASSIGN(out, pattern->replace_all(out, ""));
  }
  if (rule.ignore_case) out = lower(out);
  if (rule.ignore_punctuation) out = without_punctuation(out);
  if (rule.ignore_numbers) out = without_digits(out);
  return out;
}

Result<double> score_one(const AnswerRule& rule, std::string_view answer, std::string_view target) {
  switch (rule.metric) {
    case Metric::kSquadExact:
      return squad_words(answer) == squad_words(target) ? 1.0 : 0.0;
    case Metric::kSquadF1:
      return bag_f1(squad_words(answer), squad_words(target));
    case Metric::kMixedExact:
      return mixed_text(answer, Marks::kCmrc) == mixed_text(target, Marks::kCmrc) ? 1.0 : 0.0;
    case Metric::kMixedF1:
      return run_f1(mixed_words(answer, Marks::kCmrc), mixed_words(target, Marks::kCmrc));
    case Metric::kMixedBagExact:
      return mixed_words(answer, Marks::kAll) == mixed_words(target, Marks::kAll) ? 1.0 : 0.0;
    case Metric::kMixedBagF1:
      return bag_f1(mixed_words(answer, Marks::kAll), mixed_words(target, Marks::kAll));
    case Metric::kExactMatch:
    case Metric::kProgram:
      break;
  }
  QW_CHECK(rule.metric == Metric::kExactMatch);
  QW_ASSIGN(const std::string a, comparable(rule, answer));
  QW_ASSIGN(const std::string b, comparable(rule, target));
  return a == b ? 1.0 : 0.0;
}

}  // namespace

std::string_view metric_name(Metric metric) {
  switch (metric) {
    case Metric::kExactMatch:
      return "exact_match";
    case Metric::kSquadExact:
      return "squad_exact";
    case Metric::kSquadF1:
      return "squad_f1";
    case Metric::kMixedExact:
      return "mixed_exact";
    case Metric::kMixedF1:
      return "mixed_f1";
    case Metric::kMixedBagExact:
      return "mixed_bag_exact";
    case Metric::kMixedBagF1:
      return "mixed_bag_f1";
    case Metric::kProgram:
      return "program";
  }
  return "";
}

Result<std::string> extracted(const AnswerRule& rule, std::string_view text) {
  std::string out(text);
  for (const Step& step : rule.steps) {
    switch (step.kind) {
      case Step::Kind::kRegex: {
        QW_ASSIGN(out, matched(step, out));
        break;
      }
      case Step::Kind::kStrip:
        out = std::string(strip(out));
        break;
      case Step::Kind::kLower:
        out = lower(out);
        break;
      case Step::Kind::kFirstLine:
        out = out.substr(0, out.find('\n'));
        break;
      case Step::Kind::kCodeBlock:
        out = code_block(out);
        break;
    }
  }
  return out;
}

Result<double> score(const AnswerRule& rule, std::string_view answer, std::span<const std::string> targets) {
  double best = 0;
  for (const std::string& target : targets) {
    QW_ASSIGN(const double one, score_one(rule, answer, target));
    best = std::max(best, one);
  }
  return best;
}

std::string_view without_thinking(std::string_view text) {
  constexpr std::string_view kEnd = "</think>";
  const std::size_t end = text.rfind(kEnd);
  if (end == std::string_view::npos) return text;
  text.remove_prefix(end + kEnd.size());
  while (text.starts_with('\n')) text.remove_prefix(1);
  return text;
}

}  // namespace qw::eval
