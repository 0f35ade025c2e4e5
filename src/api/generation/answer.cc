#include "api/generation/answer.h"

#include <algorithm>
#include <mutex>
#include <optional>

#include "api/audit_entry.h"
#include "api/auth.h"
#include "api/generation/output_guard.h"
#include "api/service_metrics.h"
#include "base/clock.h"

namespace qw::api {
namespace {

EndReason end_reason(engine::FinishReason reason, bool called_tools) {
  if (reason == engine::FinishReason::kLength || reason == engine::FinishReason::kDeadline) return EndReason::kLength;
  return called_tools ? EndReason::kToolCalls : EndReason::kStop;
}

const char* outcome_name(EndReason reason) {
  if (reason == EndReason::kLength) return "length";
  if (reason == EndReason::kFiltered) return "content_filter";
  return reason == EndReason::kToolCalls ? "tool_calls" : "stop";
}

// Between what stays of an answer and the reply that follows it.
constexpr const char* kBeforeReply = "\n\n";

}  // namespace

struct Answer::State {
  std::shared_ptr<Exchange> exchange;
  std::unique_ptr<AnswerWriter> writer;
  AnswerSpec spec;
  std::mutex mutex;
  AnswerRecord record;
  std::vector<std::optional<chat::OutputParser>> parsers;  // of each choice; absent: its text is all content
  std::vector<OutputGuard> guards;                         // of each choice; none: nothing is looked for
  std::vector<bool> acknowledged;                          // of each choice: its prompt was
  std::vector<bool> prefaced;                              // of each choice: it has its preface
  std::vector<engine::RequestId> requests;
  std::vector<std::vector<engine::TokenId>> drawn;  // of each choice, where they are kept
  std::size_t open = 0;
  bool begun = false;                                      // of a stream
  bool failed = false;                                     // an error was sent; nothing more may be
  std::vector<std::int64_t> prompt_tokens, cached_tokens;  // of each prompt, once one of its choices has ended
  std::int64_t completion_tokens = 0, reasoning_tokens = 0;

  store::Tokens tokens_used() const {
    store::Tokens t;
    for (const auto n : prompt_tokens) t.prompt += n;
    for (const auto n : cached_tokens) t.cached += n;
    t.reasoning = reasoning_tokens;
    t.output = completion_tokens;
    return t;
  }
  void count(std::size_t index, const engine::Finished& finished);
  void acknowledge(std::size_t index, std::int64_t tokens, bool reasoning);
  void emit(std::size_t index, const chat::OutputEvent& event, std::vector<TokenDetail>& tokens);
  void guard(std::size_t index, const chat::OutputEvent& event, std::vector<TokenDetail>& tokens);
  void block(std::size_t index, const std::string& reply);
  const std::string& reply_to(std::size_t index);
};

// What the engine computed for a choice. A prompt is charged once however many choices it has, and not at all if the
// client left, or its deadline passed, before the first token.
void Answer::State::count(std::size_t index, const engine::Finished& finished) {
  if (exchange->metrics() != nullptr) exchange->metrics()->finished(record.model->id, finished);
  completion_tokens += finished.usage.completion_tokens;
  record.drafted += finished.usage.drafted_tokens;
  record.accepted += finished.usage.accepted_tokens;
  record.timings = finished.timings;
  using enum engine::FinishReason;
  if (finished.usage.completion_tokens == 0 && (finished.reason == kCancelled || finished.reason == kDeadline)) return;
  const std::size_t prompt = index / spec.choices_per_prompt;
  // What was cached of a prompt is what its first choice found; the others find what that one computed.
  const std::int64_t cached = finished.usage.cached_tokens;
  cached_tokens[prompt] = prompt_tokens[prompt] == 0 ? cached : std::min(cached_tokens[prompt], cached);
  prompt_tokens[prompt] = finished.usage.prompt_tokens;
}

// What was handed to the client of a stream.
void Answer::State::acknowledge(std::size_t index, std::int64_t tokens, bool reasoning) {
  if (reasoning) reasoning_tokens += tokens;
  // What is told to somebody who reads it later is not acknowledged: made anew it is charged once.
  if (!spec.stream || exchange->listener()) return;
  store::Tokens more;
  more.output = tokens;
  more.reasoning = reasoning ? tokens : 0;
  if (!acknowledged[index] && index % spec.choices_per_prompt == 0)
    more.prompt = spec.prompt_sizes.empty() ? 0 : spec.prompt_sizes[index / spec.choices_per_prompt];
  acknowledged[index] = true;
  spec.charge->acknowledge(more);
}

// One event of the output parser: gathered, and streamed. `tokens` are told with the first event of their text.
void Answer::State::emit(std::size_t index, const chat::OutputEvent& event, std::vector<TokenDetail>& tokens) {
  ChoiceResult& c = record.choices[index];
  using Kind = chat::OutputEvent::Kind;
  if (event.kind == Kind::kContent && !spec.preface.empty() && !prefaced[index]) {
    prefaced[index] = true;
    std::vector<TokenDetail> none;
    emit(index, {Kind::kContent, spec.preface + kBeforeReply, -1}, none);
  }
  if (event.kind == Kind::kReasoning) c.reasoning += event.text;
  if (event.kind == Kind::kContent) c.content += event.text;
  if (event.kind == Kind::kToolCallBegin) c.calls.push_back({exchange->part_id("call_"), event.text, "", event.cut});
  if (event.kind == Kind::kToolCallArguments) c.calls.back().arguments += event.text;
  if (event.kind == Kind::kToolCallEnd) c.calls.back().cut = event.cut;
  if (!spec.stream) return;
  writer->event(record, index, event, tokens);
  if (event.kind != Kind::kToolCallEnd) tokens.clear();
}

// One event on its way through the choice's guard, if it has one.
void Answer::State::guard(std::size_t index, const chat::OutputEvent& event, std::vector<TokenDetail>& tokens) {
  if (guards.empty()) return emit(index, event, tokens);
  for (const auto& passed : guards[index].pass(event)) emit(index, passed, tokens);
}

// To what was blocked of an answer.
const std::string& Answer::State::reply_to(std::size_t index) {
  const governance::Profile& profile = spec.policy->profile();
  if (!profile.crisis) return profile.output.reply;
  for (const GuardCount& one : guards[index].counts())
    if (one.kind == governance::kCrisisFinding && one.action == governance::GuardAction::kBlock) {
      spec.notes.set("crisis", "answer");
      return spec.reply = profile.crisis->text();
    }
  return profile.output.reply;
}

// Nothing of the choice follows but the reply; a stream's client is told to take back what it has.
void Answer::State::block(std::size_t index, const std::string& reply) {
  ChoiceResult& c = record.choices[index];
  std::vector<TokenDetail> none;
  c.reason = EndReason::kFiltered;
  const bool said = !c.content.empty() || !c.reasoning.empty() || !c.calls.empty();
  if (spec.policy->profile().retracts) {
    c.content.clear();
    c.reasoning.clear();
    c.calls.clear();
    c.tokens.clear();
    if (spec.stream && said) writer->retract(record, index);
  }
  if (!reply.empty())
    emit(index, {chat::OutputEvent::Kind::kContent, (c.content.empty() ? "" : kBeforeReply) + reply, -1}, none);
}

class Answer::Choice final : public TextReceiver {
 public:
  Choice(std::shared_ptr<Answer> answer, std::size_t index) : answer_(std::move(answer)), index_(index) {}
  engine::Verdict on_piece(TextPiece piece) noexcept override { return answer_->piece(index_, std::move(piece)); }
  void on_prompt(std::vector<TokenDetail> tokens) noexcept override { answer_->prompt(index_, std::move(tokens)); }
  void on_drawn(std::vector<engine::TokenId> tokens) noexcept override { answer_->drawn(index_, std::move(tokens)); }
  void on_end(const engine::Finished& finished, std::int32_t stop) noexcept override {
    answer_->ended(index_, finished, stop);
  }

 private:
  std::shared_ptr<Answer> answer_;
  std::size_t index_;
};

Answer::Answer(std::shared_ptr<Exchange> exchange, ModelLease model, std::unique_ptr<AnswerWriter> writer,
               AnswerSpec spec, std::size_t choices)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.exchange = std::move(exchange);
  s.writer = std::move(writer);
  s.spec = std::move(spec);
  s.record.model = std::move(model);
  s.record.created = s.exchange->answer_created() > 0 ? s.exchange->answer_created() : base::unix_seconds();
  s.record.choices.resize(choices);
  s.parsers.resize(choices);
  s.acknowledged.resize(choices);
  s.prefaced.resize(choices);
  s.drawn.resize(choices);
  s.open = choices;
  s.prompt_tokens.resize((choices + s.spec.choices_per_prompt - 1) / s.spec.choices_per_prompt);
  s.cached_tokens.resize(s.prompt_tokens.size());
  if (s.spec.charge == nullptr) s.spec.charge = std::make_shared<Charge>();
  for (const auto n : s.spec.prompt_sizes) s.record.tokens.prompt += n;
  if (const governance::Policy* policy = s.spec.policy; policy != nullptr) {
    const governance::GuardRules& rules = policy->output(s.spec.minor);
    if (!rules.empty())
      for (std::size_t i = 0; i < choices; ++i) s.guards.emplace_back(rules);
    s.record.tells_findings = policy->profile().tells_client;
    s.record.input_findings = s.spec.input_findings;
    s.record.retrieval_findings = s.spec.retrieval_findings;
  }
  if (!s.spec.chat) return;
  for (auto& parser : s.parsers)
    parser.emplace(chat::OutputOptions{.reasoning = true,
                                       .starts_in_reasoning = s.spec.starts_in_reasoning,
                                       .tool_calls = s.spec.parse_tools,
                                       .tools = s.spec.tools,
                                       .certain = s.spec.certain_calls});
}
Answer::~Answer() = default;

void Answer::begin() {
  State& s = *state_;
  // A client that goes away frees the cache within one step of the engine.
  s.exchange->reply().on_close([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    std::lock_guard lock(self->state_->mutex);
    for (const auto id : self->state_->requests) self->state_->record.model->engine->cancel(id);
  });
  if (!s.spec.stream) return;
  std::lock_guard lock(s.mutex);
  s.begun = true;
  s.writer->begin(s.record);
}

std::shared_ptr<TextReceiver> Answer::receiver(std::size_t index) {
  return std::make_shared<Choice>(shared_from_this(), index);
}

void Answer::running(engine::RequestId id) {
  std::lock_guard lock(state_->mutex);
  state_->requests.push_back(id);
  if (state_->exchange->reply().closed()) state_->record.model->engine->cancel(id);
}

void Answer::abandon(const ApiError& error) {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  for (const auto id : s.requests) s.record.model->engine->cancel(id);
  if (std::exchange(s.failed, true)) return;
  if (s.open > 0) s.exchange->note_use(s.record.model->id, s.record.tokens, "error");
  // What was given of it is on record too.
  if (!s.spec.audit.empty() && s.record.tokens.output > 0) keep(*s.exchange, audit_record(), [](const Status&) {});
  s.writer->fail(error, s.begun);
}

bool Answer::keeps_drawn() const { return !state_->spec.content.empty(); }

void Answer::drawn(std::size_t index, std::vector<engine::TokenId> tokens) {
  std::lock_guard lock(state_->mutex);
  state_->drawn[index] = std::move(tokens);
}

bool Answer::tells_stop() const { return !state_->spec.chat; }

void Answer::prompt(std::size_t index, std::vector<TokenDetail> tokens) {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  if (s.failed) return;
  s.record.choices[index].prompt_tokens = std::move(tokens);
  if (s.spec.stream) s.writer->prompt_read(s.record, index);
}

engine::Verdict Answer::piece(std::size_t index, TextPiece piece) {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  if (s.failed) return engine::Verdict::kContinue;
  ChoiceResult& c = s.record.choices[index];
  auto& parser = s.parsers[index];
  if (!s.spec.stream) c.tokens.insert(c.tokens.end(), piece.tokens.begin(), piece.tokens.end());
  const bool thought = parser && parser->in_reasoning();
  s.record.tokens.output += piece.count;
  const bool ended = c.reason == EndReason::kFiltered;  // the rest is counted, and nothing else
  if (parser) {
    for (const auto& event : parser->push(piece.text)) s.guard(index, event, piece.tokens);
  } else {
    s.guard(index, {chat::OutputEvent::Kind::kContent, piece.text, -1}, piece.tokens);
  }
  const bool blocked = !s.guards.empty() && s.guards[index].blocked();
  if (blocked && !ended) s.block(index, s.reply_to(index));
  if (s.spec.stream && !blocked && !piece.tokens.empty()) s.writer->held(s.record, index, piece.tokens);
  // The markers of a thinking block belong to it.
  const bool reasoning = thought || (parser && parser->in_reasoning());
  s.acknowledge(index, piece.count, reasoning);
  s.record.tokens.reasoning = s.reasoning_tokens;
  return blocked ? engine::Verdict::kStop : engine::Verdict::kContinue;
}

void Answer::refuse() {
  for (std::size_t i = 0; i < state_->record.choices.size(); ++i) {
    {
      std::lock_guard lock(state_->mutex);
      if (state_->failed) return;
      std::vector<TokenDetail> none;
      if (state_->spec.helps)
        state_->emit(i, {chat::OutputEvent::Kind::kContent, state_->spec.reply, -1}, none);
      else
        state_->block(i, state_->spec.reply);
    }
    ended(i, {}, -1);
  }
}

void Answer::ended(std::size_t index, const engine::Finished& finished, std::int32_t stop) {
  State& s = *state_;
  if (finished.reason == engine::FinishReason::kError) return abandon(from_internal(*finished.error));
  {
    std::lock_guard lock(s.mutex);
    if (s.failed) return;
    ChoiceResult& c = s.record.choices[index];
    std::vector<TokenDetail> none;
    const bool was_blocked = c.reason == EndReason::kFiltered;
    c.repeats = stop == kRepeats && !was_blocked;
    const bool cut = c.repeats || end_reason(finished.reason, false) == EndReason::kLength;
    if (s.parsers[index] && !was_blocked) {
      for (const auto& event : s.parsers[index]->finish(cut)) s.guard(index, event, none);
    }
    if (!s.guards.empty()) {
      for (const auto& event : s.guards[index].finish()) s.emit(index, event, none);
      c.findings = s.guards[index].counts();
      if (s.guards[index].blocked() && !was_blocked) s.block(index, s.reply_to(index));
    }
    c.done = true;
    if (c.reason == EndReason::kFiltered) {
      c.repeats = false;
    } else {
      const bool called = std::any_of(c.calls.begin(), c.calls.end(), [](const ToolCall& call) { return !call.cut; });
      c.reason = cut ? EndReason::kLength : end_reason(finished.reason, called);
      if (stop >= 0 && static_cast<std::size_t>(stop) < s.spec.stops.size())
        c.stop = s.spec.stops[static_cast<std::size_t>(stop)];
      if (finished.reason == engine::FinishReason::kCancelled) s.record.cancelled = true;
    }
    if (!s.spec.refused) s.count(index, finished);
    const bool last = s.open == 1;
    if (last) s.record.tokens = s.tokens_used();
    if (s.spec.stream) s.writer->choice_ended(s.record, index);
    --s.open;
    if (!last) return;
  }
  const store::Tokens used = s.tokens_used();
  if (s.exchange->metrics() != nullptr) {
    s.exchange->metrics()->used(s.record.model->id, tenant_of(*s.exchange), used);
    for (const ChoiceResult& c : s.record.choices)
      s.exchange->metrics()->found("output", c.findings, !s.spec.refused && c.reason == EndReason::kFiltered);
  }
  const char* outcome = s.record.cancelled ? "cancelled" : outcome_name(s.record.choices[0].reason);
  s.exchange->note_use(s.record.model->id, used, outcome);
  s.spec.charge->settle(
      outcome, used, [self = shared_from_this()](bool entered) { self->complete(entered); }, seal_content());
}

// What was asked and answered, encrypted for the store; the record gets its hash.
std::optional<store::Content> Answer::seal_content() {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  if (s.spec.content.empty() || s.failed) return std::nullopt;
  json::Array answers;
  for (std::size_t i = 0; i < s.record.choices.size(); ++i) {
    const ChoiceResult& c = s.record.choices[i];
    json::Array tokens, calls;
    for (const engine::TokenId id : s.drawn[i]) tokens.emplace_back(std::int64_t{id});
    for (const auto& call : c.calls) calls.push_back(json::Object{{"name", call.name}, {"arguments", call.arguments}});
    answers.push_back(json::Object{{"tokens", std::move(tokens)},
                                   {"reasoning", c.reasoning},
                                   {"content", c.content},
                                   {"tool_calls", std::move(calls)}});
  }
  s.spec.content.set("answers", std::move(answers));
  return seal(*s.exchange, s.spec.content, s.spec.audit);
}

// What came out, by choice.
json::Object Answer::audit_record() const {
  const State& s = *state_;
  json::Object entry = s.spec.audit;
  for (const auto& [name, value] : s.spec.notes) entry.set(name, value);
  if (!s.spec.input_findings.empty()) entry.set("input_findings", to_json(s.spec.input_findings));
  if (!s.spec.retrieval_findings.empty()) entry.set("retrieval_findings", to_json(s.spec.retrieval_findings));
  json::Array choices;
  for (const ChoiceResult& c : s.record.choices) {
    json::Object one{{"finish", c.done ? outcome_name(c.reason) : "cut_off"}};
    set_concealed(one, "content_hmac", *s.exchange, c.content);
    if (!c.reasoning.empty()) set_concealed(one, "reasoning_hmac", *s.exchange, c.reasoning);
    json::Array calls;
    for (const auto& call : c.calls) {
      set_concealed(calls.emplace_back(json::Object{{"name", call.name}}).as_object(), "arguments_hmac", *s.exchange,
                    call.arguments);
    }
    if (!calls.empty()) one.set("tool_calls", std::move(calls));
    if (!c.findings.empty()) one.set("findings", to_json(c.findings));
    choices.push_back(std::move(one));
  }
  entry.set("choices", std::move(choices));
  add_usage(entry, s.tokens_used(), s.failed ? "failed" : s.record.cancelled ? "cancelled" : "complete");
  return entry;
}

// The end of the answer: only what is in the ledger, and on record, is given.
void Answer::complete(bool entered) {
  State& s = *state_;
  if (!entered)
    return abandon(
        {500, "server_error", "The accounts cannot be reached; this answer was not given.", "", "store_unavailable"});
  if (s.spec.audit.empty()) return finish();
  {
    std::lock_guard lock(s.mutex);
    if (s.failed) return;
  }
  // What is hashed for it must not hold the engine up.
  const auto make = [self = shared_from_this()] {
    std::lock_guard lock(self->state_->mutex);
    return self->audit_record();
  };
  keep_made(*s.exchange, make,
            [self = shared_from_this()](const Status& kept) { kept ? self->finish() : self->abandon(not_kept()); });
}

void Answer::finish() {
  State& s = *state_;
  std::lock_guard lock(s.mutex);
  if (!s.failed) s.writer->finish(s.record);
}

}  // namespace qw::api
