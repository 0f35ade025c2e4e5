// qianwen chat: a conversation in the terminal. qianwen complete: raw continuation of a text.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <random>

#include "api/prompt.h"
#include "base/file.h"
#include "chat/output_parser.h"
#include "commands.h"
#include "json/value.h"
#include "open_model.h"
#include "sampling/constraint.h"
#include "sampling/text_stream.h"
#include "text_source.h"
#include "tokenizer/prompt.h"

namespace qw::app {
namespace {

struct ChatOptions {
  std::string model = "mini", prompt, system, think, adapter, cache_type = "auto";
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<std::int32_t> top_k;
  std::optional<std::uint64_t> seed;
  std::int64_t max_tokens = 0, context = 0;
  int threads = 0;
  std::string schema, regex, grammar;  // of the output: files, and an expression
  bool json_output = false;
  bool json = false;
  DraftChoice drafts{"auto"};
};

void add_sampling_options(CLI::App& cmd, ChatOptions& o) {
  cmd.add_option("-p,--prompt", o.prompt, "the text; without it, standard input");
  cmd.add_option("--temperature", o.temperature, "0 takes the most likely token")->check(CLI::Range(0.0, 2.0));
  cmd.add_option("--top-k", o.top_k, "draw from the k most likely tokens (0: all)")->check(CLI::NonNegativeNumber);
  cmd.add_option("--top-p", o.top_p, "draw from the most likely tokens of this mass")->check(CLI::Range(0.0, 1.0));
  cmd.add_option("--min-p", o.min_p, "leave out tokens below this share of the most likely one")->check(CLI::Range(0.0, 1.0));
  cmd.add_option("--repetition-penalty", o.repetition_penalty, "above 1 discourages repetition")->check(CLI::Range(0.01, 10.0));
  cmd.add_option("--seed", o.seed, "same seed, same answer");
  cmd.add_option("--max-tokens", o.max_tokens, "longest answer (default: what the context leaves)")->check(CLI::NonNegativeNumber);
  cmd.add_option("--context", o.context, "longest conversation in tokens")->check(CLI::NonNegativeNumber);
  cmd.add_option("--adapter,--lora", o.adapter, "LoRA adapter in use: a PEFT folder or a GGUF file");
  add_cache_type_option(cmd, o.cache_type);
  add_draft_options(cmd, o.drafts);
  add_threads_option(cmd, o.threads);
  auto* form = cmd.add_option_group("form", "what the answer must look like");
  form->add_flag("--json-output", o.json_output, "a JSON object");
  form->add_option("--schema", o.schema, "JSON that this JSON Schema describes (a file)")->check(CLI::ExistingFile);
  form->add_option("--regex", o.regex, "text that matches this regular expression");
  form->add_option("--grammar", o.grammar, "text of this EBNF grammar (a file)")->check(CLI::ExistingFile);
  form->require_option(0, 1);
  cmd.add_flag("--json", o.json, "print one JSON object");
}

// The form that the options ask for; kFree if none.
Result<sampling::ConstraintSpec> form_of(const ChatOptions& o) {
  using Form = sampling::ConstraintSpec::Form;
  sampling::ConstraintSpec spec;
  if (o.json_output) spec.form = Form::kJsonObject;
  if (!o.schema.empty()) {
    QW_ASSIGN(const std::string text, base::read_file(o.schema));
    auto schema = json::parse(text);
    if (!schema) return in_context(o.schema, std::move(schema).error());
    spec.schema = std::move(*schema);
    spec.form = Form::kJsonSchema;
  }
  if (!o.regex.empty()) {
    spec.text = o.regex;
    spec.form = Form::kRegex;
  }
  if (!o.grammar.empty()) {
    QW_ASSIGN(spec.text, base::read_file(o.grammar));
    spec.form = Form::kEbnf;
  }
  return spec;
}

sampling::SamplingParams sampling_params(const ChatOptions& o, const sampling::SamplingParams& defaults) {
  sampling::SamplingParams p = defaults;
  p.temperature = o.temperature.value_or(p.temperature);
  p.top_p = o.top_p.value_or(p.top_p);
  p.min_p = o.min_p.value_or(p.min_p);
  p.top_k = o.top_k.value_or(p.top_k);
  p.repetition_penalty = o.repetition_penalty.value_or(p.repetition_penalty);
  p.seed = o.seed ? *o.seed : std::random_device{}();
  return p;
}

struct Answer {
  std::string text, reasoning;
  engine::Finished finished;
};

// Generates after `prompt`; `parser` splits reasoning from text if there is one; pieces are printed unless JSON is wanted.
Result<Answer> generate(ReadyModel& model, const ChatOptions& o, std::vector<engine::TokenId> prompt, chat::OutputParser* parser,
                        sampling::ConstraintSpec::Reasoning thinking = sampling::ConstraintSpec::Reasoning::kNone) {
  engine::Request request;
  request.prompt = std::move(prompt);
  request.params = sampling_params(o, model.defaults);
  request.max_tokens = o.max_tokens;
  request.adapter = model.adapter;
  QW_ASSIGN(sampling::ConstraintSpec form, form_of(o));
  form.reasoning = thinking;
  if (form.restricts()) {
    QW_ASSIGN(auto classes, model.constraints->compile(form));
    request.processors.push_back(sampling::make_constraint(std::move(classes), request.params.stop_ids));
  }
  sampling::TextStream stream(*model.tokenizer, request.params);
  Answer answer;
  bool dim = false;
  const auto show = [&](const std::string& text, bool reasoning) {
    (reasoning ? answer.reasoning : answer.text) += text;
    if (o.json) return;
    const bool colour = ::isatty(STDOUT_FILENO) != 0;
    if (colour && reasoning != dim) std::fputs(reasoning ? "\x1b[2m" : "\x1b[0m", stdout);
    dim = reasoning;
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  };
  const auto take = [&](const std::vector<chat::OutputEvent>& events) {
    for (const auto& e : events) {
      if (e.kind == chat::OutputEvent::Kind::kContent) show(e.text, false);
      if (e.kind == chat::OutputEvent::Kind::kReasoning) show(e.text, true);
    }
  };
  const auto text = [&](std::string piece) {
    if (piece.empty()) return;
    if (parser != nullptr) {
      take(parser->push(piece));
    } else {
      show(piece, false);
    }
  };
  QW_ASSIGN(auto done, engine::generate(model.loaded->engine(), std::move(request),
                                        [&](const engine::TokenEvent& e) {
                                          if (!e.stop) text(stream.push(e.id));
                                          return stream.stopped() ? engine::Verdict::kStop : engine::Verdict::kContinue;
                                        },
                                        &interrupted()));
  text(stream.finish());
  if (parser != nullptr) take(parser->finish());
  if (dim && ::isatty(STDOUT_FILENO)) std::fputs("\x1b[0m", stdout);
  if (!o.json) std::fputc('\n', stdout);
  answer.finished = std::move(done.finished);
  return answer;
}

void print_json(const ReadyModel& model, const Answer& a) {
  const auto& u = a.finished.usage;
  const auto& t = a.finished.timings;
  const auto rate = [](std::int64_t tokens, double ms) { return ms > 0 ? 1000.0 * static_cast<double>(tokens) / ms : 0.0; };
  const json::Object out{
      {"text", a.text},
      {"reasoning", a.reasoning},
      {"finish_reason", std::string(engine::finish_reason_name(a.finished.reason))},
      {"usage", json::Object{{"prompt_tokens", u.prompt_tokens}, {"completion_tokens", u.completion_tokens},
                             {"drafted_tokens", u.drafted_tokens}, {"accepted_tokens", u.accepted_tokens}}},
      {"timings", json::Object{{"load_ms", model.load_ms},
                               {"prompt_ms", t.prompt_ms},
                               {"prompt_tps", rate(u.prompt_tokens, t.prompt_ms)},
                               {"first_token_ms", t.first_token_ms},
                               {"predict_tps", rate(u.completion_tokens - 1, t.predict_ms)}}}};
  std::puts(json::dump(out).c_str());
}

// One user turn: adds it and the answer to the history.
Result<Answer> turn(ReadyModel& model, const ChatOptions& o, json::Array& history, const std::string& text) {
  history.push_back(json::Object{{"role", "user"}, {"content", text}});
  chat::Conversation conversation{history, {}, true, {}};
  if (!o.think.empty()) conversation.variables.set("enable_thinking", o.think == "on");
  QW_ASSIGN(auto prompt, api::chat_prompt(*model.chat_template, conversation, *model.tokenizer));
  chat::OutputParser parser(
      {.reasoning = true, .starts_in_reasoning = prompt.opens_reasoning, .tool_calls = false, .tools = {}});
  using Reasoning = sampling::ConstraintSpec::Reasoning;
  const Reasoning reasoning = prompt.opens_reasoning                 ? Reasoning::kOpen
                              : model.thinks && o.think != "off" ? Reasoning::kPossible
                                                                     : Reasoning::kNone;
  QW_ASSIGN(auto answer, generate(model, o, std::move(prompt.ids), &parser, reasoning));
  history.push_back(json::Object{{"role", "assistant"}, {"content", answer.text}});
  return answer;
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  return text;
}

Status converse(ReadyModel& model, const ChatOptions& o) {
  json::Array history;
  if (!o.system.empty()) history.push_back(json::Object{{"role", "system"}, {"content", o.system}});
  const bool once = !o.prompt.empty() || ::isatty(STDIN_FILENO) == 0 || o.json;
  if (once) {
    std::string text = o.prompt;
    if (text.empty()) {
      QW_ASSIGN(text, read_text("-", kMaxPromptBytes));
    }
    text = trimmed(std::move(text));
    if (text.empty()) return fail(ErrorKind::kUsage, "chat: nothing to answer: give -p TEXT or text on standard input");
    QW_ASSIGN(const Answer answer, turn(model, o, history, text));
    if (o.json) print_json(model, answer);
    if (answer.finished.reason == engine::FinishReason::kCancelled) return fail(ErrorKind::kInterrupted, "interrupted");
    return {};
  }
  std::fprintf(stderr, "%s, %d threads. An empty line or Ctrl-D ends; Ctrl-C stops an answer.\n", model.name.c_str(), model.loaded->threads());
  for (;;) {
    std::fputs("> ", stderr);
    std::string line;
    if (!std::getline(std::cin, line) || trimmed(line).empty()) return {};
    QW_ASSIGN(const Answer answer, turn(model, o, history, trimmed(line)));
    interrupted().store(false);
  }
}

Status chat(const ChatOptions& o) {
  engine::LoadOptions load;
  load.threads = o.threads;
  load.context = o.context;
  load.cache_dtype = cache_dtype(o.cache_type);
  QW_ASSIGN(ReadyModel model, load_adapted_model(o.model, load, o.adapter, o.drafts));
  if (!model.chat_template) return fail(ErrorKind::kBadInput, o.model + ": has no chat template; use `qianwen complete`");
  return converse(model, o);
}

Status complete(const ChatOptions& o) {
  engine::LoadOptions load;
  load.threads = o.threads;
  load.context = o.context;
  load.cache_dtype = cache_dtype(o.cache_type);
  QW_ASSIGN(ReadyModel model, load_adapted_model(o.model, load, o.adapter, o.drafts));
  std::string text = o.prompt;
  if (text.empty()) {
    QW_ASSIGN(text, read_text("-", kMaxPromptBytes));
  }
  auto prompt = tokenizer::encode_prompt(*model.tokenizer, text, false);
  if (prompt.empty()) return fail(ErrorKind::kUsage, "complete: the prompt is empty");
  if (!o.json) std::fputs(text.c_str(), stdout);
  QW_ASSIGN(const Answer answer, generate(model, o, std::move(prompt), nullptr));
  if (o.json) print_json(model, answer);
  if (answer.finished.reason == engine::FinishReason::kCancelled) return fail(ErrorKind::kInterrupted, "interrupted");
  return {};
}

}  // namespace

void add_chat(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<ChatOptions>();
  CLI::App* cmd = app.add_subcommand("chat", "Talk to a model in the terminal; with a pipe on standard input, answer once");
  cmd->add_option("model", o->model, "MODEL (default: mini)");
  cmd->add_option("--system", o->system, "system message");
  cmd->add_option("--think", o->think, "thinking, for models that can")->check(CLI::IsMember({"on", "off"}));
  add_sampling_options(*cmd, *o);
  add_models_option(*cmd);
  cmd->callback([o, &outcome] {
    if (auto status = chat(*o); !status) outcome.code = report(status.error());
  });
}

void add_complete(CLI::App& app, Outcome& outcome) {
  auto o = std::make_shared<ChatOptions>();
  CLI::App* cmd = app.add_subcommand("complete", "Continue a text, without a chat template");
  cmd->add_option("-m,--model", o->model, "MODEL")->required();
  add_sampling_options(*cmd, *o);
  add_models_option(*cmd);
  cmd->callback([o, &outcome] {
    if (auto status = complete(*o); !status) outcome.code = report(status.error());
  });
}

}  // namespace qw::app
