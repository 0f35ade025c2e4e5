#include "eval/example.h"

#include <algorithm>
#include <charconv>
#include <numeric>

#include "base/rng.h"
#include "eval/pattern.h"
#include "eval/internal/words.h"

namespace qw::eval {
namespace {

// A question has some choices; more is a wrong template.
constexpr std::size_t kMaxChoices = 1000;

class Words {
 public:
  Words(const Task& task, const Item& item) : task_(task), item_(item), fields_(item.fields) {
    std::string subject = item.group;
    std::replace(subject.begin(), subject.end(), '_', ' ');
    fields_.set("subject", subject);
  }

  Result<std::string> raw(const Wording& wording) const {
    auto rendered = wording.form.render(fields_);
    if (!rendered) return in_context(item_.where, rendered.error());
    return std::move(rendered->text);
  }
  Result<std::string> text(const Wording& wording) const {
    QW_ASSIGN(std::string out, raw(wording));
    return rewritten(std::move(out));
  }
  Result<std::string> rewritten(std::string text) const {
    for (const ReplaceRule& rule : task_.rewrite) {
      auto replaced = rule.pattern->replace_all(text, rule.with);
      if (!replaced) return in_context(item_.where, replaced.error());
      text = std::move(*replaced);
    }
    return text;
  }
  Result<std::vector<std::string>> list(const Wording& wording) const {
    QW_ASSIGN(const std::string json, raw(wording));
    const auto value = json::parse(json);
    if (!value || !value->is_array()) return wrong("expected a JSON array of texts, not '" + json.substr(0, 80) + "'");
    std::vector<std::string> out;
    for (const json::Value& v : value->as_array()) {
      if (!v.is_string()) return wrong("expected a JSON array of texts, not '" + json.substr(0, 80) + "'");
      QW_ASSIGN(std::string one, rewritten(v.as_string()));
      out.push_back(std::move(one));
    }
    return out;
  }
  Result<std::vector<std::string>> texts(const std::vector<Wording>& wordings) const {
    std::vector<std::string> out;
    for (const Wording& w : wordings) {
      QW_ASSIGN(std::string one, text(w));
      out.push_back(std::move(one));
    }
    return out;
  }
  tl::unexpected<Error> wrong(const std::string& message) const {
    return fail(ErrorKind::kBadInput, item_.where + ": " + message);
  }

 private:
  const Task& task_;
  const Item& item_;
  json::Object fields_;
};

Result<std::size_t> answer_index(const Task& task, const Words& words, const std::vector<std::string>& choices) {
  QW_ASSIGN(const std::string raw, words.raw(*task.answer));
  const std::string said(strip(raw));
  const auto find = [&](const std::vector<std::string>& in) {
    return static_cast<std::size_t>(std::find(in.begin(), in.end(), said) - in.begin());
  };
  std::size_t index = find(task.labels);
  if (index == task.labels.size()) {
    const auto [end, error] = std::from_chars(said.data(), said.data() + said.size(), index);
    if (error != std::errc() || end != said.data() + said.size()) index = find(choices);
  }
  if (index >= choices.size())
    return words.wrong("the answer '" + said + "' is none of the " + std::to_string(choices.size()) + " choices");
  return index;
}

Status word_choices(const Task& task, const Words& words, Example& out) {
  const bool contexts = !task.contexts.empty();
  auto choices = contexts           ? words.texts(task.contexts)
                 : task.choice_list ? words.list(*task.choice_list)
                                    : words.texts(task.choices);
  QW_TRY(choices.map([](const auto&) {}));
  if (choices->empty() || choices->size() > kMaxChoices)
    return words.wrong("has " + std::to_string(choices->size()) + " choices");
  for (const std::string& c : *choices)
    if (c.empty()) return words.wrong("has an empty choice");
  QW_ASSIGN(out.answer, answer_index(task, words, *choices));
  if (contexts) {
    out.contexts = std::move(*choices);
    QW_ASSIGN(std::string continuation, words.text(*task.continuation));
    out.shown_target = continuation;
    out.choices = {std::move(continuation)};
  } else {
    QW_ASSIGN(std::string context, words.text(*task.context));
    out.contexts = {std::move(context)};
    out.shown_target = (*choices)[out.answer];
    out.choices = std::move(*choices);
  }
  return {};
}

Status word_generation(const Task& task, const Words& words, Example& out) {
  QW_ASSIGN(std::string context, words.text(*task.context));
  out.contexts = {std::move(context)};
  if (task.target_list) {
    QW_ASSIGN(out.targets, words.list(*task.target_list));
    if (out.targets.empty()) return words.wrong("has no right answer");
  } else if (task.target) {
    QW_ASSIGN(std::string target, words.text(*task.target));
    out.targets = {std::move(target)};
  }
  if (task.shown_target) {
    QW_ASSIGN(out.shown_target, words.text(*task.shown_target));
  } else if (!out.targets.empty()) {
    out.shown_target = out.targets[0];
  }
  return {};
}

}  // namespace

Result<Example> word(const Task& task, const Item& item) {
  const Words words(task, item);
  Example out;
  out.where = item.where;
  out.group = item.group;
  if (task.description) {
    QW_ASSIGN(out.description, words.raw(*task.description));
  }
  switch (task.kind) {
    case Kind::kChoice:
      QW_TRY(word_choices(task, words, out));
      break;
    case Kind::kGenerate:
      QW_TRY(word_generation(task, words, out));
      break;
    case Kind::kLikelihood: {
      QW_ASSIGN(std::string context, words.text(*task.context));
      QW_ASSIGN(std::string continuation, words.text(*task.continuation));
      if (continuation.empty()) return words.wrong("has no continuation");
      out.contexts = {std::move(context)};
      out.shown_target = continuation;
      out.choices = {std::move(continuation)};
      break;
    }
    case Kind::kPerplexity: {
      QW_ASSIGN(out.text, words.text(*task.text));
      out.counted = out.text;
      if (task.counted) {
        QW_ASSIGN(out.counted, words.raw(*task.counted));
      }
      if (out.text.empty()) return words.wrong("has no text");
      break;
    }
  }
  return out;
}

std::vector<Prompt> prompts_of(const Task& task, const Example& example, std::span<const Example* const> shots,
                               bool chat) {
  json::Array messages;
  std::string before = example.description;
  const auto say = [&](const char* role, std::string text) {
    messages.emplace_back(json::Object{{"role", role}, {"content", std::move(text)}});
  };
  if (!example.description.empty()) say("system", example.description);
  for (const Example* shot : shots) {
    const std::string& context = shot->contexts[shot->contexts.size() > 1 ? shot->answer : 0];
    before += context + task.separator + shot->shown_target + task.shot_separator;
    say("user", context);
    say("assistant", shot->shown_target);
  }
  std::vector<Prompt> out;
  for (const std::string& context : example.contexts) {
    Prompt prompt;
    if (chat) {
      prompt.messages = messages;
      prompt.messages.emplace_back(json::Object{{"role", "user"}, {"content", context}});
    } else {
      prompt.text = before + context;
    }
    out.push_back(std::move(prompt));
  }
  return out;
}

Result<std::vector<const Example*>> choose_shots(const Task& task, std::span<const Example> pool,
                                                 const Example& example, std::size_t index, std::int64_t count,
                                                 bool own) {
  std::vector<const Example*> candidates;
  for (const Example& e : pool) {
    if (own ? e.where == example.where : false) continue;
    if (e.group.empty() || e.group == example.group) candidates.push_back(&e);
  }
  const auto wanted = static_cast<std::size_t>(count);
  if (candidates.size() < wanted)
    return fail(ErrorKind::kBadInput, task.name + ": " + std::to_string(wanted) + " examples are wanted before " +
                                          example.where + ", and there are " + std::to_string(candidates.size()));
  if (task.random_shots) {
    base::Rng rng(1234, index);
    for (std::size_t i = 0; i < wanted; ++i) std::swap(candidates[i], candidates[i + rng.below(candidates.size() - i)]);
  }
  candidates.resize(wanted);
  return candidates;
}

}  // namespace qw::eval
