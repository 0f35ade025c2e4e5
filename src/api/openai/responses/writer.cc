#include "api/openai/responses/writer.h"

#include <utility>

#include "api/accounts.h"
#include "api/openai/writer.h"
#include "base/clock.h"

namespace qw::api::openai {
namespace {

using Kind = chat::OutputEvent::Kind;

json::Object text_part(const std::string& text, json::Array logprobs) {
  return {{"type", "output_text"}, {"text", text}, {"annotations", json::Array{}}, {"logprobs", std::move(logprobs)}};
}

// One item of the output while it is written.
struct Item {
  Kind kind = Kind::kContent;  // kReasoning, kContent or kToolCallBegin
  std::string id, text;        // text: of a call its arguments
  std::size_t call = 0;        // of a call: which
  json::Array logprobs;
};

class Writer final : public AnswerWriter {
 public:
  Writer(std::shared_ptr<Exchange> exchange, ResponseWriterOptions options)
      : exchange_(std::move(exchange)),
        options_(std::move(options)),
        id_(exchange_->answer_id().empty() ? new_id("resp_") : exchange_->answer_id()) {}

  void begin(const AnswerRecord& record) override {
    told_ = true;
    if (exchange_->listener()) {  // the first two were told when it was asked for
      sequence_ = kQueuedEvents;
    } else {
      streams_ = true;
      exchange_->begin_events();
      send("response.created", {{"response", response(record, "in_progress")}});
    }
    send("response.in_progress", {{"response", response(record, "in_progress")}});
  }

  void event(const AnswerRecord& record, std::size_t, const chat::OutputEvent& event,
             std::span<const TokenDetail> tokens) override {
    if (event.kind == Kind::kToolCallEnd) return close(record);
    if (event.kind == Kind::kToolCallBegin) {
      close(record);
      return open(record, Kind::kToolCallBegin, record.choices[0].calls.size() - 1);
    }
    const Kind kind = event.kind == Kind::kToolCallArguments ? Kind::kToolCallBegin : event.kind;
    if (!open_ || items_.back().kind != kind) {
      close(record);
      open(record, kind, 0);
    }
    Item& item = items_.back();
    item.text += event.text;
    if (kind == Kind::kContent) {
      json::Array logprobs = logprobs_of(record, tokens);
      item.logprobs.insert(item.logprobs.end(), logprobs.begin(), logprobs.end());
      send("response.output_text.delta",
           place({{"content_index", 0}, {"delta", event.text}, {"logprobs", std::move(logprobs)}}));
    } else if (kind == Kind::kReasoning) {
      send("response.reasoning_text.delta", place({{"content_index", 0}, {"delta", event.text}}));
    } else {
      send("response.function_call_arguments.delta", place({{"delta", event.text}}));
    }
  }

  void choice_ended(const AnswerRecord& record, std::size_t) override { close(record); }

  // Keeping it may wait for the disk: elsewhere. The record does not outlive this call.
  void finish(const AnswerRecord& record) override {
    const ChoiceResult& c = record.choices[0];
    if (!told_) {
      if (!c.reasoning.empty()) items_.push_back({Kind::kReasoning, exchange_->part_id("rs_"), c.reasoning, 0, {}});
      if (!c.content.empty() || c.calls.empty())
        items_.push_back({Kind::kContent, exchange_->part_id("msg_"), c.content, 0, logprobs_of(record, c.tokens)});
      for (std::size_t i = 0; i < c.calls.size(); ++i)
        items_.push_back({Kind::kToolCallBegin, exchange_->part_id("fc_"), c.calls[i].arguments, i, {}});
    }
    const char* status = c.reason == EndReason::kLength ? "incomplete" : "completed";
    json::Object whole = response(record, status);
    if (!options_.request.store || exchange_->accounts() == nullptr) return tell(whole, status);
    store::Document document;
    document.id = id_;
    document.project_id = exchange_->who()->key.project_id;
    document.kind = kResponseKind;
    document.body = json::dump(
        json::Object{{"response", whole}, {"input", options_.request.input_items}, {"messages", conversation(c)}});
    auto& documents = exchange_->accounts()->store().documents();
    // The writer may go before this runs: it holds what it needs.
    const auto keep = [exchange = exchange_, &documents, document = std::move(document), whole,
                       status = std::string(status), streams = streams_, sequence = sequence_]() mutable {
      if (const auto kept = documents.add(std::move(document)); !kept)
        return refuse(
            *exchange,
            {503, "server_error", "The store cannot be reached; this response was not kept.", "", "store_unavailable"},
            streams, sequence);
      end(*exchange, whole, status, streams, sequence);
    };
    if (!options_.background->post(keep))
      refuse(*exchange_, {503, "overloaded_error", "Too many requests wait for the store.", "", "overloaded"}, streams_,
             sequence_);
  }

  void fail(const ApiError& error, bool begun) override { refuse(*exchange_, error, begun && streams_, sequence_); }

 private:
  static void refuse(Exchange& exchange, const ApiError& error, bool begun, std::int64_t sequence) {
    if (!begun) return exchange.send_error(error);
    json::Object data{{"type", "error"},
                      {"code", error.code.empty() ? error.type : error.code},
                      {"message", error.message},
                      {"param", nullptr},
                      {"sequence_number", sequence}};
    exchange.named_event("error", data);
    exchange.end_events();
  }
  static void end(Exchange& exchange, const json::Object& whole, const std::string& status, bool streams,
                  std::int64_t sequence) {
    if (!streams) return exchange.send_json(200, whole);
    const std::string type = "response." + status;
    exchange.named_event(type, json::Object{{"type", type}, {"sequence_number", sequence}, {"response", whole}});
    exchange.end_events();
  }
  void tell(const json::Object& whole, const char* status) { end(*exchange_, whole, status, streams_, sequence_); }

  json::Array logprobs_of(const AnswerRecord& record, std::span<const TokenDetail> tokens) const {
    return options_.request.logprobs ? chat_logprobs(*record.model->tokenizer, tokens) : json::Array{};
  }

  json::Value item_object(const AnswerRecord& record, const Item& item, const char* status) const {
    if (item.kind == Kind::kReasoning)
      return json::Object{{"id", item.id},
                          {"type", "reasoning"},
                          {"summary", json::Array{}},
                          {"content", json::Array{json::Object{{"type", "reasoning_text"}, {"text", item.text}}}},
                          {"status", status}};
    if (item.kind == Kind::kContent)
      return json::Object{{"id", item.id},
                          {"type", "message"},
                          {"status", status},
                          {"role", "assistant"},
                          {"content", json::Array{text_part(item.text, item.logprobs)}}};
    const ToolCall& call = record.choices[0].calls[item.call];
    return json::Object{{"id", item.id},      {"type", "function_call"}, {"status", status},
                        {"call_id", call.id}, {"name", call.name},       {"arguments", item.text}};
  }

  json::Object response(const AnswerRecord& record, const char* status) const {
    const bool ended = std::string_view(status) != "in_progress";
    json::Array output;
    if (ended)
      for (const Item& item : items_) output.push_back(item_object(record, item, "completed"));
    const bool kept = options_.request.store && exchange_->accounts() != nullptr;
    json::Object out = response_object(
        options_.request, {id_, record.model->id, status, record.created, kept, !exchange_->answer_id().empty()});
    if (ended) out.set("completed_at", base::unix_seconds());
    if (std::string_view(status) == "incomplete") {
      json::Object details{{"reason", "max_output_tokens"}};
      if (record.choices[0].repeats) details.set(kCutBy, kRepetition);
      out.set("incomplete_details", std::move(details));
    }
    out.set("output", std::move(output));
    const store::Tokens& t = record.tokens;
    out.set("usage", !ended ? json::Value()
                            : json::Value(json::Object{
                                  {"input_tokens", t.prompt},
                                  {"input_tokens_details", json::Object{{"cached_tokens", t.cached}}},
                                  {"output_tokens", t.output},
                                  {"output_tokens_details", json::Object{{"reasoning_tokens", t.reasoning}}},
                                  {"total_tokens", t.prompt + t.output}}));
    return out;
  }

  // What the next response goes on from; instructions are not carried on.
  json::Array conversation(const ChoiceResult& c) const {
    json::Array out = options_.history;
    out.insert(out.end(), options_.request.messages.begin(), options_.request.messages.end());
    json::Object message{{"role", "assistant"}, {"content", c.content}};
    if (!c.reasoning.empty()) message.set("reasoning_content", c.reasoning);
    json::Array calls;
    for (const ToolCall& call : c.calls)
      calls.push_back(json::Object{{"id", call.id},
                                   {"type", "function"},
                                   {"function", json::Object{{"name", call.name}, {"arguments", call.arguments}}}});
    if (!calls.empty()) message.set("tool_calls", std::move(calls));
    out.push_back(std::move(message));
    return out;
  }

  void send(const char* type, json::Object rest) {
    json::Object data{{"type", type}, {"sequence_number", sequence_++}};
    for (auto& [key, value] : rest) data.set(key, std::move(value));
    exchange_->named_event(type, data);
  }
  json::Object place(json::Object rest) const {
    json::Object out{{"item_id", items_.back().id}, {"output_index", static_cast<std::int64_t>(items_.size() - 1)}};
    for (auto& [key, value] : rest) out.set(key, std::move(value));
    return out;
  }

  void open(const AnswerRecord& record, Kind kind, std::size_t call) {
    items_.push_back({kind,
                      exchange_->part_id(kind == Kind::kReasoning ? "rs_"
                                         : kind == Kind::kContent ? "msg_"
                                                                  : "fc_"),
                      "",
                      call,
                      {}});
    open_ = true;
    json::Value item = item_object(record, items_.back(), "in_progress");
    if (kind != Kind::kToolCallBegin) item.as_object().set("content", json::Array{});
    send("response.output_item.added",
         {{"output_index", static_cast<std::int64_t>(items_.size() - 1)}, {"item", std::move(item)}});
    if (kind == Kind::kContent)
      send("response.content_part.added", place({{"content_index", 0}, {"part", text_part("", {})}}));
  }

  void close(const AnswerRecord& record) {
    if (!std::exchange(open_, false)) return;
    const Item& item = items_.back();
    if (item.kind == Kind::kContent) {
      send("response.output_text.done",
           place({{"content_index", 0}, {"text", item.text}, {"logprobs", item.logprobs}}));
      send("response.content_part.done", place({{"content_index", 0}, {"part", text_part(item.text, item.logprobs)}}));
    } else if (item.kind == Kind::kReasoning) {
      send("response.reasoning_text.done", place({{"content_index", 0}, {"text", item.text}}));
    } else {
      send("response.function_call_arguments.done",
           place({{"name", record.choices[0].calls[item.call].name}, {"arguments", item.text}}));
    }
    send("response.output_item.done", {{"output_index", static_cast<std::int64_t>(items_.size() - 1)},
                                       {"item", item_object(record, item, "completed")}});
  }

  const std::shared_ptr<Exchange> exchange_;
  const ResponseWriterOptions options_;
  const std::string id_;
  bool told_ = false, streams_ = false;  // events were told: to the client, or (not streams_) to a listener
  bool open_ = false;                    // the last item is being written
  std::vector<Item> items_;
  std::int64_t sequence_ = 0;
};

}  // namespace

json::Object response_object(const ResponseRequest& r, const ResponseHead& head) {
  const auto or_null = [](const auto& value) { return value ? json::Value(*value) : json::Value(); };
  json::Object out{{"id", head.id},
                   {"object", "response"},
                   {"created_at", head.created},
                   {"completed_at", nullptr},
                   {"status", head.status},
                   {"background", head.background},
                   {"error", nullptr},
                   {"incomplete_details", nullptr},
                   {"instructions", r.instructions.empty() ? json::Value() : json::Value(r.instructions)},
                   {"max_output_tokens", or_null(r.max_tokens)},
                   {"model", head.model},
                   {"output", json::Array{}},
                   {"parallel_tool_calls", r.parallel_tool_calls},
                   {"previous_response_id", r.previous.empty() ? json::Value() : json::Value(r.previous)},
                   {"reasoning", json::Object{{"effort", nullptr}, {"summary", nullptr}}},
                   {"store", head.kept},
                   {"temperature", or_null(r.sampling.temperature)},
                   {"text", json::Object{{"format", json::Object{{"type", "text"}}}}},
                   {"tool_choice", "auto"},
                   {"tools", json::Array{}},
                   {"top_p", or_null(r.sampling.top_p)},
                   {"truncation", "disabled"},
                   {"metadata", json::Object{}},
                   {"usage", nullptr}};
  for (const auto& [key, value] : r.echoed) out.set(key, value);
  return out;
}

std::unique_ptr<AnswerWriter> make_response_writer(std::shared_ptr<Exchange> exchange, ResponseWriterOptions options) {
  return std::make_unique<Writer>(std::move(exchange), std::move(options));
}

}  // namespace qw::api::openai
