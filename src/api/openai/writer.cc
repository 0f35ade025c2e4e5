#include "api/openai/writer.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/utf8.h"

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

// The older completions form: parallel arrays, alternatives as an object per token. `offset`: characters of the text so
// far (code points, as clients count them), which goes on.
class CompletionLogprobs {
 public:
  CompletionLogprobs(const tokenizer::Tokenizer& tokenizer, std::int64_t& offset)
      : tokenizer_(tokenizer), offset_(offset) {}

  // Of a prompt: nothing is known of how likely its first token was.
  void add_first(engine::TokenId id) { add(id, nullptr, nullptr); }
  void add(std::span<const TokenDetail> tokens) {
    for (const TokenDetail& t : tokens) {
      json::Object top;
      for (const auto& other : t.top) top.set(name_of(other.id), static_cast<double>(other.logprob));
      add(t.id, static_cast<double>(t.logprob), std::move(top));
    }
  }
  json::Value take() {
    json::Object out;
    out.set("tokens", std::move(names_));
    out.set("token_logprobs", std::move(values_));
    out.set("top_logprobs", std::move(tops_));
    out.set("text_offset", std::move(offsets_));
    return out;
  }

 private:
  void add(engine::TokenId id, json::Value logprob, json::Value top) {
    names_.emplace_back(name_of(id));
    values_.push_back(std::move(logprob));
    tops_.push_back(std::move(top));
    offsets_.emplace_back(offset_);
    if (tokenizer_.is_special(id)) return;  // it is no part of the text
    const std::string_view bytes = tokenizer_.token_bytes(id);
    offset_ += std::count_if(bytes.begin(), bytes.end(), [](char c) { return (c & 0xC0) != 0x80; });
  }
  // A token that is a part of a character has no text of its own; tokens must be told apart all the same.
  std::string name_of(engine::TokenId id) const {
    const std::string_view bytes = tokenizer_.token_bytes(id);
    if (base::is_valid_utf8(bytes)) return tokenizer_.decode(std::span(&id, 1), false);
    std::string out = "bytes:";
    for (const char c : bytes) {
      char hex[5];
      std::snprintf(hex, sizeof hex, "\\x%02x", static_cast<unsigned char>(c));
      out += hex;
    }
    return out;
  }

  const tokenizer::Tokenizer& tokenizer_;
  std::int64_t& offset_;
  json::Array names_, values_, tops_, offsets_;
};

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
      if (options_.chat) send_delta(record, i, {{"content", ""}}, nullptr, nullptr);
      if (!options_.chat && options_.echoed_ids.empty()) send_echo(record, i);
    }
  }

  void prompt_read(const AnswerRecord& record, std::size_t choice) override { send_echo(record, choice); }

  void event(const AnswerRecord& record, std::size_t choice, const chat::OutputEvent& event,
             std::span<const TokenDetail> tokens) override {
    send_echo(record, choice);
    const ChoiceResult& c = record.choices[choice];
    json::Object delta;
    switch (event.kind) {
      case chat::OutputEvent::Kind::kReasoning:
        delta.set("reasoning_content", event.text);
        break;
      case chat::OutputEvent::Kind::kContent:
        delta.set("content", event.text);
        break;
      case chat::OutputEvent::Kind::kToolCallBegin:
        delta.set("tool_calls",
                  json::Array{json::Object{{"index", static_cast<std::int64_t>(c.calls.size() - 1)},
                                           {"id", c.calls.back().id},
                                           {"type", "function"},
                                           {"function", json::Object{{"name", event.text}, {"arguments", ""}}}}});
        break;
      case chat::OutputEvent::Kind::kToolCallArguments:
        delta.set("tool_calls", json::Array{json::Object{{"index", static_cast<std::int64_t>(c.calls.size() - 1)},
                                                         {"function", json::Object{{"arguments", event.text}}}}});
        break;
      case chat::OutputEvent::Kind::kToolCallEnd:
        return;
    }
    send_delta(record, choice, std::move(delta), logprobs_of(record, tokens, choice), nullptr);
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
      json::Value last = last_event(record);
      return options_.keep(id_, record,
                           [exchange = exchange_, last = std::move(last)] { end_stream(*exchange, last); });
    }
    options_.keep(id_, record,
                  [exchange = exchange_, body = json::Value(whole(record))] { exchange->send_json(200, body); });
  }

  void fail(const ApiError& error, bool begun) override {
    if (!begun) return exchange_->send_error(error);
    exchange_->event(error_body(error));
    exchange_->end_events();
  }

 private:
  void tell_end(const AnswerRecord& record) {
    if (streamed_) return end_stream(*exchange_, last_event(record));
    exchange_->send_json(200, whole(record));
  }

  // What the last event of a stream counts; null: nobody asked for it.
  json::Value last_event(const AnswerRecord& record) const {
    if (!options_.include_usage && !options_.timings) return nullptr;
    json::Object last = head(record, options_.chat ? "chat.completion.chunk" : "text_completion");
    last.set("choices", json::Array{});
    last.set("usage", usage(record));
    add_extras(last, record);
    return last;
  }
  static void end_stream(Exchange& exchange, const json::Value& last) {
    if (!last.is_null()) exchange.event(last);
    exchange.event_text("[DONE]");
    exchange.end_events();
  }

  json::Object whole(const AnswerRecord& record) {
    json::Object body = head(record, options_.chat ? "chat.completion" : "text_completion");
    json::Array list;
    for (std::size_t i = 0; i < record.choices.size(); ++i) list.push_back(finished_choice(record, i));
    body.set("choices", std::move(list));
    body.set("usage", usage(record));
    add_extras(body, record);
    return body;
  }

  json::Object head(const AnswerRecord& record, const char* object) const {
    json::Object out;
    out.set("id", id_);
    out.set("object", object);
    out.set("created", record.created);
    out.set("model", record.model->id);
    if (options_.tells_tier) out.set("service_tier", "default");  // there is one
    if (!record.model->facts.fingerprint.empty()) out.set("system_fingerprint", record.model->facts.fingerprint);
    return out;
  }

  // What is told to whoever asks for it.
  void add_extras(json::Object& out, const AnswerRecord& record) const {
    if (!options_.timings) return;
    out.set("timings", timings(record.timings));
    if (!record.tells_findings) return;
    GuardCounts found;
    for (const ChoiceResult& c : record.choices) add_counts(found, c.findings);
    out.set("guard", json::Object{{"input", to_json(record.input_findings)}, {"output", to_json(found)}});
  }

  json::Value usage(const AnswerRecord& record) const {
    const store::Tokens& t = record.tokens;
    // Members that are set one by one are moved there; lists in braces are copied, at each level of a tree.
    json::Object out, prompt_details, details;
    out.set("prompt_tokens", t.prompt);
    out.set("completion_tokens", t.output);
    out.set("total_tokens", t.prompt + t.output);
    prompt_details.set("cached_tokens", t.cached);
    out.set("prompt_tokens_details", std::move(prompt_details));
    if (options_.chat) details.set("reasoning_tokens", t.reasoning);
    if (record.drafted > 0) {  // tokens guessed ahead; those that were wrong are no completion tokens
      details.set("accepted_prediction_tokens", record.accepted);
      details.set("rejected_prediction_tokens", record.drafted - record.accepted);
    }
    if (!details.empty()) out.set("completion_tokens_details", std::move(details));
    return out;
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
    send_delta(record, choice, {{"content", options_.echoes[choice]}}, std::move(logprobs), nullptr);
  }

  void send_delta(const AnswerRecord& record, std::size_t index, json::Object delta, json::Value logprobs,
                  json::Value reason) {
    json::Object choice;
    choice.set("index", static_cast<std::int64_t>(index));
    if (options_.chat) {
      if (!role_sent_[index]) {
        role_sent_[index] = true;
        json::Object with_role;
        with_role.set("role", "assistant");
        for (auto& [key, value] : delta) with_role.set(key, std::move(value));
        delta = std::move(with_role);
      }
      choice.set("delta", std::move(delta));
    } else {
      const json::Value* text = delta.find("content");
      choice.set("text", text != nullptr ? *text : json::Value(""));
    }
    choice.set("logprobs", std::move(logprobs));
    if (!reason.is_null() && record.choices[index].repeats) choice.set(kCutBy, kRepetition);
    if (retracts_) choice.set(kRetract, true);
    choice.set("finish_reason", std::move(reason));
    json::Object chunk = head(record, options_.chat ? "chat.completion.chunk" : "text_completion");
    json::Array choices;
    choices.emplace_back(std::move(choice));
    chunk.set("choices", std::move(choices));
    if (options_.include_usage) chunk.set("usage", nullptr);
    exchange_->event(std::move(chunk));
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

  json::Value finished_choice(const AnswerRecord& record, std::size_t index) const {
    const ChoiceResult& c = record.choices[index];
    json::Object choice;
    choice.set("index", static_cast<std::int64_t>(index));
    if (options_.chat) {
      json::Object message;
      message.set("role", "assistant");
      message.set("content", c.content.empty() && !c.calls.empty() ? json::Value() : json::Value(c.content));
      message.set("refusal", nullptr);
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
      choice.set("text", options_.echoes[index] + c.content);
    }
    choice.set("logprobs", whole_logprobs(record, index));
    choice.set("finish_reason", reason_name(c.reason));
    if (c.repeats) choice.set(kCutBy, kRepetition);
    return choice;
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
