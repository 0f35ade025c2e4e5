// qianwen reward: what a reward model says of a conversation. qianwen guard: what a guard model says of it.
#include <algorithm>
#include <cstdio>
#include <iostream>

#include "api/prompt.h"
#include "base/decimal.h"
#include "chat/guard_output.h"
#include "chat/output_parser.h"
#include "commands.h"
#include "engine/scores.h"
#include "open_model.h"
#include "sampling/text_stream.h"
#include "text_source.h"

namespace qw::app {
namespace {

using models::HeadKind;

// Ends a step in a conversation that is given to a model of step rewards.
constexpr const char* kStepEnd = "<extra_0>";
// A verdict is three short lines.
constexpr std::int64_t kVerdictTokens = 128;

struct JudgeOptions {
  std::string model, messages;
  int threads = 0;
  bool json = false, stream = false;
};

Result<ReadyModel> load(const JudgeOptions& o) {
  engine::LoadOptions load;
  load.threads = o.threads;
  QW_ASSIGN(ReadyModel model, load_model(o.model, load));
  if (!model.chat_template) return fail(ErrorKind::kBadInput, o.model + ": has no chat template");
  return model;
}

Result<std::vector<engine::TokenId>> prompt_of(const JudgeOptions& o, const ReadyModel& model, bool answer_follows,
                                               std::string_view marker = {}) {
  QW_ASSIGN(const json::Array messages, read_messages(o.messages));
  const chat::Conversation conversation{messages, {}, answer_follows, {{"enable_thinking", false}}};
  auto variables = chat::template_variables(conversation);
  if (!variables) return in_context(o.messages, std::move(variables).error());
  QW_ASSIGN(auto prompt, api::chat_prompt(*model.chat_template, std::move(*variables), *model.tokenizer, marker));
  return std::move(prompt.ids);
}

std::string label_of(const std::vector<std::string>& labels, std::size_t i) {
  return i < labels.size() ? labels[i] : "LABEL_" + std::to_string(i);
}

// ---- reward ---------------------------------------------------------------------------------------------------------

json::Object classes(const models::HeadTraits& head, std::span<const float> row) {
  if (head.outputs == 1) return {{"score", base::shortest(row[0])}};
  const auto p = engine::softmax(row);
  json::Object scores;
  for (std::size_t i = 0; i < p.size(); ++i) scores.set(label_of(head.labels, i), base::shortest(p[i]));
  const auto best = static_cast<std::size_t>(std::max_element(p.begin(), p.end()) - p.begin());
  return {{"label", label_of(head.labels, best)}, {"scores", std::move(scores)}};
}

// How likely each step is right, at the tokens that end steps.
Result<json::Object> steps(const JudgeOptions& o, const ReadyModel& model, const std::vector<engine::TokenId>& ids,
                           const engine::Reading& reading) {
  const auto end = model.tokenizer->find(kStepEnd);
  json::Array out;
  for (std::size_t t = 0; end && t < ids.size(); ++t)
    if (ids[t] == *end) out.emplace_back(base::shortest(engine::softmax(reading.row(static_cast<std::int64_t>(t)))[1]));
  if (out.empty()) return fail(ErrorKind::kBadInput, o.messages + ": no step ends in " + kStepEnd);
  return json::Object{{"steps", std::move(out)}};
}

Status reward(const JudgeOptions& o) {
  QW_ASSIGN(ReadyModel model, load(o));
  const models::HeadTraits& head = model.loaded->model().traits().head;
  const bool by_step = head.kind == HeadKind::kSteps;
  if (!by_step && head.kind != HeadKind::kClasses)
    return fail(ErrorKind::kBadInput, o.model + ": has no head of rewards or classes");
  QW_ASSIGN(const auto ids, prompt_of(o, model, false, by_step ? kStepEnd : ""));
  std::vector<engine::Request> requests(1);
  requests[0].prompt = ids;
  requests[0].wanted = by_step ? engine::Wanted::kEveryRow : engine::Wanted::kLastRow;
  QW_ASSIGN(const auto read, engine::read(model.loaded->engine(), std::move(requests), &interrupted()));
  json::Object out;
  if (by_step) {
    QW_ASSIGN(out, steps(o, model, ids, read[0]));
  } else {
    out = classes(head, read[0].row(0));
  }
  out.set("tokens", static_cast<std::int64_t>(ids.size()));
  std::puts(json::dump(out).c_str());
  return {};
}

// ---- guard ----------------------------------------------------------------------------------------------------------

struct Likeliest {
  std::string label;
  float probability;
};
Likeliest likeliest(const std::vector<std::string>& labels, std::span<const float> scores) {
  const auto p = engine::softmax(scores);
  const auto best = static_cast<std::size_t>(std::max_element(p.begin(), p.end()) - p.begin());
  return {label_of(labels, best), p[best]};
}

// One row of a guard: of the query's two lists, or of the response's.
json::Object classification(const models::HeadTraits& head, std::span<const float> row, bool query) {
  const std::size_t response = head.response_levels.size() + head.response_categories.size();
  row = query ? row.subspan(response) : row.first(response);
  const auto& levels = query ? head.query_levels : head.response_levels;
  const Likeliest level = likeliest(levels, row.first(levels.size()));
  const Likeliest category = likeliest(query ? head.query_categories : head.response_categories, row.subspan(levels.size()));
  return {{"risk_level", level.label},
          {"risk_probability", base::shortest(level.probability)},
          {"category", category.label},
          {"category_probability", base::shortest(category.probability)}};
}

// The <|im_end|> of the last user's turn.
Result<std::size_t> end_of_query(const JudgeOptions& o, const tokenizer::Tokenizer& tokenizer,
                                 const std::vector<engine::TokenId>& ids) {
  const auto start = tokenizer.find("<|im_start|>"), end = tokenizer.find("<|im_end|>");
  const std::vector<engine::TokenId> user = tokenizer.encode("user\n", false);
  for (std::size_t t = ids.size(); start && end && t-- > 0;) {
    const std::span rest = std::span(ids).subspan(t + 1);
    if (ids[t] != *start || rest.size() < user.size() || !std::equal(user.begin(), user.end(), rest.begin())) continue;
    const auto close = std::find(rest.begin(), rest.end(), *end);
    if (close != rest.end()) return t + 1 + static_cast<std::size_t>(close - rest.begin());
  }
  return fail(ErrorKind::kBadInput, o.messages + ": the prompt has no user's turn that ends");
}

// Classifies tokens as their rows come: the query at its end, then every token after it.
class TokenGuard final : public engine::Sink {
 public:
  TokenGuard(const models::HeadTraits& head, const tokenizer::Tokenizer& tokenizer, std::vector<engine::TokenId> ids,
             std::size_t query_end, bool show)
      : head_(head), tokenizer_(tokenizer), ids_(std::move(ids)), query_end_(query_end), show_(show) {}
  engine::Verdict on_token(const engine::TokenEvent&) noexcept override { return engine::Verdict::kContinue; }
  void on_row(const engine::RowEvent& event) noexcept override {
    const auto t = static_cast<std::size_t>(event.position);
    given = t + 1;
    if (t < query_end_) return;
    json::Object one{{"token", tokenizer_.decode(std::span(ids_).subspan(t, 1), false)}};
    for (const auto& [key, value] : classification(head_, event.row, t == query_end_)) one.set(key, value);
    if (show_) {
      std::printf("%s %s\n", t == query_end_ ? "query " : "answer", json::dump(one).c_str());
      std::fflush(stdout);
    }
    if (t == query_end_) {
      one.erase("token");
      query = std::move(one);
    } else {
      tokens.emplace_back(std::move(one));
    }
  }
  void on_finished(const engine::Finished& end) noexcept override { finished = end; }
  void add(const std::vector<engine::TokenId>& more) { ids_.insert(ids_.end(), more.begin(), more.end()); }

  json::Object query;
  json::Array tokens;
  std::optional<engine::Finished> finished;
  std::size_t given = 0;  // rows that came

 private:
  const models::HeadTraits& head_;
  const tokenizer::Tokenizer& tokenizer_;
  std::vector<engine::TokenId> ids_;
  const std::size_t query_end_;
  const bool show_;
};

Status guard_tokens(const JudgeOptions& o, ReadyModel& model) {
  QW_ASSIGN(auto ids, prompt_of(o, model, false));
  QW_ASSIGN(const std::size_t query_end, end_of_query(o, *model.tokenizer, ids));
  const auto sink = std::make_shared<TokenGuard>(model.loaded->model().traits().head, *model.tokenizer, ids, query_end, !o.json);
  engine::Request request;
  request.prompt = std::move(ids);
  request.wanted = engine::Wanted::kEveryRow;
  request.sink = sink;
  engine::Engine& engine = model.loaded->engine();
  QW_ASSIGN(const auto id, engine.submit(std::move(request)));
  while (!sink->finished) {
    if (interrupted().load()) engine.cancel(id);
    engine.step();
  }
  if (sink->finished->error) return tl::unexpected(*sink->finished->error);
  if (sink->finished->reason != engine::FinishReason::kStop) return fail(ErrorKind::kInterrupted, "interrupted");
  if (o.json) std::puts(json::dump(json::Object{{"query", sink->query}, {"tokens", sink->tokens}}).c_str());
  return {};
}

// Computes until `rows` rows are given.
Status advance(engine::Engine& engine, engine::RequestId id, const TokenGuard& sink, std::size_t rows) {
  while (!sink.finished && sink.given < rows) {
    if (interrupted().load()) engine.cancel(id);
    engine.step();
  }
  if (!sink.finished) return {};
  if (sink.finished->error) return tl::unexpected(*sink.finished->error);
  return fail(ErrorKind::kInterrupted, "interrupted");
}

// The answer comes piece by piece on standard input; the request stays open, so each token is computed once.
Status guard_stream(const JudgeOptions& o, ReadyModel& model) {
  QW_ASSIGN(auto ids, prompt_of(o, model, true));
  QW_ASSIGN(const std::size_t query_end, end_of_query(o, *model.tokenizer, ids));
  std::size_t known = ids.size();
  const auto sink = std::make_shared<TokenGuard>(model.loaded->model().traits().head, *model.tokenizer, ids, query_end, true);
  engine::Engine& engine = model.loaded->engine();
  engine::Request request;
  request.prompt = std::move(ids);
  request.wanted = engine::Wanted::kEveryRow;
  request.open = true;
  request.sink = sink;
  QW_ASSIGN(const auto id, engine.submit(std::move(request)));
  QW_TRY(advance(engine, id, *sink, known));
  std::string line;
  for (int number = 1; std::getline(std::cin, line); ++number) {
    if (line.empty()) continue;
    const std::string where = "standard input, line " + std::to_string(number);
    const auto piece = json::parse(line);
    if (!piece) return in_context(where, piece.error());
    if (!piece->is_string()) return fail(ErrorKind::kBadInput, where + ": expected a piece of the answer as a JSON string");
    const auto more = model.tokenizer->encode(piece->as_string(), false);
    sink->add(more);
    known += more.size();
    QW_TRY(engine.extend(id, more));
    QW_TRY(advance(engine, id, *sink, known));
  }
  return {};
}

Status guard_answer(const JudgeOptions& o, ReadyModel& model) {
  engine::Request request;
  QW_ASSIGN(request.prompt, prompt_of(o, model, true));
  request.params.temperature = 0;
  request.params.stop_ids = model.defaults.stop_ids;
  request.max_tokens = kVerdictTokens;
  QW_ASSIGN(const auto done, engine::generate(model.loaded->engine(), std::move(request), {}, &interrupted()));
  if (done.finished.reason == engine::FinishReason::kCancelled) return fail(ErrorKind::kInterrupted, "interrupted");
  const std::string text = model.tokenizer->decode(done.tokens, true);
  const auto verdict = chat::parse_guard_output(text);
  if (!verdict) return fail(ErrorKind::kFailed, o.model + ": " + verdict.error().message + "; it wrote " + json::dump(text.substr(0, 200)));
  json::Object out{{"safety", std::string(chat::safety_name(verdict->safety))},
                   {"categories", json::Array(verdict->categories.begin(), verdict->categories.end())}};
  out.set("refusal", verdict->refusal ? json::Value(*verdict->refusal) : json::Value());
  std::puts(json::dump(out).c_str());
  return {};
}

Status guard(const JudgeOptions& o) {
  QW_ASSIGN(ReadyModel model, load(o));
  const HeadKind kind = model.loaded->model().traits().head.kind;
  if (kind == HeadKind::kGuard) return o.stream ? guard_stream(o, model) : guard_tokens(o, model);
  if (o.stream) return fail(ErrorKind::kBadInput, o.model + ": classifies no single tokens, so it has no --stream");
  if (kind == HeadKind::kLanguage) return guard_answer(o, model);
  return fail(ErrorKind::kBadInput, o.model + ": is no guard model");
}

using Run = Status (*)(const JudgeOptions&);
void add_judge(CLI::App& app, Outcome& outcome, const char* name, const char* help, const char* messages, Run run) {
  auto o = std::make_shared<JudgeOptions>();
  CLI::App* cmd = app.add_subcommand(name, help);
  cmd->add_option("-m,--model", o->model, "MODEL")->required();
  add_models_option(*cmd);
  cmd->add_option("--messages", o->messages, messages)->required();
  add_threads_option(*cmd, o->threads);
  cmd->add_flag("--json", o->json, "print one JSON object");
  if (run == guard)
    cmd->add_flag("--stream", o->stream, "the answer comes on standard input, a JSON string a line; each token is classified as it comes");
  cmd->callback([o, run, &outcome] {
    if (auto status = run(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace

void add_reward(CLI::App& app, Outcome& outcome) {
  add_judge(app, outcome, "reward", "Score a conversation with a reward model",
            "JSON file: an array of messages; steps end in <extra_0> for models of step rewards", reward);
}

void add_guard(CLI::App& app, Outcome& outcome) {
  add_judge(app, outcome, "guard", "Classify a conversation with a guard model",
            "JSON file: an array of messages, the last one the user's or the assistant's", guard);
}

}  // namespace qw::app
