#include "train/answer_rewards.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "eval/answer_rule.h"
#include "eval/pattern.h"
#include "eval/sandbox.h"
#include "json/value.h"
#include "sampling/grammar/grammar.h"
#include "sampling/grammar/json_schema.h"
#include "sampling/grammar/runner.h"

namespace qw::train {
namespace {

namespace grammar = sampling::grammar;

constexpr const char* kNames[] = {"number", "exact", "regex", "json_schema", "program", "overlong"};

bool is_digit(char c) { return '0' <= c && c <= '9'; }

// The last number of a text: digits, which may have a sign before them, commas between each three of them, and a
// fraction.
std::optional<double> last_number(std::string_view text) {
  std::size_t at = text.size();
  while (at > 0 && !is_digit(text[at - 1])) --at;
  if (at == 0) return std::nullopt;
  std::string digits;  // from the last one
  bool fraction = false;
  for (std::size_t run = 0; at > 0; --at) {
    const char c = text[at - 1];
    const bool behind_digit = at > 1 && is_digit(text[at - 2]);
    if (is_digit(c)) {
      digits.push_back(c);
      ++run;
    } else if (c == '.' && behind_digit && !fraction && digits.size() == run) {
      digits.push_back(c);
      fraction = true;
      run = 0;
    } else if (c == ',' && behind_digit && run == 3) {
      run = 0;
    } else {
      break;
    }
  }
  std::reverse(digits.begin(), digits.end());
  double value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  const bool sign = at > 0 && text[at - 1] == '-' && (at < 2 || !is_digit(text[at - 2]));
  return sign ? -value : value;
}

std::string stripped(std::string_view text) {
  eval::AnswerRule rule;
  rule.steps.push_back({});  // Step::Kind::kStrip
  return *eval::extracted(rule, text);
}

Result<grammar::Grammar> form_of(const std::string& schema) {
  auto parsed = json::parse(schema);
  if (!parsed) return in_context("schema", std::move(parsed).error());
  grammar::Source source;
  QW_ASSIGN(const grammar::Rule rule, grammar::add_json_schema(*parsed, source));
  source.set_root(rule);
  return grammar::Grammar::compile(source);
}

bool reads(const grammar::Grammar& form, std::string_view text) {
  grammar::Runner runner(form);
  grammar::Configurations at, next;
  runner.enter(form.start(), grammar::Stacks::kBottom, at);
  for (const char c : text) {
    runner.step(at, static_cast<std::uint8_t>(c), next);
    if (next.dead() || runner.overflow()) return false;
    std::swap(at, next);
  }
  return at.ended;
}

// A text that needs too many steps is none that matches.
Result<bool> matches(const eval::Pattern& pattern, std::string_view text) {
  const auto found = pattern.find_all(text);
  if (!found && found.error().kind == ErrorKind::kResource) return false;
  if (!found) return tl::unexpected(found.error());
  return !found->empty();
}

double overlong(const AnswerReward& spec, const JudgedAnswer& answer) {
  const std::int64_t over = answer.tokens - (answer.max_tokens - spec.tokens);
  return over <= 0 ? 0 : -std::min(1.0, static_cast<double>(over) / static_cast<double>(spec.tokens));
}

}  // namespace

struct AnswerRewards::Check {
  AnswerReward spec;
  std::shared_ptr<const eval::Pattern> pattern;  // of the recipe; null: the prompt's own
  std::optional<grammar::Grammar> form;

  Result<double> judge(const JudgedAnswer& answer) const;
  Result<double> exact(std::string_view text, std::string_view expected) const;
  Result<double> regex(const JudgedAnswer& answer) const;
  Result<double> json_schema(std::string_view text, std::string_view expected) const;
  Result<double> program(std::string_view text, std::string_view expected) const;
};

Result<double> AnswerRewards::Check::exact(std::string_view text, std::string_view expected) const {
  eval::AnswerRule rule;
  if (pattern != nullptr) rule.steps.push_back({eval::Step::Kind::kRegex, pattern, -1, ""});
  rule.steps.push_back({});
  const auto said = eval::extracted(rule, text);
  if (!said && said.error().kind == ErrorKind::kResource) return 0.0;
  if (!said) return tl::unexpected(said.error());
  return *said == stripped(expected) ? 1.0 : 0.0;
}

Result<double> AnswerRewards::Check::regex(const JudgedAnswer& answer) const {
  std::optional<eval::Pattern> own;
  if (pattern == nullptr) {
    QW_ASSIGN(own, eval::Pattern::compile(stripped(answer.expected)));
  }
  QW_ASSIGN(const bool found, matches(own ? *own : *pattern, answer.text));
  return found ? 1.0 : 0.0;
}

Result<double> AnswerRewards::Check::json_schema(std::string_view text, std::string_view expected) const {
  std::optional<grammar::Grammar> own;
  if (!form) {
    QW_ASSIGN(own, form_of(std::string(expected)));
  }
  const auto parsed = json::parse(stripped(text));
  if (!parsed) return 0.0;
  return reads(form ? *form : *own, json::dump(*parsed, json::WriteStyle::compact())) ? 1.0 : 0.0;
}

Result<double> AnswerRewards::Check::program(std::string_view text, std::string_view expected) const {
  eval::AnswerRule rule;
  rule.steps.push_back({eval::Step::Kind::kCodeBlock, nullptr, 0, ""});
  QW_ASSIGN(const std::string code, eval::extracted(rule, text));
  eval::ProgramLimits limits;
  limits.time = std::chrono::milliseconds(std::llround(1000 * spec.seconds));
  QW_ASSIGN(const auto outcome, eval::run_python(code + "\n" + std::string(expected) + "\n", limits));
  return outcome.passed ? 1.0 : 0.0;
}

Result<double> AnswerRewards::Check::judge(const JudgedAnswer& answer) const {
  const std::string_view text = eval::without_thinking(answer.text);
  switch (spec.check) {
    case AnswerCheck::kNumber: {
      const auto wanted = last_number(answer.expected);
      if (!wanted) return fail(ErrorKind::kBadInput, "what is expected holds no number: " + stripped(answer.expected));
      return last_number(text) == wanted ? 1.0 : 0.0;
    }
    case AnswerCheck::kExact:
      return exact(text, answer.expected);
    case AnswerCheck::kRegex:
      return regex(answer);
    case AnswerCheck::kJsonSchema:
      return json_schema(text, answer.expected);
    case AnswerCheck::kProgram:
      return program(text, answer.expected);
    case AnswerCheck::kOverlong:
      break;
  }
  return overlong(spec, answer);
}

Result<AnswerRewards> AnswerRewards::create(const std::vector<AnswerReward>& rewards) {
  AnswerRewards out;
  for (const AnswerReward& spec : rewards) {
    const std::string kind = kNames[static_cast<std::size_t>(spec.check)];
    const auto same =
        std::count_if(rewards.data(), &spec, [&](const AnswerReward& r) { return r.check == spec.check; });
    out.names_.push_back(same == 0 ? kind : kind + std::to_string(same + 1));
    auto check = std::make_shared<Check>();
    check->spec = spec;
    if (!spec.pattern.empty()) {
      auto pattern = eval::Pattern::compile(spec.pattern);
      if (!pattern) return in_context("grpo.reward " + kind, std::move(pattern).error());
      check->pattern = std::make_shared<const eval::Pattern>(std::move(*pattern));
    }
    if (!spec.schema.empty()) {
      auto form = form_of(spec.schema);
      if (!form) return in_context("grpo.reward " + kind, std::move(form).error());
      check->form = std::move(*form);
    }
    out.checks_.push_back(std::move(check));
  }
  return out;
}

Result<std::vector<double>> AnswerRewards::judge(const JudgedAnswer& answer) const {
  std::vector<double> out;
  for (std::size_t i = 0; i < checks_.size(); ++i) {
    auto value = checks_[i]->judge(answer);
    if (!value) return in_context("grpo.reward " + names_[i], std::move(value).error());
    out.push_back(*value);
  }
  return out;
}

double AnswerRewards::weighted(std::span<const double> values) const {
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) sum += checks_[i]->spec.weight * values[i];
  return sum;
}

}  // namespace qw::train
