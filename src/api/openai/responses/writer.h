// Answers as POST /v1/responses gives them: a response of items, whole or as numbered events that build it; kept in the
// store before its end is told. It may take several rounds of the model: after each, tools may have been called.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "api/background.h"
#include "api/exchange.h"
#include "api/generation/writer.h"
#include "api/openai/responses/request.h"

namespace qw::api::openai {

inline constexpr const char* kResponseKind = "response";  // of the store's documents
// Of a response in the background: response.created and response.queued, which are told when it is asked for.
inline constexpr std::int64_t kQueuedEvents = 2;

// The wire's object without what was answered.
struct ResponseHead {
  std::string id, model, status;
  std::int64_t created = 0;  // Unix seconds
  bool kept = false, background = false;
};
json::Object response_object(const ResponseRequest& request, const ResponseHead& head);

struct ResponseWriterOptions {
  Background* background = nullptr;  // where it is kept from; must outlive the writer
  ResponseRequest request;
  json::Array history;  // the conversation that the input went on from
};

// A tool of an MCP server as the model knows it.
struct McpToolName {
  std::string label, tool;  // as the server and the client call it
  bool wants_approval = false;
};

// One response while it is made. Calls come one at a time: from the answer of the round that runs, or between rounds
// from whoever calls the tools.
class ResponseBuilder : public std::enable_shared_from_this<ResponseBuilder> {
 public:
  // A call of an MCP tool that the model has made.
  struct McpCall {
    std::size_t item = 0;
    std::string name, arguments;  // name: as the model knows it
    bool wants_approval = false;  // it is an mcp_approval_request, and is not made
  };
  struct Round {
    std::vector<McpCall> calls;
    bool functions = false;  // the client is asked for something, too
  };
  // Of a round with MCP calls: who is told goes on from there.
  using RoundEnd = std::function<void(const Round& round, const ChoiceResult& choice)>;

  ResponseBuilder(std::shared_ptr<Exchange> exchange, ResponseWriterOptions options);

  // Of rounds with MCP tools, before the first.
  void offer(std::function<std::optional<McpToolName>(const std::string& name)> tool_of, RoundEnd round_end);
  ResponseRequest& request() { return options_.request; }
  // The conversation: what was said before, and in the rounds of this response.
  json::Array& history() { return options_.history; }
  json::Array& turn() { return turn_; }

  // What MCP servers do, between rounds. An item's number stands for it.
  void begin(const std::string& model, std::int64_t created);  // told before all else; more than once does no harm
  std::size_t begin_mcp_list(const std::string& label);
  void end_mcp_list(std::size_t item, json::Array tools);
  // A call that was approved; `approval`: of which request.
  std::size_t begin_mcp_call(const McpToolName& name, const std::string& arguments, const std::string& approval);
  void end_mcp_call(std::size_t item, const std::string& output, const std::string& error);
  std::string item_id(std::size_t item) const { return items_[item].id; }
  void end(const char* status);  // no round follows
  void fail(const ApiError& error);

  // Of the answer of one round.
  void round_begins(const AnswerRecord& record);
  void event(const AnswerRecord& record, const chat::OutputEvent& event, std::span<const TokenDetail> tokens);
  void retract();
  void round_ends(const AnswerRecord& record);
  void finish(const AnswerRecord& record);

 private:
  enum class Kind : std::uint8_t { kReasoning, kMessage, kFunction, kMcpCall, kApproval, kMcpList };
  struct Item {
    Kind kind = Kind::kMessage;
    std::string id, text;  // text: of a call its arguments
    json::Array list;      // logprobs of a message, tools of a list
    std::string call_id, name, label, output, error, approval;
    bool done = false, cut = false;  // cut: of a call, the answer ended in the middle of it
  };

  json::Array logprobs_of(const AnswerRecord& record, std::span<const TokenDetail> tokens) const;
  static json::Value item_object(const Item& item, const char* status);
  json::Object response(const char* status) const;
  json::Array conversation() const;
  void send(const char* type, json::Object rest);
  json::Object place(std::size_t item, json::Object rest) const;
  Item make_item(Kind kind);
  Item call_item(const ToolCall& call);
  void open(Item item);
  void close();
  void end_item(std::size_t item);
  void gather(const AnswerRecord& record);
  Round round_of(const ChoiceResult& choice) const;

  const std::shared_ptr<Exchange> exchange_;
  ResponseWriterOptions options_;
  const std::string id_;
  std::function<std::optional<McpToolName>(const std::string&)> tool_of_;
  RoundEnd round_end_;
  std::string model_;
  std::int64_t created_ = 0;
  bool told_ = false, streams_ = false;  // events were told: to the client, or (not streams_) to a listener
  bool open_ = false;                    // the last item is being written
  std::vector<Item> items_;
  std::size_t round_items_ = 0;  // where those of this round begin
  json::Array turn_;
  store::Tokens tokens_;
  bool cut_ = false, repeats_ = false, filtered_ = false;
  std::int64_t sequence_ = 0;
};

// The message that a choice is in a conversation.
json::Value assistant_message(const ChoiceResult& choice);

// The writer of one round's answer. `owner`: lives as long as it.
std::unique_ptr<AnswerWriter> make_round_writer(std::shared_ptr<ResponseBuilder> builder,
                                                std::shared_ptr<void> owner = nullptr);
// Of a response of one round.
std::unique_ptr<AnswerWriter> make_response_writer(std::shared_ptr<Exchange> exchange, ResponseWriterOptions options);

}  // namespace qw::api::openai
