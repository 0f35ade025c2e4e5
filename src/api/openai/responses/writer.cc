#include "api/openai/responses/writer.h"

#include <utility>

#include "api/accounts.h"
#include "api/openai/writer.h"
#include "base/clock.h"

namespace qw::api::openai {
namespace {

json::Object text_part(const std::string& text, json::Array logprobs) {
  return {{"type", "output_text"}, {"text", text}, {"annotations", json::Array{}}, {"logprobs", std::move(logprobs)}};
}

json::Value text_or_null(const std::string& text) { return text.empty() ? json::Value() : json::Value(text); }

void refuse(Exchange& exchange, const ApiError& error, bool streams, std::int64_t sequence) {
  if (!streams) return exchange.send_error(error);
  json::Object data{{"type", "error"},
                    {"code", error.code.empty() ? error.type : error.code},
                    {"message", error.message},
                    {"param", nullptr},
                    {"sequence_number", sequence}};
  exchange.named_event("error", data);
  exchange.end_events();
}

void tell_end(Exchange& exchange, const json::Object& whole, const std::string& status, bool streams,
              std::int64_t sequence) {
  if (!streams) return exchange.send_json(200, whole);
  const std::string type = "response." + status;
  exchange.named_event(type, json::Object{{"type", type}, {"sequence_number", sequence}, {"response", whole}});
  exchange.end_events();
}

class RoundWriter final : public AnswerWriter {
 public:
  RoundWriter(std::shared_ptr<ResponseBuilder> builder, std::shared_ptr<void> owner)
      : builder_(std::move(builder)), owner_(std::move(owner)) {}
  void begin(const AnswerRecord& record) override { builder_->round_begins(record); }
  void event(const AnswerRecord& record, std::size_t, const chat::OutputEvent& event,
             std::span<const TokenDetail> tokens) override {
    builder_->event(record, event, tokens);
  }
  void retract(const AnswerRecord&, std::size_t) override { builder_->retract(); }
  void choice_ended(const AnswerRecord& record, std::size_t) override { builder_->round_ends(record); }
  void finish(const AnswerRecord& record) override { builder_->finish(record); }
  void fail(const ApiError& error, bool) override { builder_->fail(error); }

 private:
  const std::shared_ptr<ResponseBuilder> builder_;
  const std::shared_ptr<void> owner_;
};

}  // namespace

ResponseBuilder::ResponseBuilder(std::shared_ptr<Exchange> exchange, ResponseWriterOptions options)
    : exchange_(std::move(exchange)),
      options_(std::move(options)),
      id_(exchange_->answer_id().empty() ? new_id("resp_") : exchange_->answer_id()) {}

void ResponseBuilder::offer(std::function<std::optional<McpToolName>(const std::string&)> tool_of, RoundEnd round_end) {
  tool_of_ = std::move(tool_of);
  round_end_ = std::move(round_end);
}

void ResponseBuilder::begin(const std::string& model, std::int64_t created) {
  if (created_ != 0) return;
  model_ = model;
  created_ = created;
  if (!options_.request.stream) return;
  told_ = true;
  if (exchange_->listener()) {  // the first two were told when it was asked for
    sequence_ = kQueuedEvents;
  } else {
    streams_ = true;
    exchange_->begin_events();
    // From here on an error is a part of the stream, whoever finds it.
    exchange_->take_errors([weak = weak_from_this()](const ApiError& error) {
      if (const auto self = weak.lock()) self->fail(error);
    });
    send("response.created", {{"response", response("in_progress")}});
  }
  send("response.in_progress", {{"response", response("in_progress")}});
}

void ResponseBuilder::round_begins(const AnswerRecord& record) {
  begin(record.model->id, record.created);
  round_items_ = items_.size();
}

// Text that reached its most tokens is not whole.
void ResponseBuilder::round_ends(const AnswerRecord& record) {
  if (open_ && record.choices[0].reason == EndReason::kLength) items_.back().cut = true;
  close();
}

void ResponseBuilder::event(const AnswerRecord& record, const chat::OutputEvent& event,
                            std::span<const TokenDetail> tokens) {
  using Event = chat::OutputEvent::Kind;
  if (event.kind == Event::kToolCallEnd) {
    items_.back().cut = event.cut;
    return close();
  }
  if (event.kind == Event::kToolCallBegin) {
    close();
    return open(call_item(record.choices[0].calls.back()));
  }
  if (event.kind != Event::kToolCallArguments) {
    const Kind kind = event.kind == Event::kReasoning ? Kind::kReasoning : Kind::kMessage;
    if (!open_ || items_.back().kind != kind) {
      close();
      open(make_item(kind));
    }
  }
  Item& item = items_.back();
  item.text += event.text;
  const std::size_t at = items_.size() - 1;
  switch (item.kind) {
    case Kind::kMessage: {
      json::Array logprobs = logprobs_of(record, tokens);
      item.list.insert(item.list.end(), logprobs.begin(), logprobs.end());
      return send("response.output_text.delta",
                  place(at, {{"content_index", 0}, {"delta", event.text}, {"logprobs", std::move(logprobs)}}));
    }
    case Kind::kReasoning:
      return send("response.reasoning_text.delta", place(at, {{"content_index", 0}, {"delta", event.text}}));
    case Kind::kMcpCall:
      return send("response.mcp_call_arguments.delta", place(at, {{"delta", event.text}}));
    case Kind::kFunction:
      return send("response.function_call_arguments.delta", place(at, {{"delta", event.text}}));
    default:
      return;  // a request for approval is told when it is whole
  }
}

// Items keep their places, as clients count them, and have nothing in them any more; the event is our own.
void ResponseBuilder::retract() {
  close();
  for (std::size_t i = round_items_; i < items_.size(); ++i) {
    items_[i].text.clear();
    items_[i].list.clear();
    items_[i].cut = true;
  }
  send("response.retract", {{"output_index", static_cast<std::int64_t>(round_items_)}});
}

// What a round gave that was not streamed.
void ResponseBuilder::gather(const AnswerRecord& record) {
  begin(record.model->id, record.created);
  const ChoiceResult& c = record.choices[0];
  round_items_ = items_.size();
  const auto add = [this](Item item, const std::string& text) {
    item.text = text;
    item.done = item.kind != Kind::kMcpCall;
    items_.push_back(std::move(item));
  };
  if (!c.reasoning.empty()) add(make_item(Kind::kReasoning), c.reasoning);
  if (!c.content.empty() || c.calls.empty()) {
    Item item = make_item(Kind::kMessage);
    item.list = logprobs_of(record, c.tokens);
    item.cut = c.reason == EndReason::kLength && c.calls.empty();
    add(std::move(item), c.content);
  }
  for (const ToolCall& call : c.calls)
    if (Item item = call_item(call); !item.cut || item.kind != Kind::kApproval) add(std::move(item), call.arguments);
}

ResponseBuilder::Round ResponseBuilder::round_of(const ChoiceResult& choice) const {
  Round out;
  for (std::size_t i = round_items_, call = 0; i < items_.size(); ++i) {
    const Item& item = items_[i];
    const bool mcp = item.kind == Kind::kMcpCall || item.kind == Kind::kApproval;
    if (!mcp && item.kind != Kind::kFunction) continue;
    const std::string& name = choice.calls[call++].name;
    if (mcp)
      out.calls.push_back({i, name, item.text, item.kind == Kind::kApproval});
    else
      out.functions = true;
  }
  return out;
}

void ResponseBuilder::finish(const AnswerRecord& record) {
  // Cut off, and nobody is there to be told: it is not kept as if it were whole. What runs in the background is made
  // anew.
  if (record.cancelled && exchange_->reply().closed()) return;
  const ChoiceResult& c = record.choices[0];
  if (!told_) gather(record);
  tokens_.prompt += record.tokens.prompt;
  tokens_.cached += record.tokens.cached;
  tokens_.reasoning += record.tokens.reasoning;
  tokens_.output += record.tokens.output;
  filtered_ = c.reason == EndReason::kFiltered;
  cut_ = filtered_ || c.reason == EndReason::kLength;
  repeats_ = c.repeats;
  // What was cut off calls nothing.
  if (!cut_ && round_end_)
    if (const Round round = round_of(c); !round.calls.empty()) return round_end_(round, c);
  turn_.push_back(assistant_message(c));
  end(cut_ ? "incomplete" : "completed");
}

// Keeping it may wait for the disk: elsewhere. The record does not outlive this call.
void ResponseBuilder::end(const char* status) {
  exchange_->take_errors({});
  json::Value labelled = exchange_->labelled(response(status));  // it is kept with its label, too
  json::Object whole = std::move(labelled.as_object());
  if (!options_.request.store || exchange_->accounts() == nullptr)
    return tell_end(*exchange_, whole, status, streams_, sequence_);
  store::Document document;
  document.id = id_;
  document.project_id = exchange_->who()->key.project_id;
  document.kind = kResponseKind;
  document.body = json::dump(
      json::Object{{"response", whole}, {"input", options_.request.input_items}, {"messages", conversation()}});
  auto& documents = exchange_->accounts()->store().documents();
  // The builder may go before this runs: it holds what it needs.
  const auto keep = [exchange = exchange_, &documents, document = std::move(document), whole,
                     status = std::string(status), streams = streams_, sequence = sequence_]() mutable {
    if (const auto kept = documents.add(std::move(document)); !kept)
      return refuse(
          *exchange,
          {503, "server_error", "The store cannot be reached; this response was not kept.", "", "store_unavailable"},
          streams, sequence);
    tell_end(*exchange, whole, status, streams, sequence);
  };
  if (!options_.background->post(keep))
    refuse(*exchange_, {503, "overloaded_error", "Too many requests wait for the store.", "", "overloaded"}, streams_,
           sequence_);
}

void ResponseBuilder::fail(const ApiError& error) {
  exchange_->take_errors({});
  refuse(*exchange_, error, streams_, sequence_);
}

json::Array ResponseBuilder::logprobs_of(const AnswerRecord& record, std::span<const TokenDetail> tokens) const {
  return options_.request.logprobs ? chat_logprobs(*record.model->tokenizer, tokens) : json::Array{};
}

json::Value ResponseBuilder::item_object(const Item& item, const char* status) {
  switch (item.kind) {
    case Kind::kReasoning:
      return json::Object{{"id", item.id},
                          {"type", "reasoning"},
                          {"summary", json::Array{}},
                          {"content", json::Array{json::Object{{"type", "reasoning_text"}, {"text", item.text}}}},
                          {"status", status}};
    case Kind::kMessage:
      return json::Object{{"id", item.id},
                          {"type", "message"},
                          {"status", status},
                          {"role", "assistant"},
                          {"content", json::Array{text_part(item.text, item.list)}}};
    case Kind::kFunction:
      return json::Object{{"id", item.id},           {"type", "function_call"}, {"status", status},
                          {"call_id", item.call_id}, {"name", item.name},       {"arguments", item.text}};
    case Kind::kApproval:
      return json::Object{{"id", item.id},
                          {"type", "mcp_approval_request"},
                          {"server_label", item.label},
                          {"name", item.name},
                          {"arguments", item.text}};
    case Kind::kMcpList:
      return json::Object{
          {"id", item.id}, {"type", "mcp_list_tools"}, {"server_label", item.label}, {"tools", item.list}};
    case Kind::kMcpCall: {
      json::Value error;
      if (!item.error.empty())
        error = json::Object{{"type", "mcp_tool_execution_error"},
                             {"content", json::Array{json::Object{{"type", "text"}, {"text", item.error}}}}};
      const bool ended = item.done;
      return json::Object{{"id", item.id},
                          {"type", "mcp_call"},
                          {"status", !ended               ? status
                                     : item.error.empty() ? "completed"
                                                          : "failed"},
                          {"server_label", item.label},
                          {"name", item.name},
                          {"arguments", item.text},
                          {"approval_request_id", text_or_null(item.approval)},
                          {"output", ended && item.error.empty() ? json::Value(item.output) : json::Value()},
                          {"error", std::move(error)}};
    }
  }
  return {};
}

json::Object ResponseBuilder::response(const char* status) const {
  const bool ended = std::string_view(status) != "in_progress";
  json::Array output;
  if (ended)
    for (const Item& item : items_)
      output.push_back(
          item_object(item, item.cut || (item.kind == Kind::kMcpCall && !item.done) ? "incomplete" : "completed"));
  const bool kept = options_.request.store && exchange_->accounts() != nullptr;
  json::Object out =
      response_object(options_.request, {id_, model_, status, created_, kept, !exchange_->answer_id().empty()});
  if (ended) out.set("completed_at", base::unix_seconds());
  if (cut_) {
    json::Object details{{"reason", filtered_ ? kContentFilter : "max_output_tokens"}};
    if (repeats_) details.set(kCutBy, kRepetition);
    out.set("incomplete_details", std::move(details));
  }
  out.set("output", std::move(output));
  out.set(
      "usage",
      !ended ? json::Value()
             : json::Value(json::Object{
                   {"input_tokens", tokens_.prompt},
                   {"input_tokens_details", json::Object{{"cached_tokens", tokens_.cached}, {"cache_write_tokens", 0}}},
                   {"output_tokens", tokens_.output},
                   {"output_tokens_details", json::Object{{"reasoning_tokens", tokens_.reasoning}}},
                   {"total_tokens", tokens_.prompt + tokens_.output}}));
  return out;
}

// What the next response goes on from; instructions are not carried on.
json::Array ResponseBuilder::conversation() const {
  json::Array out = options_.history;
  out.insert(out.end(), options_.request.messages.begin(), options_.request.messages.end());
  out.insert(out.end(), turn_.begin(), turn_.end());
  return out;
}

void ResponseBuilder::send(const char* type, json::Object rest) {
  if (!told_) return;
  json::Object data{{"type", type}, {"sequence_number", sequence_++}};
  for (auto& [key, value] : rest) data.set(key, std::move(value));
  exchange_->named_event(type, data);
}

json::Object ResponseBuilder::place(std::size_t item, json::Object rest) const {
  json::Object out{{"item_id", items_[item].id}, {"output_index", static_cast<std::int64_t>(item)}};
  for (auto& [key, value] : rest) out.set(key, std::move(value));
  return out;
}

ResponseBuilder::Item ResponseBuilder::make_item(Kind kind) {
  static constexpr const char* kPrefixes[] = {"rs_", "msg_", "fc_", "mcp_", "mcpr_", "mcpl_"};
  Item out;
  out.kind = kind;
  out.id = exchange_->part_id(kPrefixes[static_cast<std::size_t>(kind)]);
  return out;
}

ResponseBuilder::Item ResponseBuilder::call_item(const ToolCall& call) {
  const auto mcp = tool_of_ ? tool_of_(call.name) : std::nullopt;
  Item out = make_item(!mcp ? Kind::kFunction : mcp->wants_approval ? Kind::kApproval : Kind::kMcpCall);
  out.call_id = call.id;
  out.cut = call.cut;
  out.name = mcp ? mcp->tool : call.name;
  if (mcp) out.label = mcp->label;
  return out;
}

void ResponseBuilder::open(Item item) {
  items_.push_back(std::move(item));
  open_ = true;
  const Item& opened = items_.back();
  const std::size_t at = items_.size() - 1;
  if (opened.kind == Kind::kApproval) return;
  json::Value object = item_object(opened, "in_progress");
  if (opened.kind == Kind::kMessage || opened.kind == Kind::kReasoning)
    object.as_object().set("content", json::Array{});
  send("response.output_item.added", {{"output_index", static_cast<std::int64_t>(at)}, {"item", std::move(object)}});
  if (opened.kind == Kind::kMessage)
    send("response.content_part.added", place(at, {{"content_index", 0}, {"part", text_part("", {})}}));
  if (opened.kind == Kind::kMcpCall) send("response.mcp_call.in_progress", place(at, {}));
  if (opened.kind == Kind::kMcpList) send("response.mcp_list_tools.in_progress", place(at, {}));
}

void ResponseBuilder::close() {
  if (!std::exchange(open_, false)) return;
  const std::size_t at = items_.size() - 1;
  Item& item = items_.back();
  switch (item.kind) {
    case Kind::kMessage:
      send("response.output_text.done",
           place(at, {{"content_index", 0}, {"text", item.text}, {"logprobs", item.list}}));
      send("response.content_part.done", place(at, {{"content_index", 0}, {"part", text_part(item.text, item.list)}}));
      break;
    case Kind::kReasoning:
      send("response.reasoning_text.done", place(at, {{"content_index", 0}, {"text", item.text}}));
      break;
    case Kind::kFunction:
      send("response.function_call_arguments.done", place(at, {{"name", item.name}, {"arguments", item.text}}));
      break;
    case Kind::kMcpCall:  // it ends when it was made
      return send("response.mcp_call_arguments.done", place(at, {{"arguments", item.text}}));
    case Kind::kApproval:
      if (item.cut) return items_.pop_back();  // nothing that could be approved
      send("response.output_item.added",
           {{"output_index", static_cast<std::int64_t>(at)}, {"item", item_object(item, "completed")}});
      break;
    case Kind::kMcpList:
      break;
  }
  end_item(at);
}

void ResponseBuilder::end_item(std::size_t item) {
  items_[item].done = true;
  send("response.output_item.done",
       {{"output_index", static_cast<std::int64_t>(item)},
        {"item", item_object(items_[item], items_[item].cut ? "incomplete" : "completed")}});
}

std::size_t ResponseBuilder::begin_mcp_list(const std::string& label) {
  Item item = make_item(Kind::kMcpList);
  item.label = label;
  open(std::move(item));
  open_ = false;
  return items_.size() - 1;
}

void ResponseBuilder::end_mcp_list(std::size_t item, json::Array tools) {
  items_[item].list = std::move(tools);
  send("response.mcp_list_tools.completed", place(item, {}));
  end_item(item);
}

std::size_t ResponseBuilder::begin_mcp_call(const McpToolName& name, const std::string& arguments,
                                            const std::string& approval) {
  Item item = make_item(Kind::kMcpCall);
  item.label = name.label;
  item.name = name.tool;
  item.approval = approval;
  open(std::move(item));
  items_.back().text = arguments;
  close();
  return items_.size() - 1;
}

void ResponseBuilder::end_mcp_call(std::size_t item, const std::string& output, const std::string& error) {
  items_[item].output = output;
  items_[item].error = error;
  send(error.empty() ? "response.mcp_call.completed" : "response.mcp_call.failed", place(item, {}));
  end_item(item);
}

json::Value assistant_message(const ChoiceResult& c) {
  json::Object message{{"role", "assistant"}, {"content", c.content}};
  if (!c.reasoning.empty()) message.set("reasoning_content", c.reasoning);
  json::Array calls;
  for (const ToolCall& call : c.calls) {
    if (call.cut) continue;  // no conversation goes on from it
    calls.push_back(json::Object{{"id", call.id},
                                 {"type", "function"},
                                 {"function", json::Object{{"name", call.name}, {"arguments", call.arguments}}}});
  }
  if (!calls.empty()) message.set("tool_calls", std::move(calls));
  return message;
}

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

std::unique_ptr<AnswerWriter> make_round_writer(std::shared_ptr<ResponseBuilder> builder, std::shared_ptr<void> owner) {
  return std::make_unique<RoundWriter>(std::move(builder), std::move(owner));
}

std::unique_ptr<AnswerWriter> make_response_writer(std::shared_ptr<Exchange> exchange, ResponseWriterOptions options) {
  return make_round_writer(std::make_shared<ResponseBuilder>(std::move(exchange), std::move(options)));
}

}  // namespace qw::api::openai
