#include "eval/task.h"

#include <algorithm>
#include <filesystem>

#include "data/config_table.h"
#include "eval/pattern.h"

namespace qw::eval {
namespace {

using data::ConfigTable;

// An evaluation with more is a mistake, and each takes time.
constexpr std::int64_t kMaxShots = 1000;
constexpr std::int64_t kMaxTokens = 1 << 20;

const std::vector<std::string_view>& measures_of(Kind kind) {
  static const std::vector<std::string_view> kChoice{"acc", "acc_norm", "acc_bytes", "acc_tokens"},
      kLikelihood{"acc", "perplexity"}, kPerplexity{"word_perplexity", "byte_perplexity", "bits_per_byte"}, kNone;
  switch (kind) {
    case Kind::kChoice:
      return kChoice;
    case Kind::kLikelihood:
      return kLikelihood;
    case Kind::kPerplexity:
      return kPerplexity;
    case Kind::kGenerate:
      break;
  }
  return kNone;
}

Result<Wording> wording(const ConfigTable& table, std::string_view key, std::string source) {
  // Templates lose a line end at their end; a wording keeps it.
  auto form = chat::Template::parse(source.ends_with('\n') ? source + "\n" : source);
  if (!form) return table.error(key, "is no template: " + form.error().message);
  return Wording{std::move(source), std::move(*form)};
}

Status read_wording(ConfigTable& table, std::string_view key, std::optional<Wording>& out) {
  if (!table.has(key)) return {};
  std::string source;
  QW_TRY(table.read(key, source));
  QW_ASSIGN(out, wording(table, key, std::move(source)));
  return {};
}

Status read_wordings(ConfigTable& table, std::string_view key, std::vector<Wording>& out) {
  std::vector<std::string> sources;
  QW_TRY(table.read(key, sources));
  for (std::string& source : sources) {
    QW_ASSIGN(auto one, wording(table, key, std::move(source)));
    out.push_back(std::move(one));
  }
  return {};
}

Result<std::shared_ptr<const Pattern>> pattern_of(const ConfigTable& table, std::string_view key,
                                                  std::string_view source) {
  auto pattern = Pattern::compile(source);
  if (!pattern) return table.error(key, "'" + std::string(source) + "': " + pattern.error().message);
  return std::make_shared<const Pattern>(std::move(*pattern));
}

Status check_name(const ConfigTable& table, std::string_view key, const std::string& name) {
  const std::filesystem::path path(name);
  const auto parts = std::count(name.begin(), name.end(), '*');
  const bool inside = !name.empty() && path.is_relative() &&
                      std::none_of(path.begin(), path.end(), [](const auto& p) { return p == ".."; });
  if (!inside) return table.error(key, "'" + name + "' must name a file below the data folder");
  if (parts > 1 || (parts == 1 && path.filename().string().find('*') == std::string::npos))
    return table.error(key, "'" + name + "' may have one '*', in its last part");
  return {};
}

Status read_data(ConfigTable table, DataSpec& out) {
  for (const auto& [key, names] : {std::pair<std::string_view, std::vector<std::string>*>{"items", &out.items},
                                   {"shots", &out.shots},
                                   {"answers", &out.answers},
                                   {"labels", &out.labels},
                                   {"shot_labels", &out.shot_labels}}) {
    QW_TRY(table.read(key, *names));
    for (const std::string& name : *names) QW_TRY(check_name(table, key, name));
  }
  if (out.items.empty()) return table.error("items", "must name the file of the items");
  QW_TRY(table.read("columns", out.columns));
  QW_TRY(table.read("answers_key", out.answers_key));
  if (out.answers.empty() != out.answers_key.empty()) return table.error("answers", "and answers_key go together");
  int documents = 0;
  QW_TRY(table.read_choice("documents", {"file", "blank_line", "line", "heading"}, documents));
  out.documents = static_cast<Documents>(documents);
  QW_TRY(read_wording(table, "where", out.where));
  QW_TRY(read_wording(table, "shots_where", out.shots_where));
  return table.finish();
}

Status read_prompt(ConfigTable table, Task& task) {
  QW_TRY(read_wording(table, "description", task.description));
  QW_TRY(read_wording(table, "context", task.context));
  QW_TRY(read_wordings(table, "contexts", task.contexts));
  QW_TRY(read_wording(table, "continuation", task.continuation));
  QW_TRY(read_wordings(table, "choices", task.choices));
  QW_TRY(read_wording(table, "choice_list", task.choice_list));
  QW_TRY(read_wording(table, "answer", task.answer));
  QW_TRY(table.read("labels", task.labels));
  QW_TRY(read_wording(table, "target", task.target));
  QW_TRY(read_wording(table, "target_list", task.target_list));
  QW_TRY(read_wording(table, "shown_target", task.shown_target));
  QW_TRY(read_wording(table, "text", task.text));
  QW_TRY(read_wording(table, "counted", task.counted));
  QW_TRY(table.read("separator", task.separator));
  QW_TRY(table.read("shot_separator", task.shot_separator));
  QW_TRY(table.finish());
  // What each kind needs, and cannot have.
  const bool choice = task.kind == Kind::kChoice, one = task.kind == Kind::kLikelihood,
             writes = task.kind == Kind::kGenerate, reads = task.kind == Kind::kPerplexity,
             contexts = !task.contexts.empty();
  struct Need {
    std::string_view key;
    bool there, needed, allowed;
  };
  const Need needs[] = {
      {"context", task.context.has_value(), one || writes || (choice && !contexts), !reads && !contexts},
      {"contexts", contexts, false, choice},
      {"continuation", task.continuation.has_value(), one || contexts, one || contexts},
      {"choices", !task.choices.empty(), choice && !contexts && !task.choice_list,
       choice && !contexts && !task.choice_list},
      {"choice_list", task.choice_list.has_value(), false, choice && !contexts},
      {"answer", task.answer.has_value(), choice, choice},
      {"labels", !task.labels.empty(), false, choice},
      {"target", task.target.has_value(), writes && !task.target_list && task.program == std::nullopt,
       writes && !task.target_list},
      {"target_list", task.target_list.has_value(), false, writes},
      {"shown_target", task.shown_target.has_value(), false, writes},
      {"text", task.text.has_value(), reads, reads},
      {"counted", task.counted.has_value(), false, reads},
      {"description", task.description.has_value(), false, !reads},
  };
  for (const Need& need : needs) {
    if (need.needed && !need.there)
      return table.error(need.key,
                         "is missing, which a task of kind '" + std::string(kind_name(task.kind)) + "' needs");
    if (need.there && !need.allowed)
      return table.error(need.key,
                         "does not go with kind '" + std::string(kind_name(task.kind)) + "' and the other keys");
  }
  return {};
}

Result<Step> read_step(ConfigTable table) {
  Step out;
  int kind = 0;
  QW_TRY(table.read_choice("do", {"regex", "strip", "lower", "first_line", "code_block"}, kind));
  out.kind = static_cast<Step::Kind>(kind);
  std::string pattern;
  QW_TRY(table.read("pattern", pattern));
  QW_TRY(table.read("pick", out.pick, -1000, 1000));
  QW_TRY(table.read("fallback", out.fallback));
  if (!table.has("do")) return table.error("do", "is missing: what the step does");
  if ((out.kind == Step::Kind::kRegex) != table.has("pattern"))
    return table.error("pattern", "goes with do = \"regex\", and that with it");
  if (out.kind == Step::Kind::kRegex) {
    QW_ASSIGN(out.pattern, pattern_of(table, "pattern", pattern));
  }
  QW_TRY(table.finish());
  return out;
}

Result<AnswerRule> read_rule(ConfigTable table, bool has_program) {
  AnswerRule out;
  int metric = 0;
  QW_TRY(table.read_choice("metric",
                           {"exact_match", "squad_exact", "squad_f1", "mixed_exact", "mixed_f1", "mixed_bag_exact",
                            "mixed_bag_f1", "program"},
                           metric));
  if (!table.has("metric")) return table.error("metric", "is missing");
  out.metric = static_cast<Metric>(metric);
  out.name = metric_name(out.metric);
  QW_TRY(table.read("name", out.name));
  QW_TRY(table.read("ignore_case", out.ignore_case));
  QW_TRY(table.read("ignore_punctuation", out.ignore_punctuation));
  QW_TRY(table.read("ignore_numbers", out.ignore_numbers));
  std::vector<std::string> ignore;
  QW_TRY(table.read("ignore", ignore));
  for (const std::string& source : ignore) {
    QW_ASSIGN(auto pattern, pattern_of(table, "ignore", source));
    out.ignore.push_back(std::move(pattern));
  }
  QW_ASSIGN(auto steps, table.tables("steps"));
  for (ConfigTable& step : steps) {
    QW_ASSIGN(auto one, read_step(step));
    out.steps.push_back(std::move(one));
  }
  QW_TRY(table.finish());
  if (out.metric == Metric::kProgram && !has_program)
    return table.error("metric", "is program, which needs generate.program");
  return out;
}

Status read_generate(ConfigTable table, Task& task) {
  QW_TRY(table.read("stop", task.stop));
  QW_TRY(table.read("max_tokens", task.max_tokens, 1, kMaxTokens));
  QW_TRY(read_wording(table, "program", task.program));
  if (std::any_of(task.stop.begin(), task.stop.end(), [](const std::string& s) { return s.empty(); }))
    return table.error("stop", "holds an empty text");
  return table.finish();
}

Status read_counting(ConfigTable& top, Task& task) {
  const auto& known = measures_of(task.kind);
  QW_TRY(top.read("measures", task.measures));
  for (const std::string& name : task.measures)
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      std::string all;
      for (const auto k : known) all += (all.empty() ? "" : ", ") + std::string(k);
      return top.error("measures", "of kind '" + std::string(kind_name(task.kind)) + "' may be " +
                                       (all.empty() ? "none: give [[measure]]" : all) + ", not '" + name + "'");
    }
  QW_ASSIGN(auto rules, top.tables("measure"));
  for (ConfigTable& rule : rules) {
    QW_ASSIGN(auto one, read_rule(rule, task.program.has_value()));
    const bool again =
        std::any_of(task.rules.begin(), task.rules.end(), [&](const AnswerRule& r) { return r.name == one.name; });
    if (again) return rule.error("name", "'" + one.name + "' stands twice");
    task.rules.push_back(std::move(one));
  }
  const bool writes = task.kind == Kind::kGenerate;
  if (writes ? task.rules.empty() : task.measures.empty())
    return top.error(writes ? "measure" : "measures", "is missing: how answers are counted");
  if (!writes && !task.rules.empty()) return top.error("measure", "goes with kind 'generate'");
  const bool only_programs = std::all_of(task.rules.begin(), task.rules.end(),
                                         [](const AnswerRule& r) { return r.metric == Metric::kProgram; });
  if (writes && !only_programs && !task.target && !task.target_list)
    return top.error("prompt.target", "is missing: what answers are compared with");
  return {};
}

}  // namespace

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::kChoice:
      return "choice";
    case Kind::kLikelihood:
      return "likelihood";
    case Kind::kPerplexity:
      return "perplexity";
    case Kind::kGenerate:
      return "generate";
  }
  return "";
}

Result<Task> parse_task(std::string_view toml, const std::string& name) {
  data::KeyLines lines;
  QW_ASSIGN(const json::Object object, data::parse_toml(toml, name, &lines));
  ConfigTable top(object, "", &lines);
  Task task;
  task.name = std::filesystem::path(name).stem().string();
  QW_TRY(top.read("title", task.title));
  QW_TRY(top.read("source", task.source));
  if (!top.has("kind")) return top.error("kind", "is missing: choice, likelihood, perplexity or generate");
  int kind = 0;
  QW_TRY(top.read_choice("kind", {"choice", "likelihood", "perplexity", "generate"}, kind));
  task.kind = static_cast<Kind>(kind);
  QW_ASSIGN(auto data, top.table("data"));
  QW_TRY(read_data(data, task.data));
  if (top.has("generate") && task.kind != Kind::kGenerate) return top.error("generate", "goes with kind 'generate'");
  QW_ASSIGN(auto generate, top.table("generate"));
  QW_TRY(read_generate(generate, task));
  QW_ASSIGN(auto prompt, top.table("prompt"));
  QW_TRY(read_prompt(prompt, task));
  QW_ASSIGN(auto rewrites, top.tables("rewrite"));
  for (ConfigTable& rewrite : rewrites) {
    std::string pattern;
    ReplaceRule rule;
    QW_TRY(rewrite.read("pattern", pattern));
    QW_TRY(rewrite.read("with", rule.with));
    QW_TRY(rewrite.finish());
    if (pattern.empty()) return rewrite.error("pattern", "is missing");
    QW_ASSIGN(rule.pattern, pattern_of(rewrite, "pattern", pattern));
    task.rewrite.push_back(std::move(rule));
  }
  if (top.has("shots") && task.kind == Kind::kPerplexity)
    return top.error("shots", "does not go with kind 'perplexity'");
  QW_ASSIGN(auto shots, top.table("shots"));
  QW_TRY(shots.read("count", task.shots, 0, kMaxShots));
  int pick = 0;
  QW_TRY(shots.read_choice("pick", {"first", "random"}, pick));
  task.random_shots = pick == 1;
  QW_TRY(shots.finish());
  QW_TRY(read_counting(top, task));
  QW_TRY(top.finish());
  return task;
}

}  // namespace qw::eval
