#include "api/ollama/writer.h"

#include <chrono>
#include <cstdio>
#include <ctime>
#include <utility>

#include "api/ollama/api.h"
#include "api/openai/writer.h"

namespace qw::api::ollama {
namespace {

using Kind = chat::OutputEvent::Kind;

std::int64_t nanoseconds(double ms) { return static_cast<std::int64_t>(ms * 1e6); }

json::Value call_of(const ToolCall& call) {
  auto arguments = json::parse(call.arguments);
  return json::Object{
      {"function", json::Object{{"name", call.name},
                                {"arguments", arguments && arguments->is_object() ? std::move(*arguments)
                                                                                  : json::Value(json::Object{})}}}};
}

class Writer final : public AnswerWriter {
 public:
  Writer(std::shared_ptr<Exchange> exchange, WriterOptions options)
      : exchange_(std::move(exchange)), options_(options) {}

  void begin(const AnswerRecord&) override {
    streams_ = true;
    exchange_->begin_lines();
  }

  void event(const AnswerRecord& record, std::size_t choice, const chat::OutputEvent& event,
             std::span<const TokenDetail> tokens) override {
    if (event.kind == Kind::kToolCallBegin || event.kind == Kind::kToolCallArguments) return;  // told whole, at its end
    if (event.cut) return;  // its arguments are an object, or nothing
    json::Object part;
    if (event.kind == Kind::kReasoning) part.set("thinking", event.text);
    if (event.kind == Kind::kToolCallEnd)
      part.set("tool_calls", json::Array{call_of(record.choices[choice].calls.back())});
    send(record, event.kind == Kind::kContent ? event.text : "", std::move(part), tokens);
  }
  void held(const AnswerRecord& record, std::size_t, std::span<const TokenDetail> tokens) override {
    send(record, "", {}, tokens);
  }
  void retract(const AnswerRecord& record, std::size_t) override {
    json::Object out = line(record, "", {});
    out.set(kRetract, true);
    out.set("done", false);
    exchange_->line(out);
  }
  void choice_ended(const AnswerRecord&, std::size_t) override {}

  void finish(const AnswerRecord& record) override {
    const ChoiceResult& c = record.choices[0];
    json::Object rest;
    if (!streams_) {
      if (!c.reasoning.empty()) rest.set("thinking", c.reasoning);
      json::Array calls;
      for (const ToolCall& call : c.calls)
        if (!call.cut) calls.push_back(call_of(call));
      if (!calls.empty()) rest.set("tool_calls", std::move(calls));
    }
    json::Object out = line(record, streams_ ? "" : c.content, std::move(rest));
    if (options_.logprobs && !streams_) out.set("logprobs", openai::chat_logprobs(*record.model->tokenizer, c.tokens));
    out.set("done", true);
    out.set("done_reason", c.reason == EndReason::kToolCalls ? "stop" : openai::reason_name(c.reason));
    if (c.repeats) out.set(kCutBy, kRepetition);
    const engine::Timings& t = record.timings;
    out.set("total_duration", nanoseconds(t.total_ms));
    out.set("load_duration", nanoseconds(t.queued_ms));  // the model is there: what it waited
    out.set("prompt_eval_count", record.tokens.prompt);
    out.set("prompt_eval_duration", nanoseconds(t.prompt_ms));
    out.set("eval_count", record.tokens.output);
    out.set("eval_duration", nanoseconds(t.predict_ms));
    if (!streams_) return exchange_->send_json(200, out);
    exchange_->line(out);
    exchange_->reply().finish();
  }

  void fail(const ApiError& error, bool begun) override {
    if (!begun) return exchange_->send_error(error);
    exchange_->line(error_body(error, exchange_->request_id()));
    exchange_->reply().finish();
  }

 private:
  json::Object line(const AnswerRecord& record, std::string text, json::Object rest) const {
    json::Object out{{"model", record.model->id}, {"created_at", timestamp()}};
    if (!options_.chat) {
      out.set("response", std::move(text));
      for (auto& [key, value] : rest) out.set(key, std::move(value));
      return out;
    }
    json::Object message{{"role", "assistant"}, {"content", std::move(text)}};
    for (auto& [key, value] : rest) message.set(key, std::move(value));
    out.set("message", std::move(message));
    return out;
  }
  void send(const AnswerRecord& record, std::string text, json::Object rest, std::span<const TokenDetail> tokens) {
    json::Object out = line(record, std::move(text), std::move(rest));
    if (options_.logprobs) out.set("logprobs", openai::chat_logprobs(*record.model->tokenizer, tokens));
    out.set("done", false);
    exchange_->line(out);
  }

  const std::shared_ptr<Exchange> exchange_;
  const WriterOptions options_;
  bool streams_ = false;
};

std::string date(std::time_t time, const char* fraction) {
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  return std::string(text) + fraction + "Z";
}

}  // namespace

std::string timestamp() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  char fraction[16];
  std::snprintf(fraction, sizeof(fraction), ".%06d", static_cast<int>(us % 1'000'000));
  return date(us / 1'000'000, fraction);
}
std::string timestamp(std::int64_t unix_seconds) { return date(unix_seconds, ""); }

std::unique_ptr<AnswerWriter> make_writer(std::shared_ptr<Exchange> exchange, WriterOptions options) {
  return std::make_unique<Writer>(std::move(exchange), options);
}

}  // namespace qw::api::ollama
