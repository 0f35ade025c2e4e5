// qianwen eval: how well a model does at tasks, counted as lm-evaluation-harness counts (docs/evaluation.md).
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "base/file.h"
#include "commands.h"
#include "eval/builtin.h"
#include "eval/compare.h"
#include "eval/run.h"
#include "json/value.h"
#include "open_model.h"
#include "ready_subject.h"
#include "text_source.h"

namespace qw::app {
namespace {

struct EvalOptions {
  std::vector<std::string> models, tasks, compare;
  std::string data, samples;
  SubjectOptions subject;
  std::int64_t limit = 0, shots = -1;
  bool chat = false, run_code = false, show_prompts = false, groups = false, list = false;
};

// Records of a run, for --samples and for the comparison of two models.
using Records = std::vector<json::Object>;

struct NamedTask {
  eval::Task task;
  std::filesystem::path data;
};

Result<std::vector<NamedTask>> tasks_of(const EvalOptions& o) {
  std::vector<NamedTask> out;
  for (const std::string& name : o.tasks) {
    const std::filesystem::path path(name);
    if (path.extension() != ".toml") {
      if (o.data.empty())
        return fail(ErrorKind::kUsage, "eval: the task " + name + " needs --data, the folder of its files");
      QW_ASSIGN(auto task, eval::builtin_task(name));
      out.push_back({std::move(task), o.data});
      continue;
    }
    QW_ASSIGN(const std::string text, base::read_file(path, kMaxPromptBytes));
    QW_ASSIGN(auto task, eval::parse_task(text, name));
    out.push_back({std::move(task), o.data.empty() ? path.parent_path() : std::filesystem::path(o.data)});
  }
  return out;
}

void print(const json::Object& line) {
  std::puts(json::dump(line).c_str());
  std::fflush(stdout);
}

json::Array interval(double low, double high) { return {low, high}; }

void print_result(const EvalOptions& o, const std::string& model, std::int64_t context, const eval::TaskResult& r) {
  for (std::size_t m = 0; m < r.measures.size(); ++m) {
    const eval::Measured& measured = r.measures[m];
    const eval::Estimate& e = measured.estimate;
    json::Object line{{"task", r.task},   {"n", r.items},        {"metric", measured.name},
                      {"value", e.value}, {"stderr", e.stderr_}, {"interval", interval(e.low, e.high)}};
    if (measured.group_mean) line.set("group_mean", *measured.group_mean);
    line.set("shots", r.shots);
    line.set("chat", o.chat);
    if (context > 0) line.set("context", context);
    line.set("model", model);
    line.set("template", r.prompt_template);
    print(line);
    if (!o.groups) continue;
    for (const eval::GroupResult& g : r.groups)
      print({{"task", r.task},
             {"group", g.name},
             {"n", g.items},
             {"metric", measured.name},
             {"value", g.values[m]},
             {"model", model}});
  }
}

void print_comparison(const std::vector<eval::Comparison>& comparisons, const std::string& a, const std::string& b) {
  const auto ids = [](const std::vector<std::string>& list) { return json::Array(list.begin(), list.end()); };
  for (const eval::Comparison& c : comparisons)
    print({{"task", c.task},
           {"metric", c.measure},
           {"n", c.items},
           {"a", a},
           {"b", b},
           {"value_a", c.a},
           {"value_b", c.b},
           {"difference", c.paired.difference},
           {"interval", interval(c.paired.low, c.paired.high)},
           {"p", c.paired.p},
           {"better", c.paired.better},
           {"worse", c.paired.worse},
           {"better_items", ids(c.better)},
           {"worse_items", ids(c.worse)}});
}

// Says on standard error how far it is, on a terminal a few times a second, else every ten seconds.
std::function<void(std::string_view, std::size_t, std::size_t)> progress_line() {
  using Clock = std::chrono::steady_clock;
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const auto pause = terminal ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10'000);
  return [terminal, pause, last = Clock::now()](std::string_view task, std::size_t done, std::size_t total) mutable {
    const auto now = Clock::now();
    if (now - last < pause) return;
    last = now;
    std::fprintf(stderr, terminal ? "\r\033[K%.*s: %zu of %zu" : "%.*s: %zu of %zu\n", static_cast<int>(task.size()),
                 task.data(), done, total);
  };
}

Result<Records> evaluate(const EvalOptions& o, const std::string& name, const std::vector<NamedTask>& tasks) {
  QW_ASSIGN(const auto ready, load_subject(o.subject, name));
  Records records;
  for (const NamedTask& t : tasks) {
    eval::RunOptions run;
    run.data = t.data;
    run.limit = o.limit;
    if (o.shots >= 0) run.shots = o.shots;
    run.chat = o.chat;
    run.run_code = o.run_code;
    run.interrupted = &interrupted();
    run.progress = progress_line();
    if (o.show_prompts) {
      QW_ASSIGN(const auto shown, eval::show_prompts(t.task, *ready->subject, run));
      for (const json::Object& line : shown) print(line);
      continue;
    }
    const std::int64_t before = ready->shortened();
    QW_ASSIGN(eval::TaskResult result, eval::run_task(t.task, *ready->subject, run));
    if (::isatty(STDERR_FILENO) == 1) std::fputs("\r\033[K", stderr);
    if (const std::int64_t cut = ready->shortened() - before; cut > 0)
      std::fprintf(stderr,
                   "qianwen: %s: %lld prompts were longer than the context of %lld tokens and lost their beginning\n",
                   result.task.c_str(), static_cast<long long>(cut), static_cast<long long>(ready->context));
    print_result(o, name, ready->context, result);
    for (eval::Sample& sample : result.samples) {
      sample.record.set("model", name);
      records.push_back(std::move(sample.record));
    }
  }
  return records;
}

Result<Records> read_samples(const std::string& path) {
  QW_ASSIGN(const std::string text, base::read_file(path));
  return eval::parse_samples(text, path);
}

void list_tasks() {
  for (const std::string_view name : eval::builtin_tasks()) {
    const auto task = eval::builtin_task(name);
    QW_CHECK(task.has_value());
    print({{"task", task->name},
           {"kind", std::string(eval::kind_name(task->kind))},
           {"title", task->title},
           {"source", task->source},
           {"files", json::Array(task->data.items.begin(), task->data.items.end())},
           {"shots", task->shots}});
  }
}

Status evaluate_all(const EvalOptions& o) {
  if (o.list) return list_tasks(), Status();
  if (!o.compare.empty()) {
    QW_ASSIGN(const Records a, read_samples(o.compare[0]));
    QW_ASSIGN(const Records b, read_samples(o.compare[1]));
    QW_ASSIGN(const auto comparisons, eval::compare_samples(a, b));
    print_comparison(comparisons, o.compare[0], o.compare[1]);
    return {};
  }
  if (o.models.empty() || o.tasks.empty())
    return fail(ErrorKind::kUsage, "eval: give --model and --task, or --compare, or --list");
  if (o.models.size() > 2) return fail(ErrorKind::kUsage, "eval: one model, or two to be compared");
  QW_ASSIGN(const auto tasks, tasks_of(o));
  std::optional<base::AtomicFile> file;
  if (!o.samples.empty()) {
    QW_ASSIGN(auto created, base::AtomicFile::create(o.samples));
    file.emplace(std::move(created));
  }
  std::vector<Records> records;
  for (const std::string& model : o.models) {
    QW_ASSIGN(auto one, evaluate(o, model, tasks));
    if (file)
      for (const json::Object& record : one) QW_TRY(file->write(json::dump(record) + "\n"));
    records.push_back(std::move(one));
  }
  if (file) QW_TRY(file->commit());
  if (records.size() == 2 && !o.show_prompts) {
    QW_ASSIGN(const auto comparisons, eval::compare_samples(records[0], records[1]));
    print_comparison(comparisons, o.models[0], o.models[1]);
  }
  return {};
}

}  // namespace

void add_eval(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<EvalOptions>();
  CLI::App* cmd = app.add_subcommand("eval", "How well a model does at tasks: likelihoods, perplexities, answers");
  cmd->add_option("-m,--model", o->models,
                  "MODEL, or the address of a service (http://host:port); a second one is compared with the first, "
                  "question by question");
  add_models_option(*cmd);
  cmd->add_option("--task", o->tasks, "tasks: names (see --list) or task files (.toml), with commas between them")
      ->delimiter(',');
  cmd->add_option("--data", o->data, "folder of the tasks' files (of a task file: its own folder if not given)");
  cmd->add_option("--limit", o->limit, "the first N items of each file only")->check(CLI::PositiveNumber);
  cmd->add_option("--shots", o->shots, "examples before each item (default: the task's)")
      ->check(CLI::NonNegativeNumber);
  cmd->add_flag("--chat", o->chat, "ask through the model's chat template, each example a turn");
  cmd->add_option("--set", o->subject.set, "a variable of the chat template, key=value (value as JSON)");
  cmd->add_option("--samples", o->samples, "write what each item gave here (JSON lines)");
  cmd->add_flag("--show-prompts", o->show_prompts, "print what the model would read, and compute nothing");
  cmd->add_flag("--groups", o->groups, "print each group (subject) too");
  cmd->add_option("--compare", o->compare, "compare two files of --samples, question by question")->expected(2);
  cmd->add_flag("--list", o->list, "print the tasks that come with the program");
  cmd->add_flag("--run-code", o->run_code, "allow programs the model writes to be run, confined (HumanEval, MBPP)");
  cmd->add_option("--served-model", o->subject.served_model,
                  "which of a service's models (default: its first); OPENAI_API_KEY is its key");
  cmd->add_option("--calls", o->subject.calls, "calls of a service at once")->check(CLI::Range(1, 256));
  cmd->add_option("--adapter,--lora", o->subject.adapter, "LoRA adapter in use: a PEFT folder or a GGUF file");
  cmd->add_option("--context", o->subject.context, "longest prompt in tokens (default: the model's, at most 4096)")
      ->check(CLI::PositiveNumber);
  add_cache_type_option(*cmd, o->subject.cache_type);
  add_threads_option(*cmd, o->subject.threads);
  cmd->callback([o, &outcome] {
    if (auto status = evaluate_all(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
