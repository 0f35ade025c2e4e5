#include "api/openai/writer.h"

#include <optional>
#include <string_view>
#include <utility>

#include "api/openai/completion_logprobs.h"
#include "json/text_writer.h"

namespace qw::api::openai {
namespace {

json::Value logprob_entry(const tokenizer::Tokenizer& tokenizer, engine::TokenId id, float logprob) {
  const std::string bytes(tokenizer.token_bytes(id));
  json::Array numbers;
  for (const char c : bytes) numbers.emplace_back(static_cast<int>(static_cast<unsigned char>(c)));
  return json::Object{{"token", tokenizer.decode(std::span(&id, 1), false)},
                      {"logprob", static_cast<double>(logprob)},
                      {"bytes", std::move(numbers)}};
}

// Milliseconds. Of several choices: those of the one that ended last.
json::Value timings(const engine::Timings& t) {
  return json::Object{{"queued_ms", t.queued_ms},
                      {"prompt_ms", t.prompt_ms},
                      {"first_token_ms", t.first_token_ms},
                      {"predict_ms", t.predict_ms},
                      {"total_ms", t.total_ms}};
}

class Writer final : public AnswerWriter {
 public:
  Writer(std::shared_ptr<Exchange> exchange, WriterOptions options)
      : exchange_(std::move(exchange)),
        options_(std::move(options)),
        id_(new_id(options_.chat ? "chatcmpl-" : "cmpl-")) {}

  void begin(const AnswerRecord& record) override {
    exchange_->begin_events();
    role_sent_.resize(record.choices.size());
    echo_sent_.resize(record.choices.size());
    offsets_.resize(record.choices.size());
    for (std::size_t i = 0; i < record.choices.size(); ++i) {
      if (options_.chat) send_delta(record, i, {"content", ""}, nullptr, nullptr);
      if (!options_.chat && options_.echoed_ids.empty()) send_echo(record, i);
    }
  }

  void prompt_read(const AnswerRecord& record, std::size_t choice) override { send_echo(record, choice); }

  void event(const AnswerRecord& record, std::size_t choice, const chat::OutputEvent& event,
             std::span<const TokenDetail> tokens) override {
    send_echo(record, choice);
    const ChoiceResult& c = record.choices[choice];
    using Kind = chat::OutputEvent::Kind;
    Delta delta{nullptr, event.text};
    if (event.kind == Kind::kReasoning) delta.name = "reasoning_content";
    if (event.kind == Kind::kContent) delta.name = "content";
    if (event.kind == Kind::kToolCallBegin || event.kind == Kind::kToolCallArguments) {
      delta.call = &c.calls.back();
      delta.call_index = static_cast<std::int64_t>(c.calls.size() - 1);
      delta.begins_call = event.kind == Kind::kToolCallBegin;
    }
    if (event.kind != Kind::kToolCallEnd)
      send_delta(record, choice, delta, logprobs_of(record, tokens, choice), nullptr);
  }

  void held(const AnswerRecord& record, std::size_t choice, std::span<const TokenDetail> tokens) override {
    send_echo(record, choice);
    send_delta(record, choice, {}, logprobs_of(record, tokens, choice), nullptr);
  }

  void retract(const AnswerRecord& record, std::size_t choice) override {
    retracts_ = true;
    send_delta(record, choice, {}, nullptr, nullptr);
    retracts_ = false;
  }

  void choice_ended(const AnswerRecord& record, std::size_t choice) override {
    streamed_ = true;
    send_echo(record, choice);
    send_delta(record, choice, {}, nullptr, reason_name(record.choices[choice].reason));
  }

  void finish(const AnswerRecord& record) override {
    if (!options_.keep || record.cancelled) return tell_end(record);
    // The writer may go before what was answered is kept: what is told then is put together now.
    if (streamed_) {
      return options_.keep(id_, record, [exchange = exchange_, last = last_event(record)]() mutable {
        end_stream(*exchange, std::move(last));
      });
    }
    options_.keep(id_, record, [exchange = exchange_, body = whole(record)]() mutable {
      exchange->send_json(200, std::move(body));
    });
  }

  void fail(const ApiError& error, bool begun) override {
    if (!begun) return exchange_->send_error(error);
    exchange_->event(error_body(error));
    exchange_->end_events();
  }

 private:
  // What one event of a stream adds to a choice: a text under a name, or a call's name or arguments; nothing.
  struct Delta {
    const char* name = nullptr;
    std::string_view text = {};
    const ToolCall* call = nullptr;
    std::int64_t call_index = 0;
    bool begins_call = false;
  };

  void tell_end(const AnswerRecord& record) {
    if (streamed_) return end_stream(*exchange_, last_event(record));
    exchange_->send_json(200, whole(record));
  }

  // What the last event of a stream counts, if somebody asked for it.
  std::optional<json::TextWriter> last_event(const AnswerRecord& record) const {
    if (!options_.include_usage && !options_.timings) return std::nullopt;
    json::TextWriter last = head(record, options_.chat ? "chat.completion.chunk" : "text_completion");
    last.key("choices"), last.open_array(), last.close_array();
    add_usage(last, record);
    add_extras(last, record);
    return last;
  }
  static void end_stream(Exchange& exchange, std::optional<json::TextWriter> last) {
    if (last) exchange.event(std::move(*last));
    exchange.event_text("[DONE]");
    exchange.end_events();
  }

  json::TextWriter whole(const AnswerRecord& record) const {
    json::TextWriter body = head(record, options_.chat ? "chat.completion" : "text_completion");
    body.key("choices");
    body.open_array();
    for (std::size_t i = 0; i < record.choices.size(); ++i) add_choice(body, record, i);
    body.close_array();
    add_usage(body, record);
    add_extras(body, record);
    return body;
  }

  // An open object, which every answer and event begins with.
  json::TextWriter head(const AnswerRecord& record, const char* object) const {
    json::TextWriter out;
    out.open_object();
    out.member("id", id_);
    out.member("object", object);
    out.member("created", record.created);
    out.member("model", record.model->id);
    if (options_.tells_tier) out.member("service_tier", "default");  // there is one
    if (!record.model->facts.fingerprint.empty()) out.member("system_fingerprint", record.model->facts.fingerprint);
    return out;
  }

  // What is told to whoever asks for it.
  void add_extras(json::TextWriter& out, const AnswerRecord& record) const {
    if (!options_.timings) return;
    out.key("timings"), out.value(timings(record.timings));
    if (!record.tells_findings) return;
    GuardCounts found;
    for (const ChoiceResult& c : record.choices) add_counts(found, c.findings);
    out.key("guard");
    json::Object told{{"input", to_json(record.input_findings)}, {"output", to_json(found)}};
    if (!record.retrieval_findings.empty()) told.set("retrieval", to_json(record.retrieval_findings));
    out.value(told);
  }

  void add_usage(json::TextWriter& out, const AnswerRecord& record) const {
    const store::Tokens& t = record.tokens;
    out.key("usage");
    out.open_object();
    out.member("prompt_tokens", t.prompt);
    out.member("completion_tokens", t.output);
    out.member("total_tokens", t.prompt + t.output);
    out.key("prompt_tokens_details");
    out.open_object();
    out.member("cached_tokens", t.cached);
    out.close_object();
    if (options_.chat || record.drafted > 0) {
      out.key("completion_tokens_details");
      out.open_object();
      if (options_.chat) out.member("reasoning_tokens", t.reasoning);
      if (record.drafted > 0) {  // tokens guessed ahead; those that were wrong are no completion tokens
        out.member("accepted_prediction_tokens", record.accepted);
        out.member("rejected_prediction_tokens", record.drafted - record.accepted);
      }
      out.close_object();
    }
    out.close_object();
  }

  // Of the next tokens of a stream's choice.
  json::Value logprobs_of(const AnswerRecord& record, std::span<const TokenDetail> tokens, std::size_t choice) {
    if (!options_.logprobs) return nullptr;
    const tokenizer::Tokenizer& tokenizer = *record.model->tokenizer;
    if (options_.chat) return json::Object{{"content", chat_logprobs(tokenizer, tokens)}, {"refusal", nullptr}};
    CompletionLogprobs out(tokenizer, offsets_[choice]);
    out.add(tokens);
    return out.take();
  }

  void add_prompt(CompletionLogprobs& out, const AnswerRecord& record, std::size_t choice) const {
    if (options_.echoed_ids.empty()) return;
    out.add_first(options_.echoed_ids[choice / options_.choices_per_prompt].front());
    out.add(record.choices[choice].prompt_tokens);
  }

  // What stands before a stream's choice, once.
  void send_echo(const AnswerRecord& record, std::size_t choice) {
    if (options_.chat || std::exchange(echo_sent_[choice], 1) != 0) return;
    if (options_.echoes[choice].empty() && options_.echoed_ids.empty()) return;
    json::Value logprobs;
    if (!options_.echoed_ids.empty()) {
      CompletionLogprobs out(*record.model->tokenizer, offsets_[choice]);
      add_prompt(out, record, choice);
      logprobs = out.take();
    }
    send_delta(record, choice, {"content", options_.echoes[choice]}, logprobs, nullptr);
  }

  // `reason`: why the choice ends with it; nullptr: it goes on.
  void send_delta(const AnswerRecord& record, std::size_t index, const Delta& delta, const json::Value& logprobs,
                  const char* reason) {
    json::TextWriter out = head(record, options_.chat ? "chat.completion.chunk" : "text_completion");
    out.key("choices");
    out.open_array();
    out.open_object();
    out.member("index", static_cast<std::int64_t>(index));
    if (options_.chat) {
      add_delta(out, delta, !role_sent_[index]);
      role_sent_[index] = true;
    } else {
      const bool content = delta.name != nullptr && std::string_view(delta.name) == "content";
      out.member("text", content ? delta.text : std::string_view());
    }
    out.key("logprobs"), out.value(logprobs);
    if (reason != nullptr && record.choices[index].repeats) out.member(kCutBy, kRepetition);
    if (retracts_) out.key(kRetract), out.boolean(true);
    out.key("finish_reason");
    reason != nullptr ? out.string(reason) : out.null();
    out.close_object();
    out.close_array();
    if (options_.include_usage) out.key("usage"), out.null();
    exchange_->event(std::move(out));
  }

  static void add_delta(json::TextWriter& out, const Delta& delta, bool with_role) {
    out.key("delta");
    out.open_object();
    if (with_role) out.member("role", "assistant");
    if (delta.name != nullptr) out.member(delta.name, delta.text);
    if (delta.call != nullptr) {
      out.key("tool_calls");
      out.open_array();
      out.open_object();
      out.member("index", delta.call_index);
      if (delta.begins_call)
        add_call(out, delta.call->id, delta.text, "");
      else
        add_function(out, nullptr, delta.text);
      out.close_object();
      out.close_array();
    }
    out.close_object();
  }

  // Members of a call. `name`: nullptr if it was told before.
  static void add_call(json::TextWriter& out, const std::string& id, std::string_view name,
                       std::string_view arguments) {
    out.member("id", id);
    out.member("type", "function");
    add_function(out, &name, arguments);
  }
  static void add_function(json::TextWriter& out, const std::string_view* name, std::string_view arguments) {
    out.key("function");
    out.open_object();
    if (name != nullptr) out.member("name", *name);
    out.member("arguments", arguments);
    out.close_object();
  }

  json::Value whole_logprobs(const AnswerRecord& record, std::size_t index) const {
    if (!options_.logprobs) return nullptr;
    const tokenizer::Tokenizer& tokenizer = *record.model->tokenizer;
    const auto& tokens = record.choices[index].tokens;
    if (options_.chat) return json::Object{{"content", chat_logprobs(tokenizer, tokens)}, {"refusal", nullptr}};
    std::int64_t offset = 0;
    CompletionLogprobs out(tokenizer, offset);
    add_prompt(out, record, index);
    out.add(tokens);
    return out.take();
  }

  void add_choice(json::TextWriter& out, const AnswerRecord& record, std::size_t index) const {
    const ChoiceResult& c = record.choices[index];
    out.open_object();
    out.member("index", static_cast<std::int64_t>(index));
    if (options_.chat)
      add_message(out, c);
    else
      out.member("text", options_.echoes[index] + c.content);
    out.key("logprobs"), out.value(whole_logprobs(record, index));
    out.member("finish_reason", reason_name(c.reason));
    if (c.repeats) out.member(kCutBy, kRepetition);
    out.close_object();
  }

  static void add_message(json::TextWriter& out, const ChoiceResult& c) {
    out.key("message");
    out.open_object();
    out.member("role", "assistant");
    out.key("content");
    c.content.empty() && !c.calls.empty() ? out.null() : out.string(c.content);
    out.key("refusal"), out.null();
    if (!c.reasoning.empty()) out.member("reasoning_content", c.reasoning);
    if (!c.calls.empty()) {
      out.key("tool_calls");
      out.open_array();
      for (const ToolCall& call : c.calls) {
        out.open_object();
        add_call(out, call.id, call.name, call.arguments);
        out.close_object();
      }
      out.close_array();
    }
    out.close_object();
  }

  const std::shared_ptr<Exchange> exchange_;
  const WriterOptions options_;
  const std::string id_;
  std::vector<bool> role_sent_;
  std::vector<char> echo_sent_;
  std::vector<std::int64_t> offsets_;  // of the next token in each choice's text
  bool streamed_ = false, retracts_ = false;
};

}  // namespace

json::Array chat_logprobs(const tokenizer::Tokenizer& tokenizer, std::span<const TokenDetail> tokens) {
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

const char* reason_name(EndReason reason) {
  if (reason == EndReason::kLength) return "length";
  if (reason == EndReason::kFiltered) return "content_filter";
  return reason == EndReason::kToolCalls ? "tool_calls" : "stop";
}

std::unique_ptr<AnswerWriter> make_writer(std::shared_ptr<Exchange> exchange, WriterOptions options) {
  return std::make_unique<Writer>(std::move(exchange), std::move(options));
}

}  // namespace qw::api::openai
