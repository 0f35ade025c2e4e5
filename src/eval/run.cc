#include "eval/run.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "base/sha256.h"
#include "eval/example.h"
#include "eval/internal/words.h"
#include "eval/sandbox.h"

namespace qw::eval {
namespace {

// Items asked about at once: far more than the engine computes at once, and few beside the memory of a model.
constexpr std::size_t kChunk = 512;
constexpr std::size_t kDigestLetters = 16;

struct Plan {
  std::vector<Item> items;
  std::vector<Example> examples;  // by item
  std::vector<Example> pool;      // of examples
  bool own = false;               // the pool is the items themselves
  std::int64_t shots = 0;
};

Result<std::vector<Example>> word_all(const Task& task, const std::vector<Item>& items) {
  std::vector<Example> out;
  out.reserve(items.size());
  for (const Item& item : items) {
    QW_ASSIGN(Example one, word(task, item));
    out.push_back(std::move(one));
  }
  return out;
}

Result<Plan> plan_of(const Task& task, const RunOptions& options) {
  Plan plan;
  plan.shots = options.shots.value_or(task.shots);
  if (plan.shots > 0 && task.kind == Kind::kPerplexity)
    return fail(ErrorKind::kUsage, task.name + ": a task of perplexity has no examples");
  QW_ASSIGN(plan.items, read_items(task, options.data, Split::kItems));
  if (plan.shots > 0) {
    QW_ASSIGN(std::vector<Item> pool, read_items(task, options.data, Split::kShots));
    plan.own = pool.empty();
    QW_ASSIGN(plan.pool, word_all(task, plan.own ? plan.items : pool));
  }
  if (options.limit > 0) {
    std::map<std::string, std::int64_t> taken;
    std::erase_if(plan.items, [&](const Item& item) { return taken[item.group]++ >= options.limit; });
  }
  if (plan.items.empty()) return fail(ErrorKind::kBadInput, task.name + ": there are no items");
  QW_ASSIGN(plan.examples, word_all(task, plan.items));
  return plan;
}

Result<std::vector<Prompt>> prompts_for(const Task& task, const Plan& plan, std::size_t i, bool chat) {
  std::vector<const Example*> shots;
  if (plan.shots > 0) {
    QW_ASSIGN(shots, choose_shots(task, plan.pool, plan.examples[i], i, plan.shots, plan.own));
  }
  return prompts_of(task, plan.examples[i], shots, chat);
}

json::Value shown_of(const Prompt& prompt) {
  return prompt.messages.empty() ? json::Value(prompt.text) : json::Value(prompt.messages);
}

std::string digest_of(const std::vector<Prompt>& prompts, const Example& example) {
  base::Sha256 hash;
  const auto add = [&](std::string_view text) {
    hash.update(text);
    hash.update(std::string_view("\0", 1));
  };
  for (const Prompt& p : prompts) add(p.messages.empty() ? p.text : json::dump(p.messages));
  for (const std::string& c : example.choices) add(c);
  for (const std::string& t : example.targets) add(t);
  add(example.text);
  return hash.hex().substr(0, kDigestLetters);
}

json::Array array_of(const std::vector<std::string>& texts) { return {texts.begin(), texts.end()}; }

// ---- counting one item ----------------------------------------------------------------------------------------------

std::size_t best(const std::vector<Likelihood>& likelihoods, const std::vector<double>& lengths) {
  std::size_t at = 0;
  for (std::size_t i = 1; i < likelihoods.size(); ++i)
    if (likelihoods[i].sum / lengths[i] > likelihoods[at].sum / lengths[at]) at = i;
  return at;
}

void count_choice(const Task& task, const Example& e, const std::vector<Likelihood>& got, Sample& out) {
  const std::vector<std::string>& choices = e.contexts.size() > 1 ? e.contexts : e.choices;
  const auto lengths = [&](const auto& length) {
    std::vector<double> all;
    for (std::size_t i = 0; i < choices.size(); ++i) all.push_back(static_cast<double>(length(i)));
    return all;
  };
  for (const std::string& name : task.measures) {
    const std::size_t picked =
        best(got, name == "acc_norm"     ? lengths([&](std::size_t i) { return characters(choices[i]); })
                  : name == "acc_bytes"  ? lengths([&](std::size_t i) { return choices[i].size(); })
                  : name == "acc_tokens" ? lengths([&](std::size_t i) { return got[i].tokens; })
                                         : lengths([](std::size_t) { return 1; }));
    out.values.push_back(picked == e.answer ? 1 : 0);
  }
  json::Array list;
  for (std::size_t i = 0; i < choices.size(); ++i)
    list.emplace_back(json::Object{
        {"text", choices[i]}, {"loglikelihood", got[i].sum}, {"greedy", got[i].greedy}, {"tokens", got[i].tokens}});
  if (e.contexts.size() > 1) out.record.set("continuation", e.choices[0]);
  out.record.set("choices", std::move(list));
  out.record.set("answer", static_cast<std::int64_t>(e.answer));
  out.record.set("picked", static_cast<std::int64_t>(best(got, lengths([](std::size_t) { return 1; }))));
}

void count_likelihood(const Task& task, const Example& e, const Likelihood& got, Sample& out) {
  for (const std::string& name : task.measures) out.values.push_back(name == "acc" ? (got.greedy ? 1 : 0) : got.sum);
  out.record.set("continuation", e.choices[0]);
  out.record.set("loglikelihood", got.sum);
  out.record.set("greedy", got.greedy);
}

void count_text(const Task& task, const Example& e, const Likelihood& got, Sample& out) {
  out.values.assign(task.measures.size(), got.sum);
  out.record.set("loglikelihood", got.sum);
  out.record.set("tokens", got.tokens);
  out.record.set("words", static_cast<std::int64_t>(count_words(e.counted)));
  out.record.set("bytes", static_cast<std::int64_t>(e.counted.size()));
}

Result<double> run_program(const Task& task, const Item& item, const std::string& completion, Sample& out) {
  json::Object fields = item.fields;
  fields.set("completion", completion);
  const auto program = task.program->form.render(fields);
  if (!program) return in_context(item.where, program.error());
  QW_ASSIGN(const ProgramOutcome outcome, run_python(program->text));
  out.record.set(
      "program",
      json::Object{{"passed", outcome.passed}, {"timed_out", outcome.timed_out}, {"output", outcome.output}});
  return outcome.passed ? 1.0 : 0.0;
}

Status count_answer(const Task& task, const Item& item, const Example& e, const std::string& got, Sample& out) {
  const std::string_view said = without_thinking(got);
  json::Object taken;
  for (const AnswerRule& rule : task.rules) {
    QW_ASSIGN(const std::string text, extracted(rule, said));
    auto value = rule.metric == Metric::kProgram ? run_program(task, item, text, out) : score(rule, text, e.targets);
    if (!value) return in_context(item.where, value.error());
    out.values.push_back(*value);
    taken.set(rule.name, text);
  }
  out.record.set("output", got);
  out.record.set("extracted", std::move(taken));
  out.record.set("targets", array_of(e.targets));
  return {};
}

// ---- asking ---------------------------------------------------------------------------------------------------------

class Run {
 public:
  Run(const Task& task, Subject& subject, const RunOptions& options, const Plan& plan)
      : task_(task), subject_(subject), options_(options), plan_(plan) {}

  Result<std::vector<Sample>> samples() {
    for (std::size_t begin = 0; begin < plan_.items.size(); begin += kChunk)
      QW_TRY(chunk(begin, std::min(plan_.items.size(), begin + kChunk)));
    return std::move(samples_);
  }

 private:
  Status chunk(std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      std::vector<Prompt> prompts;
      if (task_.kind != Kind::kPerplexity) {
        QW_ASSIGN(prompts, prompts_for(task_, plan_, i, options_.chat));
      }
      name(i, prompts);
      prompts_.push_back(std::move(prompts));
    }
    const Status done = task_.kind == Kind::kPerplexity ? read_texts(begin, end)
                        : task_.kind == Kind::kGenerate ? ask_answers(begin, end)
                                                        : ask_likelihoods(begin, end);
    for (std::size_t i = begin; i < end; ++i) prompts_[i].clear();
    return done;
  }

  void name(std::size_t i, const std::vector<Prompt>& prompts) {
    const std::string& group = plan_.items[i].group;
    Sample s;
    s.id = (group.empty() ? "" : group + "/") + std::to_string(numbers_[group]++);
    s.digest = digest_of(prompts, plan_.examples[i]);
    s.record = {{"task", task_.name}, {"id", s.id}, {"digest", s.digest}, {"item", plan_.items[i].where}};
    if (prompts.size() == 1) s.record.set("prompt", shown_of(prompts[0]));
    if (prompts.size() > 1) {
      json::Array all;
      for (const Prompt& p : prompts) all.push_back(shown_of(p));
      s.record.set("prompts", std::move(all));
    }
    samples_.push_back(std::move(s));
  }

  Subject::Progress progress(std::size_t begin, std::size_t end) const {
    return [this, begin, end](std::size_t done, std::size_t total) {
      if (options_.progress)
        options_.progress(task_.name, begin + (end - begin) * done / std::max<std::size_t>(1, total),
                          plan_.items.size());
    };
  }

  Status ask_likelihoods(std::size_t begin, std::size_t end) {
    std::vector<Pair> pairs;
    const std::string separator = options_.chat ? "" : task_.separator;
    for (std::size_t i = begin; i < end; ++i)
      for (const Prompt& prompt : prompts_[i])
        for (const std::string& choice : plan_.examples[i].choices) pairs.push_back({prompt, separator + choice});
    QW_ASSIGN(const auto got, subject_.likelihoods(pairs, progress(begin, end)));
    auto next = got.begin();
    for (std::size_t i = begin; i < end; ++i) {
      const Example& e = plan_.examples[i];
      const auto count = static_cast<std::ptrdiff_t>(prompts_[i].size() * e.choices.size());
      const std::vector<Likelihood> mine(next, next + count);
      next += count;
      if (task_.kind == Kind::kChoice)
        count_choice(task_, e, mine, samples_[i]);
      else
        count_likelihood(task_, e, mine[0], samples_[i]);
    }
    return {};
  }

  Status read_texts(std::size_t begin, std::size_t end) {
    std::vector<std::string> texts;
    for (std::size_t i = begin; i < end; ++i) texts.push_back(plan_.examples[i].text);
    QW_ASSIGN(const auto got, subject_.texts(texts, progress(begin, end)));
    for (std::size_t i = begin; i < end; ++i) count_text(task_, plan_.examples[i], got[i - begin], samples_[i]);
    return {};
  }

  Status ask_answers(std::size_t begin, std::size_t end) {
    std::vector<Question> questions;
    for (std::size_t i = begin; i < end; ++i) questions.push_back({prompts_[i][0], task_.stop, task_.max_tokens});
    QW_ASSIGN(const auto got, subject_.answers(questions, progress(begin, end)));
    for (std::size_t i = begin; i < end; ++i) {
      if (options_.interrupted != nullptr && options_.interrupted->load())
        return fail(ErrorKind::kInterrupted, "interrupted");
      QW_TRY(count_answer(task_, plan_.items[i], plan_.examples[i], got[i - begin], samples_[i]));
    }
    return {};
  }

  const Task& task_;
  Subject& subject_;
  const RunOptions& options_;
  const Plan& plan_;
  std::vector<std::vector<Prompt>> prompts_;
  std::vector<Sample> samples_;
  std::map<std::string, std::int64_t> numbers_;  // items of a group so far
};

// ---- all together ---------------------------------------------------------------------------------------------------

Estimate estimate_of(const Task& task, const std::string& name, const std::vector<const Sample*>& samples,
                     std::size_t m) {
  std::vector<double> values, weights;
  for (const Sample* s : samples) {
    values.push_back(s->values[m]);
    if (task.kind == Kind::kPerplexity)
      weights.push_back(static_cast<double>(s->record.find(name == "word_perplexity" ? "words" : "bytes")->as_int()));
  }
  if (name == "perplexity") return perplexity_of(values);
  if (name == "word_perplexity" || name == "byte_perplexity") return ratio_perplexity_of(values, weights);
  if (name == "bits_per_byte") {
    for (double& v : values) v /= -std::log(2.0);
    return ratio_of(values, weights);
  }
  return mean_of(values, 0, 1);
}

std::string template_of(const Task& task) {
  if (task.text) return task.text->source;
  if (task.context) return task.context->source;
  std::string out;
  for (const Wording& w : task.contexts) out += (out.empty() ? "" : " | ") + w.source;
  return out + " -> " + task.continuation->source;
}

void gather(const Task& task, TaskResult& out) {
  std::map<std::string, std::vector<const Sample*>> groups;
  std::vector<const Sample*> all;
  for (const Sample& s : out.samples) {
    const std::size_t slash = s.id.rfind('/');
    groups[slash == std::string::npos ? "" : s.id.substr(0, slash)].push_back(&s);
    all.push_back(&s);
  }
  std::vector<std::string> names = task.measures;
  for (const AnswerRule& rule : task.rules) names.push_back(rule.name);
  for (const auto& [name, members] : groups) {
    if (groups.size() < 2) break;
    GroupResult group{name, static_cast<std::int64_t>(members.size()), {}};
    for (std::size_t m = 0; m < names.size(); ++m)
      group.values.push_back(estimate_of(task, names[m], members, m).value);
    out.groups.push_back(std::move(group));
  }
  for (std::size_t m = 0; m < names.size(); ++m) {
    Measured measured{names[m], estimate_of(task, names[m], all, m), {}};
    if (!out.groups.empty()) {
      double sum = 0;
      for (const GroupResult& g : out.groups) sum += g.values[m];
      measured.group_mean = sum / static_cast<double>(out.groups.size());
    }
    out.measures.push_back(std::move(measured));
    for (Sample& s : out.samples) {
      if (s.record.find("values") == nullptr) s.record.set("values", json::Object());
      s.record.find("values")->as_object().set(names[m], s.values[m]);
    }
  }
}

}  // namespace

Result<TaskResult> run_task(const Task& task, Subject& subject, const RunOptions& options) {
  const bool runs = std::any_of(task.rules.begin(), task.rules.end(),
                                [](const AnswerRule& r) { return r.metric == Metric::kProgram; });
  if (runs && !options.run_code)
    return fail(ErrorKind::kRefused, task.name + ": runs programs the model writes, which --run-code allows");
  if (runs) QW_TRY(run_python("pass").map([](const auto&) {}));  // before hours of writing
  QW_ASSIGN(const Plan plan, plan_of(task, options));
  TaskResult out;
  out.task = task.name;
  out.items = static_cast<std::int64_t>(plan.items.size());
  out.shots = plan.shots;
  out.prompt_template = template_of(task);
  QW_ASSIGN(out.samples, Run(task, subject, options, plan).samples());
  gather(task, out);
  return out;
}

Result<std::vector<json::Object>> show_prompts(const Task& task, Subject& subject, const RunOptions& options) {
  QW_ASSIGN(const Plan plan, plan_of(task, options));
  std::vector<json::Object> out;
  for (std::size_t i = 0; i < plan.items.size(); ++i) {
    const Example& e = plan.examples[i];
    json::Object shown{{"task", task.name}, {"item", e.where}};
    if (task.kind == Kind::kPerplexity) {
      shown.set("prompt", e.text);
    } else {
      QW_ASSIGN(const auto prompts, prompts_for(task, plan, i, options.chat));
      json::Array texts;
      for (const Prompt& p : prompts) {
        QW_ASSIGN(std::string text, subject.shown(p));
        texts.emplace_back(std::move(text));
      }
      shown.set(texts.size() == 1 ? "prompt" : "prompts", texts.size() == 1 ? texts[0] : json::Value(texts));
      json::Array continuations;
      for (const std::string& c : e.choices) continuations.emplace_back((options.chat ? "" : task.separator) + c);
      if (!continuations.empty()) shown.set("continuations", std::move(continuations));
      if (task.kind == Kind::kChoice) shown.set("answer", static_cast<std::int64_t>(e.answer));
      if (task.kind == Kind::kGenerate) shown.set("targets", array_of(e.targets));
    }
    out.push_back(std::move(shown));
  }
  return out;
}

}  // namespace qw::eval
