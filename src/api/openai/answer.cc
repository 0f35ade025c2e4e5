#include "api/openai/answer.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <optional>

#include "api/auth.h"
#include "api/service_metrics.h"
#include "chat/output_parser.h"

namespace qw::api::openai {
namespace {

std::int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

const char* reason_name(engine::FinishReason reason, bool called_tools) {
  if (reason == engine::FinishReason::kLength || reason == engine::FinishReason::kDeadline) return "length";
  return called_tools ? "tool_calls" : "stop";
}

json::Value logprob_entry(const tokenizer::Tokenizer& tokenizer, engine::TokenId id, float logprob) {
  const std::string bytes(tokenizer.token_bytes(id));
  json::Array numbers;
  for (const char c : bytes) numbers.emplace_back(static_cast<int>(static_cast<unsigned char>(c)));
  return json::Object{{"token", tokenizer.decode(std::span(&id, 1), false)},
                      {"logprob", static_cast<double>(logprob)},
                      {"bytes", std::move(numbers)}};
}

json::Array chat_logprobs(const tokenizer::Tokenizer& tokenizer, const std::vector<TokenDetail>& tokens) {
  json::Array entries;
  for (const TokenDetail& t : tokens) {
    json::Value entry = logprob_entry(tokenizer, t.id, t.logprob);
    json::Array top;
    for (const auto& other : t.top) top.push_back(logprob_entry(tokenizer, other.id, other.logprob));
    entry.as_object().set("top_logprobs", std::move(top));
    entries.push_back(std::move(entry));
  }
  return entries;
}

// The older completions form: parallel arrays, alternatives as an object per token.
json::Value completion_logprobs(const tokenizer::Tokenizer& tokenizer, const std::vector<TokenDetail>& tokens,
                                std::size_t text_offset) {
  json::Array names, values, tops, offsets;
  for (const TokenDetail& t : tokens) {
    const std::string text = tokenizer.decode(std::span(&t.id, 1), false);
    json::Object top;
    for (const auto& o : t.top) top.set(tokenizer.decode(std::span(&o.id, 1), false), static_cast<double>(o.logprob));
    offsets.emplace_back(static_cast<std::int64_t>(text_offset));
    text_offset += text.size();
    names.emplace_back(text);
    values.emplace_back(static_cast<double>(t.logprob));
    tops.emplace_back(std::move(top));
  }
  return json::Object{{"tokens", std::move(names)},
                      {"token_logprobs", std::move(values)},
                      {"top_logprobs", std::move(tops)},
                      {"text_offset", std::move(offsets)}};
}

struct ToolCall {
  std::string id, name, arguments;
};

}  // namespace

struct ChoiceState {
  std::optional<chat::OutputParser> parser;
  std::string content, reasoning;
  std::vector<ToolCall> calls;
  std::vector<TokenDetail> tokens;
  std::string reason;
  bool role_sent = false, done = false, acknowledged = false;
  std::size_t emitted_bytes = 0;
};

struct Answer::State {
  std::shared_ptr<Exchange> exchange;
  ModelLease model;
  AnswerSpec spec;
  std::string id;
  std::int64_t created;
  std::mutex mutex;
  std::vector<ChoiceState> choices;
  std::vector<engine::RequestId> requests;
  std::size_t open;
  bool failed = false;      // an error was sent; nothing more may be
  bool cancelled = false;   // the client left, or the service stops
  std::vector<std::int64_t> prompt_tokens, cached_tokens;   // of each prompt, once one of its choices has a token
  std::int64_t completion_tokens = 0, reasoning_tokens = 0, drafted_tokens = 0, accepted_tokens = 0;

  bool chat() const { return spec.kind == AnswerKind::kChat; }

  json::Object head(const char* object) const {
    return {{"id", id}, {"object", object}, {"created", created}, {"model", model->id}};
  }
  // Every prompt counts once, however many choices it has; what was cached of it is what its first choice found.
  json::Value usage() const {
    const store::Tokens t = tokens_used();
    json::Object out{{"prompt_tokens", t.prompt},
                     {"completion_tokens", t.output},
                     {"total_tokens", t.prompt + t.output},
                     {"prompt_tokens_details", json::Object{{"cached_tokens", t.cached}}}};
    json::Object details;
    if (chat()) details.set("reasoning_tokens", t.reasoning);
    if (drafted_tokens > 0) {  // OpenAI's names for tokens guessed ahead; those that were wrong are no completion tokens
      details.set("accepted_prediction_tokens", accepted_tokens);
      details.set("rejected_prediction_tokens", drafted_tokens - accepted_tokens);
    }
    if (!details.empty()) out.set("completion_tokens_details", std::move(details));
    return out;
  }
  store::Tokens tokens_used() const {
    store::Tokens t;
    for (const auto n : prompt_tokens) t.prompt += n;
    for (const auto n : cached_tokens) t.cached += n;
    t.reasoning = reasoning_tokens;
    t.output = completion_tokens;
    return t;
  }
  // What the engine computed for a choice. A prompt is charged once however many choices it has, and not at all if the
  // client left before its first token.
  void count(std::size_t index, const engine::Finished& finished) {
    if (exchange->metrics() != nullptr) exchange->metrics()->finished(model->id, finished);
    completion_tokens += finished.usage.completion_tokens;
    drafted_tokens += finished.usage.drafted_tokens;
    accepted_tokens += finished.usage.accepted_tokens;
    if (finished.usage.completion_tokens == 0 && finished.reason == engine::FinishReason::kCancelled) return;
    const std::size_t prompt = index / spec.choices_per_prompt;
    // What was cached of a prompt is what its first choice found; the others find what that one computed.
    const std::int64_t cached = finished.usage.cached_tokens;
    cached_tokens[prompt] = prompt_tokens[prompt] == 0 ? cached : std::min(cached_tokens[prompt], cached);
    prompt_tokens[prompt] = finished.usage.prompt_tokens;
  }
  void acknowledge(std::size_t index, std::int64_t tokens, bool reasoning);
  void send_chunk(json::Array list) {
    json::Object chunk = head(chat() ? "chat.completion.chunk" : "text_completion");
    chunk.set("choices", std::move(list));
    if (spec.include_usage) chunk.set("usage", nullptr);
    exchange->event(chunk);
  }
  void send_delta(std::size_t index, json::Object delta, json::Value logprobs, json::Value reason) {
    ChoiceState& c = choices[index];
    json::Object choice{{"index", static_cast<std::int64_t>(index)}};
    if (chat()) {
      if (!std::exchange(c.role_sent, true)) {
        json::Object with_role{{"role", "assistant"}};
        for (auto& [key, value] : delta) with_role.set(key, std::move(value));
        delta = std::move(with_role);
      }
      choice.set("delta", std::move(delta));
    } else {
      const json::Value* text = delta.find("content");
      choice.set("text", text != nullptr ? *text : json::Value(""));
    }
    choice.set("logprobs", std::move(logprobs));
    choice.set("finish_reason", std::move(reason));
    send_chunk({std::move(choice)});
  }
  json::Value logprobs_of(ChoiceState& c, const std::vector<TokenDetail>& tokens) const {
    if (!spec.logprobs) return nullptr;
    if (chat()) return json::Object{{"content", chat_logprobs(*model->tokenizer, tokens)}, {"refusal", nullptr}};
    return completion_logprobs(*model->tokenizer, tokens, c.emitted_bytes);
  }
  void emit(std::size_t index, const chat::OutputEvent& event, std::vector<TokenDetail>& tokens);
  json::Value finished_choice(std::size_t index);
};

// One event of the output parser: streamed as a delta, or gathered for the one answer.
void Answer::State::emit(std::size_t index, const chat::OutputEvent& event, std::vector<TokenDetail>& tokens) {
  ChoiceState& c = choices[index];
  json::Object delta;
  switch (event.kind) {
    case chat::OutputEvent::Kind::kReasoning:
      c.reasoning += event.text;
      delta.set("reasoning_content", event.text);
      break;
    case chat::OutputEvent::Kind::kContent:
      c.content += event.text;
      delta.set("content", event.text);
      break;
    case chat::OutputEvent::Kind::kToolCallBegin:
      c.calls.push_back({new_id("call_"), event.text, ""});
      delta.set("tool_calls", json::Array{json::Object{
                                  {"index", static_cast<std::int64_t>(c.calls.size() - 1)},
                                  {"id", c.calls.back().id},
                                  {"type", "function"},
                                  {"function", json::Object{{"name", event.text}, {"arguments", ""}}}}});
      break;
    case chat::OutputEvent::Kind::kToolCallArguments:
      c.calls.back().arguments += event.text;
      delta.set("tool_calls", json::Array{json::Object{{"index", static_cast<std::int64_t>(c.calls.size() - 1)},
                                                       {"function", json::Object{{"arguments", event.text}}}}});
      break;
    case chat::OutputEvent::Kind::kToolCallEnd: return;
  }
  if (!spec.stream) return;
  send_delta(index, std::move(delta), logprobs_of(c, tokens), nullptr);
  tokens.clear();
}

json::Value Answer::State::finished_choice(std::size_t index) {
  ChoiceState& c = choices[index];
  json::Object choice{{"index", static_cast<std::int64_t>(index)}};
  if (chat()) {
    json::Object message{{"role", "assistant"},
                         {"content", c.content.empty() && !c.calls.empty() ? json::Value() : json::Value(c.content)},
                         {"refusal", nullptr}};
    if (!c.reasoning.empty()) message.set("reasoning_content", c.reasoning);
    if (!c.calls.empty()) {
      json::Array calls;
      for (const ToolCall& call : c.calls) {
        calls.push_back(json::Object{{"id", call.id},
                                     {"type", "function"},
                                     {"function", json::Object{{"name", call.name}, {"arguments", call.arguments}}}});
      }
      message.set("tool_calls", std::move(calls));
    }
    choice.set("message", std::move(message));
  } else {
    choice.set("text", c.content);
  }
  c.emitted_bytes = 0;
  choice.set("logprobs", logprobs_of(c, c.tokens));
  choice.set("finish_reason", c.reason);
  return choice;
}

class Answer::Choice final : public TextReceiver {
 public:
  Choice(std::shared_ptr<Answer> answer, std::size_t index) : answer_(std::move(answer)), index_(index) {}
  void on_piece(TextPiece piece) noexcept override { answer_->piece(index_, std::move(piece)); }
  void on_end(const engine::Finished& finished) noexcept override { answer_->ended(index_, finished); }

 private:
  std::shared_ptr<Answer> answer_;
  std::size_t index_;
};

Answer::Answer(std::shared_ptr<Exchange> exchange, ModelLease model, AnswerSpec spec, std::size_t choices)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.exchange = std::move(exchange);
  s.model = std::move(model);
  s.spec = std::move(spec);
  s.id = new_id(s.chat() ? "chatcmpl-" : "cmpl-");
  s.created = unix_seconds();
  s.choices.resize(choices);
  s.open = choices;
  s.prompt_tokens.resize((choices + s.spec.choices_per_prompt - 1) / s.spec.choices_per_prompt);
  s.cached_tokens.resize(s.prompt_tokens.size());
  if (s.spec.charge == nullptr) s.spec.charge = std::make_shared<Charge>();
  for (ChoiceState& c : s.choices) {
    if (s.chat()) {
      c.parser.emplace(chat::OutputOptions{.reasoning = s.spec.split_reasoning,
                                            .starts_in_reasoning = s.spec.starts_in_reasoning,
                                            .tool_calls = s.spec.parse_tools,
                                            .tools = s.spec.tools});
    }
  }
}
Answer::~Answer() = default;

void Answer::begin() {
  State& s = *state_;
  // A client that goes away frees the cache within one step of the engine.
  s.exchange->reply().on_close([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    std::lock_guard lock(self->state_->mutex);
    for (const auto id : self->state_->requests) self->state_->model->engine->cancel(id);
  });
  if (!s.spec.stream) return;
  std::lock_guard lock(s.mutex);
  s.exchange->begin_events();
  for (std::size_t i = 0; i < s.choices.size(); ++i) {
    if (s.chat()) s.send_delta(i, {{"content", ""}}, nullptr, nullptr);
    if (!s.chat() && !s.spec.echoes[i].empty()) s.send_delta(i, {{"content", s.spec.echoes[i]}}, nullptr, nullptr);
  }
}

std::shared_ptr<TextReceiver> Answer::receiver(std::size_t index) {
  return std::make_shared<Choice>(shared_from_this(), index);
}

void Answer::running(engine::RequestId id) {
  std::lock_guard lock(state_->mutex);
  state_->requests.push_back(id);
  if (state_->exchange->reply().closed()) state_->model->engine->cancel(id);
}

void Answer::abandon(const ApiError& error) {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  for (const auto id : s.requests) s.model->engine->cancel(id);
  if (std::exchange(s.failed, true)) return;
  if (s.spec.stream) {
    s.exchange->event(error_body(error));
    s.exchange->end_events();
  } else {
    s.exchange->send_error(error);
  }
}

void Answer::piece(std::size_t index, TextPiece piece) {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  if (s.failed) return;
  ChoiceState& c = s.choices[index];
  if (!s.spec.stream) c.tokens.insert(c.tokens.end(), piece.tokens.begin(), piece.tokens.end());
  const bool thought = c.parser && c.parser->in_reasoning();
  if (c.parser) {
    for (const auto& event : c.parser->push(piece.text)) s.emit(index, event, piece.tokens);
  } else {
    s.emit(index, {chat::OutputEvent::Kind::kContent, piece.text, -1}, piece.tokens);
    c.emitted_bytes += piece.text.size();
  }
  if (s.spec.stream && !piece.tokens.empty()) {  // the parser held the text back; its tokens must not be lost
    s.send_delta(index, {}, s.logprobs_of(c, piece.tokens), nullptr);
  }
  // The markers of a thinking block belong to it.
  s.acknowledge(index, piece.count, thought || (c.parser && c.parser->in_reasoning()));
}

void Answer::State::acknowledge(std::size_t index, std::int64_t tokens, bool reasoning) {
  if (reasoning) reasoning_tokens += tokens;
  if (!spec.stream) return;
  store::Tokens more;
  more.output = tokens;
  more.reasoning = reasoning ? tokens : 0;
  if (!std::exchange(choices[index].acknowledged, true) && index % spec.choices_per_prompt == 0) more.prompt = spec.prompt_sizes.empty() ? 0 : spec.prompt_sizes[index / spec.choices_per_prompt];
  spec.charge->acknowledge(more);
}

void Answer::ended(std::size_t index, const engine::Finished& finished) {
  State& s = *state_;
  if (finished.reason == engine::FinishReason::kError) return abandon(from_internal(*finished.error));
  {
    std::lock_guard lock(s.mutex);
    if (s.failed) return;
    ChoiceState& c = s.choices[index];
    std::vector<TokenDetail> none;
    if (c.parser) {
      for (const auto& event : c.parser->finish()) s.emit(index, event, none);
    }
    c.done = true;
    c.reason = reason_name(finished.reason, !c.calls.empty());
    if (finished.reason == engine::FinishReason::kCancelled) s.cancelled = true;
    s.count(index, finished);
    if (s.spec.stream) s.send_delta(index, {}, nullptr, c.reason);
    if (--s.open > 0) return;
  }
  if (s.exchange->metrics() != nullptr) s.exchange->metrics()->used(s.model->id, tenant_of(*s.exchange), s.tokens_used());
  s.spec.charge->settle(s.cancelled ? "cancelled" : s.choices[0].reason, s.tokens_used(),
                        [self = shared_from_this()](bool entered) { self->complete(entered); });
}

// The end of the answer: only what is in the ledger is given.
void Answer::complete(bool entered) {
  State& s = *state_;
  if (!entered) return abandon({500, "server_error", "The accounts cannot be reached; this answer was not given.", "", "store_unavailable"});
  std::lock_guard lock(s.mutex);
  if (s.failed) return;
  if (s.spec.stream) {
    if (s.spec.include_usage) {
      json::Object last = s.head(s.chat() ? "chat.completion.chunk" : "text_completion");
      last.set("choices", json::Array{});
      last.set("usage", s.usage());
      s.exchange->event(last);
    }
    s.exchange->event_text("[DONE]");
    s.exchange->end_events();
    return;
  }
  json::Object body = s.head(s.chat() ? "chat.completion" : "text_completion");
  json::Array list;
  for (std::size_t i = 0; i < s.choices.size(); ++i) {
    if (!s.chat()) s.choices[i].content.insert(0, s.spec.echoes[i]);
    list.push_back(s.finished_choice(i));
  }
  body.set("choices", std::move(list));
  body.set("usage", s.usage());
  s.exchange->send_json(200, body);
}

}  // namespace qw::api::openai
