#include "api/anthropic/writer.h"

#include <optional>
#include <utility>

#include "api/anthropic/api.h"

namespace qw::api::anthropic {
namespace {

using Kind = chat::OutputEvent::Kind;

// What signs a thinking block at its maker's is nothing here; clients send it back, and it is not looked at.
constexpr const char* kSignature = "";

json::Value input_of(const std::string& arguments) {
  auto value = json::parse(arguments);
  return value && value->is_object() ? std::move(*value) : json::Value(json::Object{});
}

// A prompt's tokens are told apart: those that were cached, and the rest.
json::Object usage(const AnswerRecord& record) {
  const store::Tokens& t = record.tokens;
  return {{"input_tokens", t.prompt - t.cached},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", t.cached},
          {"output_tokens", t.output}};
}

const char* stop_reason(const ChoiceResult& c) {
  if (c.reason == EndReason::kLength) return "max_tokens";
  if (c.reason == EndReason::kToolCalls) return "tool_use";
  if (c.reason == EndReason::kFiltered) return "refusal";
  return c.stop.empty() ? "end_turn" : "stop_sequence";
}
json::Value stop_sequence(const ChoiceResult& c) { return c.stop.empty() ? json::Value() : json::Value(c.stop); }

json::Object ending(const ChoiceResult& c) {
  json::Object out{{"stop_reason", stop_reason(c)}, {"stop_sequence", stop_sequence(c)}};
  if (c.repeats) out.set(kCutBy, kRepetition);
  return out;
}

class Writer final : public AnswerWriter {
 public:
  explicit Writer(std::shared_ptr<Exchange> exchange) : exchange_(std::move(exchange)), id_(new_id("msg_")) {}

  void begin(const AnswerRecord& record) override {
    streams_ = true;
    exchange_->begin_events("event: ping\ndata: {\"type\":\"ping\"}\n\n");
    json::Object message = head(record);
    message.set("content", json::Array{});
    message.set("stop_reason", nullptr);
    message.set("stop_sequence", nullptr);
    message.set("usage", usage(record));
    send("message_start", {{"message", std::move(message)}});
  }

  void event(const AnswerRecord& record, std::size_t, const chat::OutputEvent& event,
             std::span<const TokenDetail>) override {
    switch (event.kind) {
      case Kind::kReasoning:
        open(Kind::kReasoning, {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}});
        return delta({{"type", "thinking_delta"}, {"thinking", event.text}});
      case Kind::kContent:
        open(Kind::kContent, {{"type", "text"}, {"text", ""}});
        return delta({{"type", "text_delta"}, {"text", event.text}});
      case Kind::kToolCallBegin: {
        close();
        const ToolCall& call = record.choices[0].calls.back();
        return open(Kind::kToolCallBegin,
                    {{"type", "tool_use"}, {"id", tool_id(call)}, {"name", call.name}, {"input", json::Object{}}});
      }
      case Kind::kToolCallArguments:
        return delta({{"type", "input_json_delta"}, {"partial_json", event.text}});
      case Kind::kToolCallEnd:
        return close();
    }
  }

  // An event of our own, which clients that do not know it pass over: blocks before this index are not to be shown.
  void retract(const AnswerRecord&, std::size_t) override {
    close();
    send(kRetract, {{"index", index_}});
  }

  void choice_ended(const AnswerRecord&, std::size_t) override { close(); }

  void finish(const AnswerRecord& record) override {
    const ChoiceResult& c = record.choices[0];
    if (streams_) {
      send("message_delta",
           {{"delta", ending(c)},
            {"usage", usage(record)}});
      send("message_stop", {});
      return exchange_->end_events();
    }
    json::Array content;
    if (!c.reasoning.empty())
      content.push_back(json::Object{{"type", "thinking"}, {"thinking", c.reasoning}, {"signature", kSignature}});
    if (!c.content.empty()) content.push_back(json::Object{{"type", "text"}, {"text", c.content}});
    for (const ToolCall& call : c.calls)
      content.push_back(json::Object{
          {"type", "tool_use"}, {"id", tool_id(call)}, {"name", call.name}, {"input", input_of(call.arguments)}});
    json::Object message = head(record);
    message.set("content", std::move(content));
    message.set("stop_reason", stop_reason(c));
    if (c.repeats) message.set(kCutBy, kRepetition);
    message.set("stop_sequence", stop_sequence(c));
    message.set("usage", usage(record));
    exchange_->send_json(200, message);
  }

  void fail(const ApiError& error, bool begun) override {
    if (!begun) return exchange_->send_error(error);
    exchange_->named_event("error", error_body(error, exchange_->request_id()));
    exchange_->end_events();
  }

 private:
  json::Object head(const AnswerRecord& record) const {
    return {{"id", id_}, {"type", "message"}, {"role", "assistant"}, {"model", record.model->id}};
  }
  static std::string tool_id(const ToolCall& call) { return "toolu_" + call.id.substr(call.id.find('_') + 1); }
  void send(const char* type, json::Object rest) {
    json::Object data{{"type", type}};
    for (auto& [key, value] : rest) data.set(key, std::move(value));
    exchange_->named_event(type, data);
  }
  // Goes on in the open block if it is of that kind, else begins one.
  void open(Kind kind, json::Object block) {
    if (open_ == kind && kind != Kind::kToolCallBegin) return;
    close();
    open_ = kind;
    send("content_block_start", {{"index", index_}, {"content_block", std::move(block)}});
  }
  void delta(json::Object what) { send("content_block_delta", {{"index", index_}, {"delta", std::move(what)}}); }
  void close() {
    if (!open_) return;
    if (open_ == Kind::kReasoning) delta({{"type", "signature_delta"}, {"signature", kSignature}});
    send("content_block_stop", {{"index", index_++}});
    open_.reset();
  }

  const std::shared_ptr<Exchange> exchange_;
  const std::string id_;
  bool streams_ = false;
  std::optional<Kind> open_;  // the block that is being written
  std::int64_t index_ = 0;
};

}  // namespace

std::unique_ptr<AnswerWriter> make_writer(std::shared_ptr<Exchange> exchange) {
  return std::make_unique<Writer>(std::move(exchange));
}

}  // namespace qw::api::anthropic
